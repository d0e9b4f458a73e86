# PYTHON_ARGCOMPLETE_OK
"""`stcloud`: the commands in a terminal. `--json` for scripts, and exit codes that mean something.

0  done                     3  consent is needed (the digest is printed)
1  a fault, told in a line  4  the job that was waited for failed or was cancelled
2  wrong usage              130  interrupted

What is slow to import waits until the words are understood: `--help` and a shell's completion must not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from simpletuner_lab.commands.tree import build_parser
from simpletuner_lab.core.errors import ConsentRequired, LabError, is_interrupt

if TYPE_CHECKING:
    from simpletuner_lab.client import Client
    from simpletuner_lab.commands.screen import Screen

OK: Final = 0
FAULT: Final = 1
CONSENT: Final = 3
JOB_FAILED: Final = 4
INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    parser = build_parser()
    parser.set_defaults(entry="cli")
    if "_ARGCOMPLETE" in os.environ:
        from simpletuner_lab.commands.completion import complete_in_shell

        complete_in_shell(parser)
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except BaseException as error:  # noqa: BLE001 - it is raised again where it is none of these
        return _ended_by(error, args)


def _ended_by(error: BaseException, args: argparse.Namespace) -> int:
    """Tells in a line what ended a command; returns the exit code. What is a defect of ours is raised again."""
    if is_interrupt(error):
        print(f"\n{interrupted(args)}", file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, LabError):
        _complain(error, args)
        if _is_output_lost(error):
            _write_no_more()
        return CONSENT if isinstance(error, ConsentRequired) else FAULT
    if isinstance(error, BrokenPipeError):
        _write_no_more()
        return OK
    from simpletuner_lab.discretion import trace_hook
    from simpletuner_lab.services.home import Home
    from simpletuner_lab.services.known import KnownSecrets

    sys.excepthook = trace_hook(lambda: KnownSecrets(Home.find(os.environ).secrets, os.environ).redactor())
    raise error


def _is_output_lost(error: LabError) -> bool:
    from simpletuner_lab.commands.screen import OutputLost

    return isinstance(error, OutputLost)


def _write_no_more() -> None:
    """What is left in the buffer goes nowhere: at its end Python would try again, and fail aloud."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _put(text: str) -> None:
    from simpletuner_lab.commands.screen import put

    put(sys.stdout, f"{text}\n")


def _run(args: argparse.Namespace) -> int:
    if sys.stdout is None:
        _put("")  # before anything is done of which nobody would hear
    from simpletuner_lab.client import connect
    from simpletuner_lab.commands.verbs import VERBS

    logging.getLogger("simpletuner_lab").addHandler(logging.NullHandler())  # a person reads errors, not traces

    def lab() -> Client:
        return connect(args.url, os.environ.get("JUPYTER_TOKEN", ""))

    if args.command == "storage" and args.action == "serve":
        return _serve(args)
    if args.command == "emulator":
        return _emulate(args)
    if args.command == "openapi":
        return _describe()
    with _screen(as_json=args.json) as screen:
        return VERBS[args.command](lab, args, screen)


def _serve(args: argparse.Namespace) -> int:
    """The object endpoint alone, until a signal ends it. One line says that it is ready, and where."""
    from simpletuner_lab.commands.storage import SECRET_VARIABLE, given_secret
    from simpletuner_lab.core.errors import InvalidRequest
    from simpletuner_lab.server.alone import Stand, serve
    from simpletuner_lab.server.processes import usual_number

    secret = given_secret(os.environ, args.secret_key)
    if secret is None:
        raise InvalidRequest("there is no secret key", hint=f"set {SECRET_VARIABLE}, or give --secret-key")
    stand = Stand(
        root=args.root.expanduser().resolve(),
        host=args.host,
        port=args.port,
        base_path=args.base_path.rstrip("/"),
        access_key=args.access_key,
        secret_key=secret,
        certfile=args.certfile,
        keyfile=args.keyfile,
        processes=usual_number() if args.processes is None else args.processes,
    )

    def tell(url: str) -> None:
        lines = logging.StreamHandler()
        lines.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger("simpletuner_lab").addHandler(lines)
        _put(json.dumps({"endpoint_url": url}) if args.json else f"serving {stand.root} at {url}")

    return serve(stand, tell)


def _describe() -> int:
    """The description of the REST API; it is made of the code, so no lab and no server is asked."""
    from simpletuner_lab.server.openapi import document
    from simpletuner_lab.server.routes import described_rules

    _put(json.dumps(document(described_rules()), indent=2))
    return OK


def _emulate(args: argparse.Namespace) -> int:
    """An emulated provider, until a signal ends it. What is printed is what a lab has to be told."""
    from simpletuner_lab.server.processes import ENDS
    from simpletuner_lab.testing.replicate_stand import EngineName, replicate_stand

    ended = threading.Event()
    with replicate_stand(
        port=args.port, token=args.token, engine=EngineName(args.engine), speed=args.speed, lasts_s=args.lasts
    ) as stand:
        for number in ENDS:
            signal.signal(number, lambda *_: ended.set())
        _put(json.dumps(stand.document) if args.json else stand.directions)
        ended.wait()
    return OK


def interrupted(args: argparse.Namespace) -> str:
    """What an interrupt has ended: never a job."""
    if args.command == "submit":
        return "interrupted; a job that was submitted goes on: stcloud jobs"
    followed = args.command in {"logs", "job"}
    return "stopped looking; the job goes on" if followed else "interrupted"


@contextlib.contextmanager
def _screen(*, as_json: bool) -> Iterator[Screen]:
    """The screen that fits what standard output is."""
    if as_json or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        from simpletuner_lab.commands.screen import JsonScreen, PipeScreen

        yield JsonScreen(sys.stdout) if as_json else PipeScreen(sys.stdout)
        return
    from simpletuner_lab.commands.colour import ColourScreen

    with contextlib.closing(ColourScreen()) as screen:
        yield screen


def _complain(error: LabError, args: argparse.Namespace) -> None:
    from simpletuner_lab.commands.answers import fault_document, fault_text

    print(json.dumps(fault_document(error)) if args.json else fault_text(error, "stcloud", args), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
