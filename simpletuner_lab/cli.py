"""`stcloud`: the verbs in a terminal. `--json` for scripts, and exit codes that mean something.

0  done                     3  consent is needed (the digest is printed)
1  a fault, told in a line  4  the job that was waited for failed or was cancelled
2  wrong usage              130  interrupted
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from simpletuner_lab._version import __version__
from simpletuner_lab.client import Client, connect
from simpletuner_lab.core.consent import ConsentMode, ConsentState
from simpletuner_lab.core.errors import ConsentRequired, InvalidRequest, LabError
from simpletuner_lab.core.job import JobFilter, JobState
from simpletuner_lab.core.plan import DEFAULT_PROVIDER, SubmitRequest
from simpletuner_lab.services.codec import dumps
from simpletuner_lab.services.views import JobView
from simpletuner_lab.terminal import job_line, plan_text, providers_text, timeline_text

OK: Final = 0
FAULT: Final = 1
CONSENT: Final = 3
JOB_FAILED: Final = 4
INTERRUPTED: Final = 130

_FOLLOW_S: Final = 0.3


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    args = build_parser().parse_args(argv)
    try:
        client = connect(args.url, os.environ.get("JUPYTER_TOKEN", ""))
        return int(args.run(client, args))
    except ConsentRequired as error:
        _complain(error, as_json=args.json)
        return CONSENT
    except LabError as error:
        _complain(error, as_json=args.json)
        return FAULT
    except KeyboardInterrupt:
        print("\nstopped looking; the job goes on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def build_parser() -> argparse.ArgumentParser:
    """The one tree of commands."""
    parser = argparse.ArgumentParser(prog="stcloud", description="Train diffusion models on a GPU elsewhere, or here.")
    parser.add_argument("--version", action="version", version=f"stcloud {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON, one document a line")
    common.add_argument(
        "--url", help="notebook server to ask (token in JUPYTER_TOKEN); default: find it, else no server"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Client, argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[common], help=about, description=about)
        made.set_defaults(run=run)
        return made

    for name, run, about in (
        ("plan", _plan, "show what a submit would send, to whom, for how much"),
        ("submit", _submit, "submit a training job"),
    ):
        made = command(name, run, about)
        made.add_argument("config", type=Path, help="config.json, as SimpleTuner has it")
        made.add_argument("--dataloader", type=Path, help="dataloader JSON; default: the config's data_backend_config")
        made.add_argument("--provider", default=DEFAULT_PROVIDER, help="where it runs (default: this machine)")
        made.add_argument("--target", default="", help="which of the provider's targets")
        made.add_argument("--hardware", default="", help="which of the provider's hardware")
        made.add_argument("--name", default="", help="name of the job in lists")
    made.add_argument("--approve", metavar="DIGEST", help="digest of the plan you read")
    made.add_argument("--yes", action="store_true", help="approve the plan that is printed just now")
    made.add_argument("--key", help="idempotency key: the same key within 24 h is the same job")
    made.add_argument("-w", "--wait", action="store_true", help="follow the log until the job ends")
    listed = command("jobs", _jobs, "list jobs, newest first")
    listed.add_argument("--state", action="append", choices=[state.value for state in JobState], default=[])
    listed.add_argument("--provider", default=None)
    listed.add_argument("--text", default="", help="part of a name or id")
    listed.add_argument("-n", "--limit", type=int, default=20)
    listed.add_argument("--offset", type=int, default=0)
    for name, run, about in (
        ("job", _job, "show one job"),
        ("logs", _logs, "print a job's log"),
        ("outputs", _outputs, "list what a job delivered"),
        ("cancel", _cancel, "end a job"),
        ("delete", _delete, "remove a finished job"),
    ):
        command(name, run, about).add_argument("job_id", metavar="ID")
    commands.choices["logs"].add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    commands.choices["logs"].add_argument("--raw", action="store_true", help="with the trainer's report lines")
    commands.choices["delete"].add_argument("--outputs", action="store_true", help="its received files too")
    command("providers", _providers, "list where jobs can run")
    command("consent", _consent, "show or set the consent mode").add_argument(
        "mode", nargs="?", choices=["ask", "allow", "never"]
    )
    return parser


# ------------------------------------------------------------ verbs


def _plan(client: Client, args: argparse.Namespace) -> int:
    plan = client.plan(_request(args))
    print(dumps(plan) if args.json else plan_text(plan))
    return OK


def _submit(client: Client, args: argparse.Namespace) -> int:
    request = _request(args)
    approve = args.approve
    if approve is None:
        plan = client.plan(request)
        if not args.json:
            print(plan_text(plan))
        if args.yes or (plan.consent is ConsentState.NEEDED and _agreed_at_the_terminal(args)):
            approve = plan.digest
    job = client.submit(request, approve=approve, key=args.key, entry="cli")
    ended = job.status in {JobState.FAILED, JobState.CANCELLED}
    print(dumps(job) if args.json else job_line(job) if ended else f"submitted: job {job.job_id}")
    if ended:
        return JOB_FAILED
    return _follow(client, job.job_id, quiet=args.json) if args.wait else OK


def _jobs(client: Client, args: argparse.Namespace) -> int:
    chosen = JobFilter(states=frozenset(JobState(s) for s in args.state), provider=args.provider, text=args.text)
    page = client.jobs(chosen, limit=args.limit, offset=args.offset)
    if args.json:
        print(dumps(page))
        return OK
    for job in page.jobs:
        print(job_line(job))
    shown = args.offset + len(page.jobs)
    print(f"{shown} of {page.total}" if page.total else "no jobs yet: stcloud submit config.json")
    return OK


def _job(client: Client, args: argparse.Namespace) -> int:
    detail = client.detail(args.job_id)
    print(dumps(detail) if args.json else f"{job_line(detail.job)}\n{timeline_text(detail)}")
    return OK


def _logs(client: Client, args: argparse.Namespace) -> int:
    if args.follow:
        return _follow(client, args.job_id, quiet=False, raw=args.raw)
    offset = 0
    while True:
        chunk = client.log(args.job_id, offset=offset)
        sys.stdout.write(_readable(chunk.logs, raw=args.raw))
        if chunk.next_offset == offset:
            return OK
        offset = chunk.next_offset


def _outputs(client: Client, args: argparse.Namespace) -> int:
    found = client.outputs(args.job_id)
    if args.json:
        print(dumps(found))
        return OK
    for file in found.outputs:
        print(f"{file.bytes:>12,}  {file.path}")
    print(f"in {found.folder}" + (", every checksum verified on arrival" if found.verified else ""))
    return OK


def _cancel(client: Client, args: argparse.Namespace) -> int:
    job = client.cancel(args.job_id)
    print(dumps(job) if args.json else f"job {job.job_id}: cancel is under way")
    return OK


def _delete(client: Client, args: argparse.Namespace) -> int:
    client.delete(args.job_id, outputs=args.outputs)
    print(json.dumps({"deleted": args.job_id}) if args.json else f"job {args.job_id} is deleted")
    return OK


def _providers(client: Client, args: argparse.Namespace) -> int:
    found = client.providers()
    print("\n".join(dumps(provider) for provider in found) if args.json else providers_text(found))
    return OK


def _consent(client: Client, args: argparse.Namespace) -> int:
    if args.mode:
        client.set_consent(ConsentMode.parse(args.mode))
    mode = client.consent().value
    print(json.dumps({"consent": mode}) if args.json else mode)
    return OK


# ------------------------------------------------------------ parts


def _follow(client: Client, job_id: str, *, quiet: bool, raw: bool = False) -> int:
    offset = 0
    while True:
        chunk = client.log(job_id, offset=offset)
        if chunk.logs and not quiet:
            sys.stdout.write(_readable(chunk.logs, raw=raw))
            sys.stdout.flush()
        if chunk.ended:
            return _end(client.job(job_id), quiet=quiet)
        if chunk.next_offset == offset:
            time.sleep(_FOLLOW_S)
        offset = chunk.next_offset


def _readable(text: str, *, raw: bool) -> str:
    """Log text for a person: report lines are left out."""
    if raw:
        return text
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("::st "))


def _end(job: JobView, *, quiet: bool) -> int:
    if quiet:
        print(dumps(job))
    else:
        print(job_line(job))
    return OK if job.status is JobState.COMPLETED else JOB_FAILED


def _request(args: argparse.Namespace) -> SubmitRequest:
    config = _read_json(args.config)
    if not isinstance(config, dict):
        raise InvalidRequest(f"{args.config} must hold a JSON object")
    named = config.pop("data_backend_config", config.pop("--data_backend_config", None))
    path = args.dataloader or (args.config.parent / str(named) if named else None)
    if path is None:
        raise InvalidRequest("no dataloader", hint="--dataloader FILE, or data_backend_config in the config")
    dataloader = _read_json(path)
    if not isinstance(dataloader, list) or not all(isinstance(entry, dict) for entry in dataloader):
        raise InvalidRequest(f"{path} must hold a JSON list of data sets")
    return SubmitRequest(
        config=config,
        dataloader=tuple(_absolute(entry, path.absolute().parent) for entry in dataloader),
        provider=args.provider,
        target=args.target,
        hardware=args.hardware,
        name=args.name or args.config.stem,
    )


def _absolute(entry: dict[str, Any], base: Path) -> dict[str, Any]:
    """Relative data set folders count from the dataloader's own folder."""
    return {
        key: str(base / Path(value).expanduser())
        if key.removeprefix("--") == "instance_data_dir" and isinstance(value, str)
        else value
        for key, value in entry.items()
    }


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} is not JSON: {error}") from error


def _agreed_at_the_terminal(args: argparse.Namespace) -> bool:
    if args.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return input("Type yes to agree: ").strip().lower() in {"yes", "y"}


def _complain(error: LabError, *, as_json: bool) -> None:
    if as_json:
        problems = [{"path": p.path, "message": p.message, "hint": p.hint} for p in error.problems]
        body = {"detail": error.message, "code": error.code, "hint": error.hint, "problems": problems}
        print(json.dumps(body), file=sys.stderr)
        return
    print(f"stcloud: {error.message}", file=sys.stderr)
    for problem in error.problems:
        print(f"  {problem.path}: {problem.message}" + (f" ({problem.hint})" if problem.hint else ""), file=sys.stderr)
    if isinstance(error, ConsentRequired):
        print("  stcloud submit ... --approve DIGEST, or --yes for the plan that is printed", file=sys.stderr)
    elif error.hint and error.hint not in {problem.hint for problem in error.problems}:
        print(f"  {error.hint}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
