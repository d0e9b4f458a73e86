"""``python -m simpletuner_trainer SPEC`` trains. ``check SPEC`` only says what is wrong, ``explain SPEC`` what it comes to."""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":  # before the other imports: they take a while, and a SIGTERM meanwhile is no crash
    from simpletuner_trainer.report import Exit

    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(Exit.INTERRUPTED))

import argparse
import gc
import json
import os
import re
import time
from pathlib import Path

from simpletuner_trainer import output
from simpletuner_trainer.errors import TrainerError, missing_package
from simpletuner_trainer.explain import explain, to_json, to_text
from simpletuner_trainer.files import Manifest
from simpletuner_trainer.gate import access_to_base
from simpletuner_trainer.publish import Publisher
from simpletuner_trainer.report import End, Exit, Failure, StageName, format_line
from simpletuner_trainer.reporter import Follower, Reporter
from simpletuner_trainer.spec import HubDestination, Problem, RunSpec, SpecError, base_problems
from simpletuner_trainer.stop import Stop
from simpletuner_trainer.stores import open_store
from simpletuner_trainer.team import Place, Team
from simpletuner_trainer.workdir import WorkDir

_COMMANDS = ("run", "check", "explain")


def main(arguments: list[str]) -> int:
    """Run one attempt of a job; the exit code says how it ended (`report.Exit`)."""
    started_s = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m simpletuner_trainer", description=__doc__)
    parser.add_argument("command", choices=_COMMANDS, help="run is what a spec alone means")
    parser.add_argument("spec", type=Path, help="path of spec.json (docs/trainer-protocol.md)")
    parser.add_argument("--explain", action="store_true", help="as the command explain")
    parser.add_argument("--json", action="store_true", help="explain in JSON")
    named = arguments[:1] and arguments[0] in (*_COMMANDS, "-h", "--help")
    asked = parser.parse_args(arguments if named else ["run", *arguments])
    explains = asked.explain or asked.command == "explain"
    if asked.json and not explains:
        parser.error("--json goes with explain")
    try:
        run = RunSpec.load(asked.spec)
        if explains or asked.command == "check":
            return _look(asked.spec, run, explains=explains, as_json=asked.json)
    except SpecError as error:
        return _refuse(asked.spec, error)
    return _run(run, started_s)


def _look(path: Path, run: RunSpec, *, explains: bool, as_json: bool) -> int:
    """`check` and `explain`: nothing is trained, nothing is written. `SpecError` as far as the base on the disk tells.

    What lies in an archive is not looked at.
    """
    problems = base_problems(run.train.config, run.base_dir, trains_here=True)
    if problems and explains:
        raise SpecError(problems)
    _quiet_libraries(run)
    try:
        if explains:
            told = explain(run, json.loads(path.read_text("utf-8")))
            print(to_json(told) if as_json else to_text(told))
            return Exit.DONE
        images = () if run.data is not None else _examine(run)
        if problems:
            raise SpecError(problems)
        for note in (*images, *filter(None, [access_to_base(run)])):
            print(f"  {note}")
        need = _foreseen(run)
    except TrainerError as error:
        if problems:
            raise SpecError([*problems, Problem("dataloader", error.message, error.hint)]) from error
        print(f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else ""))
        return error.exit
    print(f"{path}: {len(run.train.datasets)} data sets, nothing wrong\n{need}")
    return Exit.DONE


def _examine(run: RunSpec) -> tuple[str, ...]:
    """What training would say of the images before its first step."""
    try:
        from simpletuner_trainer.data import examine
    except ImportError as error:
        raise missing_package(error) from error
    return examine(run).notes


def _foreseen(run: RunSpec) -> str:
    """What memory the run needs, as far as the base is here and torch is installed."""
    try:
        from simpletuner_trainer.memory import foreseen
    except (ImportError, RuntimeError):
        return "memory: estimated where torch is installed"
    return str(foreseen(run) or "memory: estimated once the base is here")


def _run(run: RunSpec, started_s: float) -> int:
    stop = Stop(started_s=started_s, deadline_s=run.deadline_s)
    stop.listen()
    work = WorkDir(root=run.work_dir)
    _quiet_libraries(run)
    team = Team()
    say = Reporter(run.nonce, sys.stdout) if os.environ.get("RANK", "0") == "0" else Follower(sys.stderr)
    try:
        with say:
            stop.watch_for_spot_notice()
            team = _join()
            if team.leads:
                _lead(run, work, say, stop, team)
            else:
                _follow(run, work, say, stop, team)
    finally:
        team.leave(say.exit)
    return say.exit


def _join() -> Team:
    """This process's team: itself alone, or the processes that torchrun started."""
    place = Place.of(os.environ)
    if place.size == 1:
        return Team()
    try:
        from simpletuner_trainer.distributed import Ranks
    except (ImportError, RuntimeError) as error:
        raise missing_package(error) from error
    return Ranks(place)


def _lead(run: RunSpec, work: WorkDir, say: Reporter, stop: Stop, team: Team) -> None:
    with work.locked():
        store = None if run.destination is None else open_store(run.destination, notes=work.uploads)
        checkpoints = run.destination is not None and run.destination.checkpoints
        with Publisher(store, say, stop, checkpoints=checkpoints) as publisher:
            result = _trained(run, work, publisher, say, stop, team=team)
            assert result is not None
            say.step = result.step
            say.stage(StageName.UPLOAD, "delivering the result")
            publisher.send(output.parcel(work, result))
            publisher.finish()


def _follow(run: RunSpec, work: WorkDir, say: Reporter, stop: Stop, team: Team) -> None:
    """The same training with nowhere to deliver to."""
    with Publisher(None, say, stop) as publisher:
        _trained(run, work, publisher, say, stop, team=team)


def _trained(
    run: RunSpec, work: WorkDir, publisher: Publisher, say: Reporter, stop: Stop, *, team: Team
) -> Manifest | None:
    """The result, trained now where it is not there yet; torch is imported only then. None where another leads."""
    with team.apart():
        if team.leads and run.begins_anew:
            work.clear()
    result = team.first(lambda: output.finished(run, work, say.text))
    if result is not None:
        return result
    gc.disable()  # nothing of the libraries is garbage, and to look for some among them takes a tenth of their import
    try:
        from simpletuner_trainer.loop import train
    except (ImportError, RuntimeError) as error:
        raise missing_package(error) from error
    finally:
        gc.freeze()
        gc.enable()
    return train(run, work, publisher, say, stop, team=team)


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
    if run.has_base and not isinstance(run.destination, HubDestination):
        quiet["HF_HUB_OFFLINE"] = "1"
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:  # `explain spec.json | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.CRASHED)
