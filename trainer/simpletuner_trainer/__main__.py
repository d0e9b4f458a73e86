"""``python -m simpletuner_trainer SPEC`` trains; ``python -m simpletuner_trainer check SPEC`` only says what is wrong."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

from simpletuner_trainer import output
from simpletuner_trainer.errors import BadSpec, missing_package
from simpletuner_trainer.gate import access_to_base
from simpletuner_trainer.publish import Publisher
from simpletuner_trainer.report import End, Exit, Failure, StageName, format_line
from simpletuner_trainer.reporter import Reporter
from simpletuner_trainer.spec import BUILTIN_TINY, SINGLE_FILE_SUFFIX, HubDestination, RunSpec, SpecError
from simpletuner_trainer.stop import Stop
from simpletuner_trainer.stores import open_store
from simpletuner_trainer.workdir import WorkDir


def main(arguments: list[str]) -> int:
    """Run one attempt of a job; the exit code says how it ended (`report.Exit`)."""
    started_s = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m simpletuner_trainer", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("run", "check"), default="run")
    parser.add_argument("spec", type=Path, help="path of spec.json (docs/trainer-protocol.md)")
    asked = parser.parse_args(arguments if arguments[:1] in (["run"], ["check"]) else ["run", *arguments])
    try:
        run = RunSpec.load(asked.spec)
    except SpecError as error:
        return _refuse(asked.spec, error)
    if asked.command == "check":
        return _check(asked.spec, run)
    return _run(run, started_s)


def _check(path: Path, run: RunSpec) -> int:
    """The spec is right; whether its base may be had is asked where it is on the Hub."""
    try:
        note = access_to_base(run)
    except BadSpec as error:
        print(f"error: config.pretrained_model_name_or_path: {error.message} ({error.hint})")
        return error.exit
    print(f"{path}: {len(run.train.datasets)} data sets, nothing wrong" + (f"; {note}" if note else ""))
    return Exit.DONE


def _run(run: RunSpec, started_s: float) -> int:
    stop = Stop(started_s=started_s, deadline_s=run.deadline_s)
    stop.listen()
    work = WorkDir(root=run.work_dir)
    with Reporter(run.nonce, sys.stdout) as say, work.locked():
        _quiet_libraries(run)
        store = None if run.destination is None else open_store(run.destination, notes=work.uploads)
        checkpoints = run.destination is not None and run.destination.checkpoints
        with Publisher(store, say, stop, checkpoints=checkpoints) as publisher:
            _train_and_deliver(run, work, publisher, say, stop)
    return say.exit


def _train_and_deliver(run: RunSpec, work: WorkDir, publisher: Publisher, say: Reporter, stop: Stop) -> None:
    """Train what is not trained yet, then deliver. Torch is imported only when there is something to train."""
    if run.begins_anew:
        work.clear()
    result = output.finished(run, work)
    if result is None:
        try:
            from simpletuner_trainer.loop import train
        except (ImportError, RuntimeError) as error:
            raise missing_package(error) from error
        result = train(run, work, publisher, say, stop)
    say.step = result.step
    say.stage(StageName.UPLOAD, "delivering the result")
    publisher.send(output.parcel(work, result))
    publisher.finish()


def _refuse(path: Path, error: SpecError) -> int:
    """Say every problem, and report the first where the file names a nonce to report with."""
    for problem in error.problems:
        print(f"error: {problem}")
    nonce = _nonce_of(path)
    if nonce:
        first = error.problems[0]
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        failure = Failure(code="bad_spec", message=f"{first.path}: {first.message}{more}", hint=first.hint)
        print(format_line(failure, nonce=nonce))
        print(format_line(End(exit=Exit.BAD_SPEC, step=0), nonce=nonce), flush=True)
    return Exit.BAD_SPEC


def _nonce_of(path: Path) -> str:
    try:
        nonce = json.loads(path.read_text("utf-8")).get("nonce")
    except (OSError, ValueError, AttributeError):
        return ""
    return nonce if isinstance(nonce, str) and re.fullmatch(r"[A-Za-z0-9]{8,64}", nonce) else ""


def _quiet_libraries(run: RunSpec) -> None:
    """Before they are imported: no chatter in the log, and no network where the base is on this disk."""
    quiet = {
        "TRANSFORMERS_VERBOSITY": "error",
        "DIFFUSERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    base, single = run.train.config.pretrained_model_name_or_path, run.train.config.single_file_config
    named = single or "" if base.endswith(SINGLE_FILE_SUFFIX) else base
    here = base == BUILTIN_TINY or (bool(named) and (run.base_dir / Path(named).expanduser()).is_dir())
    if here and not isinstance(run.destination, HubDestination):
        quiet["HF_HUB_OFFLINE"] = "1"
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
