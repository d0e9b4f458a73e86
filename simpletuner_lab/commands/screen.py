"""Where answers go: a pipe, a program that reads JSON, or a terminal (`colour`), or a notebook cell (`magics`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol, TextIO

from simpletuner_lab.commands.answers import Answer, ended_answer
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.services.codec import dumps
from simpletuner_lab.services.views import JobView, LogChunk
from simpletuner_lab.terminal import job_line, printable

_EVERY_S: Final = 10.0
"""Seconds between two lines on a job whose state stays the same."""

_REPORT: Final = "::st "


class OutputLost(LabError):
    """Standard output is closed, or takes no more."""


def put(out: TextIO | None, text: str) -> None:
    """Writes a text, so that it has arrived.

    Raises:
        OutputLost: it has not.
        BrokenPipeError: nobody reads it any more, which is no fault.
    """
    if out is None:  # as Python has it where the caller has closed it
        raise OutputLost("standard output is closed")
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(f"standard output cannot be written: {error.strerror or error}") from error


class Screen(Protocol):
    """What a command shows itself on."""

    shows_progress: bool
    """Whether it draws how a job stands beside its log."""
    for_programs: bool
    """Whether it is read by a program, which wants results alone."""

    def show(self, answer: Answer) -> None:
        """An answer, whole."""

    def log(self, chunk: LogChunk, *, raw: bool) -> None:
        """A piece of a job's log; `raw` is with the trainer's report lines."""

    def progress(self, job: JobView) -> None:
        """How the job that is watched stands now; called often."""

    def agree(self) -> bool:
        """Whether the person who sees the plan agrees to it."""


class PipeScreen:
    """Plain lines that stay as they are from release to release; never an escape code."""

    shows_progress: bool = False
    for_programs: bool = False

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._last = ("", "", -_EVERY_S)

    def show(self, answer: Answer) -> None:
        """The text of it."""
        self._write(printable(answer.text) + "\n")

    def log(self, chunk: LogChunk, *, raw: bool) -> None:
        """The lines of it."""
        self._write(log_text(chunk, raw=raw))

    def progress(self, job: JobView) -> None:
        """A line where the state is another, or something is and some time has passed."""
        line, now = job_line(job), self._clock()
        state, shown, at = self._last
        if job.status != state or (line != shown and now >= at + _EVERY_S):
            self._last = (job.status, line, now)
            self._write(line + "\n")

    def agree(self) -> bool:
        """Nobody is there to ask."""
        return False

    def _write(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        put(self._out, text.encode(encoding, "backslashreplace").decode(encoding))


class JsonScreen:
    """One JSON document a line."""

    shows_progress: bool = False
    for_programs: bool = True

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = ""

    def show(self, answer: Answer) -> None:
        """Each thing in it."""
        for document in answer.documents:
            self._write(document)

    def log(self, chunk: LogChunk, *, raw: bool) -> None:  # noqa: ARG002 - nothing is left out for a program
        """The chunk, with its offsets."""
        self._write(dumps(chunk))

    def progress(self, job: JobView) -> None:
        """The job, each time it is another."""
        document = ended_answer(job).documents[0]
        if document != self._last:
            self._last = document
            self._write(document)

    def agree(self) -> bool:
        """Nobody is there to ask."""
        return False

    def _write(self, document: str) -> None:
        put(self._out, document + "\n")


def log_text(chunk: LogChunk, *, raw: bool) -> str:
    """Log text for a person: harmless, and without report lines unless they are wanted."""
    if raw:
        return printable(chunk.logs)
    lines = chunk.logs.splitlines(keepends=True)
    return printable("".join(line for line in lines if not line.startswith(_REPORT)))
