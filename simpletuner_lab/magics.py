"""`%stcloud` and `%%stcloud`: the commands of the terminal in a cell. They give objects that show themselves."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class

import simpletuner_lab
from simpletuner_lab.client import Client, connect
from simpletuner_lab.commands.answers import Answer, fault_text
from simpletuner_lab.commands.completion import attach, complete
from simpletuner_lab.commands.screen import log_text
from simpletuner_lab.commands.tree import LISTED, build_parser
from simpletuner_lab.commands.verbs import VERBS, aimed, chosen, follow, submitted
from simpletuner_lab.core.errors import InvalidRequest, LabError, ServerUnreachable, is_interrupt
from simpletuner_lab.core.job import ALL_JOBS
from simpletuner_lab.services.codec import encode
from simpletuner_lab.services.views import JobView, LogChunk

_PROG: Final = "%stcloud"
_CALL: Final = re.compile(r"^\s*(?:[\w.,\s]+=\s*)?(?P<magic>%{0,2})stcloud\s+(?P<rest>.*)$")
"""A line with the magic, which may stand after `x = ` and, with automagic, without its sign."""

_ABOUT: Final = """Train diffusion models: the commands of `stcloud`, and objects for what it prints.

    %stcloud submit config.json --data pictures    the plan, and a button to agree to it
    %stcloud jobs                                   the live list (with a filter: a table)
    %stcloud job ID                                 one job, live
    %stcloud logs ID -f                             its log, until it ends or you interrupt
    found = %stcloud jobs --state failed --json     plain data

    %%stcloud submit --name first --data pictures
    {"model_family": "sd", "pretrained_model_name_or_path": "builtin:tiny", "max_train_steps": 300}

`%stcloud COMMAND --help` has the options of a command.

"""

F = TypeVar("F", bound=Callable[..., Any])


class CommandRefused(Exception):
    """What is wrong with a command, in lines for a person. It ends the cell and shows no traceback."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def load(shell: InteractiveShell) -> None:
    """Adds the magic and its completion to a shell."""
    magics = LabMagics(shell)
    shell.register_magics(magics)
    shell.Completer.custom_matchers.append(magics.completions)


def unload(shell: InteractiveShell) -> None:
    """Takes them away again."""
    magics = shell.magics_manager.registry.pop(LabMagics.__name__, None)
    if magics is None:
        return
    shell.Completer.custom_matchers.remove(magics.completions)
    for kind in shell.magics_manager.magics.values():
        kind.pop("stcloud", None)


def _documented(function: F) -> F:
    """`%stcloud?` shows the tree."""
    function.__doc__ = _ABOUT + build_parser(_PROG).format_help()
    return function


@magics_class
class LabMagics(Magics):
    """The magic of one shell, and the connection that it keeps and shares with its widgets."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._client: Client | None = None

    @line_cell_magic
    @_documented
    def stcloud(self, line: str, cell: str | None = None) -> Any:
        """Replaced by the tree's help."""
        args: argparse.Namespace | None = None
        try:
            args = _parsed(line, cell)
            return None if args is None else self._run(args)
        except ServerUnreachable as error:
            self._client = None  # the next command looks for a server again
            raise CommandRefused(fault_text(error, _PROG, args)) from None
        except LabError as error:
            raise CommandRefused(fault_text(error, _PROG, args)) from None

    @context_matcher()
    def completions(self, context: CompletionContext) -> SimpleMatcherResult:
        """What may come next on a line with the magic."""
        call = _CALL.match(context.text_until_cursor)
        if call is None:
            return SimpleMatcherResult(completions=[])
        words, last = _split(call["rest"])
        parser = build_parser(_PROG, body=call["magic"] == "%%")
        attach(parser, self._lab)
        found = (last.completed(word) for word in complete(parser, words, last.text))
        stays = last.typed.removesuffix(context.token)  # IPython replaces its token alone, and that may begin later
        shown = [SimpleCompletion(text=text.removeprefix(stays), type="param") for text in found]
        return SimpleMatcherResult(completions=shown, suppress=True, ordered=True)

    def _run(self, args: argparse.Namespace) -> Any:
        if getattr(args, "terminal", False):
            words = " ".join(filter(None, (args.command, getattr(args, "action", ""))))
            raise InvalidRequest(
                f"{words} is not for a notebook: what a cell shows is saved with it",
                hint=f"in a terminal: stcloud {words}",
            )
        if args.url is None:
            return self._answered(args, self._lab)
        return self._answered(args, lambda: connect(args.url, os.environ.get("JUPYTER_TOKEN", "")))

    def _answered(self, args: argparse.Namespace, lab: Callable[[], Client]) -> Any:
        if args.json:
            if args.command == "submit" and not (args.yes or args.approve):
                raise InvalidRequest(
                    "--json shows no button", hint="add --yes or --approve DIGEST, or leave --json out"
                )
            data = _DataScreen()
            with _interruptible(args):
                VERBS[args.command](lab, args, data)
            return data.items if args.command == "logs" else data.items[-1] if data.items else None
        live = self._live(args, lab)
        if live is not None:
            return live
        screen = _CellScreen(streaming=args.command == "logs" and args.follow)
        with _interruptible(args):
            VERBS[args.command](lab, args, screen)
        return screen.answer

    def _live(self, args: argparse.Namespace, lab: Callable[[], Client]) -> Any:
        """The widget of a command; None where it answers with a value of now."""
        if args.command == "submit":
            return _submit(args, lab())
        if args.command == "jobs" and chosen(args) == ALL_JOBS and (args.limit, args.offset) == (LISTED, 0):
            return simpletuner_lab.jobs(client=lab())
        if args.command == "job":
            return simpletuner_lab.job(args.job_id, client=lab())
        return None

    def _lab(self) -> Client:
        if self._client is None:
            self._client = connect()
        return self._client


def _submit(args: argparse.Namespace, client: Client) -> Any:
    """The form with the plan in it, or the job of a plan that was agreed to."""
    if not (args.yes or args.approve):
        if args.wait or args.key:
            raise InvalidRequest("--wait and --key go with --yes or --approve", hint="the form has a button for it")
        if args.snapshot_name or args.snapshot_message:
            raise InvalidRequest("words for a snapshot go with --yes or --approve", hint="the form has none")
        return simpletuner_lab.submit(
            args.config,
            args.data,
            provider=args.provider,
            target=args.target,
            hardware=args.hardware,
            name=args.name,
            priority=args.priority,
            destination=None if args.to is None else encode(aimed(args, args.to)),
            strip_exif=args.strip_exif,
            client=client,
        )
    screen = _CellScreen(streaming=True)
    job = submitted(client, args, screen)
    screen.flush()
    if args.wait:
        with _interruptible(args):
            follow(client, job.job_id, screen)
    return simpletuner_lab.job(job.job_id, client=client)


# ------------------------------------------------------------ words


class _CellParser(argparse.ArgumentParser):
    """A parser whose errors end the cell, and not the kernel."""

    def error(self, message: str) -> NoReturn:
        raise CommandRefused(f"{self.format_usage()}{self.prog}: {message}")


def _parsed(line: str, cell: str | None) -> argparse.Namespace | None:
    """The command; None where only help was asked for.

    Raises:
        CommandRefused: the words make no command.
        InvalidRequest: the cell holds no config.
    """
    parser = build_parser(_PROG if cell is None else f"%{_PROG}", body=cell is not None, parser_class=_CellParser)
    parser.set_defaults(entry="magic")
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise CommandRefused(f"{_PROG}: {error}") from None
    try:
        args = parser.parse_args(words)
    except SystemExit:
        return None
    if cell is not None:
        args.config = _body(cell)
    return args


def _body(cell: str) -> dict[str, Any]:
    """The config in a cell. Lines count as in the cell, where the magic is on the first."""
    try:
        config = json.loads(cell)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno + 1}, column {error.colno}"
        raise InvalidRequest(
            f"the cell is not JSON: {error.msg} ({where})", hint="a config is a JSON object"
        ) from error
    except RecursionError as error:
        raise InvalidRequest("the cell is nested too deeply") from error
    if not isinstance(config, dict):
        raise InvalidRequest("the cell must hold a JSON object")
    return config


@dataclass(frozen=True, slots=True)
class _Last:
    """The word that is being typed: as it stands, without its quotes, and the quote that is still open."""

    typed: str
    text: str
    quote: str

    def completed(self, word: str) -> str:
        """A whole word as it would be typed."""
        return self.quote + word if self.quote else word.replace("\\", "\\\\").replace(" ", "\\ ")


def _split(text: str) -> tuple[list[str], _Last]:
    """The words before the last, and the last, which may be empty or in the midst of a quote."""
    start, quote, escaped = 0, "", False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char.isspace():
            start = index + 1
    typed = text[start:]
    try:
        plain = shlex.split(typed.removesuffix("\\") + quote)
        return shlex.split(text[:start]), _Last(typed, plain[0] if plain else "", quote)
    except ValueError:
        return [], _Last(typed, typed, "")


# ------------------------------------------------------------ screens


class _CellScreen:
    """A cell: what comes last is its value, what came before is printed; a log that is followed is printed as it grows."""

    shows_progress: bool = False
    for_programs: bool = False

    def __init__(self, *, streaming: bool) -> None:
        self.answer: Answer | None = None
        self._streaming = streaming
        self._text = ""

    def show(self, answer: Answer) -> None:
        self.flush()
        self.answer = answer

    def log(self, chunk: LogChunk, *, raw: bool) -> None:
        text = log_text(chunk, raw=raw)
        if self._streaming:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            self._text += text
            self.answer = Answer(value=self._text, text=self._text.removesuffix("\n"))

    def progress(self, job: JobView) -> None:
        """A widget shows that."""

    def agree(self) -> bool:
        return False

    def flush(self) -> None:
        """Prints what was the last so far."""
        if self.answer is not None:
            sys.stdout.write(f"{self.answer!r}\n")
            self.answer = None


class _DataScreen:
    """Collects values as dicts, lists and scalars."""

    shows_progress: bool = False
    for_programs: bool = True

    def __init__(self) -> None:
        self.items: list[Any] = []

    def show(self, answer: Answer) -> None:
        self.items.append(answer.plain)

    def log(self, chunk: LogChunk, *, raw: bool) -> None:  # noqa: ARG002 - nothing is left out for a program
        self.items.append(encode(chunk))

    def progress(self, job: JobView) -> None:
        """The end alone is a value."""

    def agree(self) -> bool:
        return False


@contextlib.contextmanager
def _interruptible(args: argparse.Namespace) -> Iterator[None]:
    """An interrupt of a command that follows a job ends the looking, and not the cells after it."""
    try:
        yield
    except BaseException as error:
        followed = getattr(args, "follow", False) or getattr(args, "wait", False) or getattr(args, "watch", False)
        if not (followed and is_interrupt(error)):
            raise
        sys.stdout.write("\nstopped looking; the job goes on\n")
