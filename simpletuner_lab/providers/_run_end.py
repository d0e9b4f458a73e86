"""How a local run ended, and what that means: pure functions of its exit record and the end of its log."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.provider import RunState
from simpletuner_trainer.report import PREFIX, Exit

_FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals that say nothing about the trainer: somebody, or a full memory, ended it."""


_RESUMABLE: Final = frozenset(code for code in Exit if code.resumable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended. Neither status nor signal: nobody was left to write it down."""

    status: int | None = None
    signal: int | None = None
    cancelled: bool = False
    """The trainer was ended because somebody cancelled the run."""
    interrupted: bool = False
    """The trainer was ended because its supervisor was told to."""


def run_state(ending: Ending) -> RunState:
    """What an ending means. A trainer that was done is done, whatever was asked of it meanwhile."""
    if ending.status == Exit.DONE:
        return RunState.SUCCEEDED
    if ending.cancelled:
        return RunState.CANCELLED
    if ending.interrupted or ending.status in _RESUMABLE:
        return RunState.INTERRUPTED
    if ending.status is None and (ending.signal is None or ending.signal in _FROM_OUTSIDE):
        return RunState.LOST
    return RunState.FAILED


def explain(ending: Ending, log_tail: str) -> str:
    """One sentence on an ending that was not the end of the training; empty where nothing needs saying."""
    if ending.status == Exit.DONE or ending.cancelled:
        return ""
    if ending.status in _SENTENCES:
        return _SENTENCES[ending.status]
    if ending.interrupted:
        return "the trainer was ended from outside before it could write a checkpoint"
    if ending.status is not None:
        return last_meaningful_line(log_tail) or f"the trainer ended with exit code {ending.status} and said nothing"
    return _explain_signal(ending.signal)


def _explain_signal(number: int | None) -> str:
    if number is None:
        return "the run ended without a word: it was killed, or this machine restarted"
    if number == signal.SIGKILL:
        return "the trainer was killed (SIGKILL), often because the memory of this machine was full"
    return f"the trainer was ended by a signal ({_signal_name(number)})"


_SENTENCES: Final[Mapping[int | None, str]] = {
    Exit.INTERRUPTED: "the trainer was interrupted and wrote a checkpoint",
    Exit.DEADLINE: "the run reached its time limit and wrote a checkpoint",
    Exit.UNDELIVERED: "what it made could not be delivered",
    Exit.PREEMPTED: "the machine was about to be taken back and the trainer wrote a checkpoint",
    Exit.UNREACHABLE: "the base could not be had: the Hugging Face Hub was not reached",
}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


_PROGRESS_BAR: Final = re.compile(r"\d+%\|.*\||\d+(it|img|step)s? \[\d\d:\d\d")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TRACEBACK: Final = "Traceback (most recent call last):"
_NOISE_LINES: Final = 10
"""So many lines may follow the traceback that ended a run: warnings of an interpreter that shuts down."""
_LONGEST_SENTENCE: Final = 500


def last_meaningful_line(log: str) -> str:
    """The line of a failed run's log that says why: what its traceback ends with, else the last line for a person.

    Report lines, blank lines and progress bars say nothing.
    """
    lines = [line for line in map(_as_seen, log.split("\n")) if _says_something(line)]
    starts = [index for index, line in enumerate(lines) if line.strip() == _TRACEBACK]
    if starts:
        ends = [index for index in range(starts[-1] + 1, len(lines)) if not lines[index].startswith(" ")]
        if ends and len(lines) - 1 - ends[0] <= _NOISE_LINES:
            return lines[ends[0]].strip()[:_LONGEST_SENTENCE]
    return lines[-1].strip()[:_LONGEST_SENTENCE] if lines else ""


def _as_seen(line: str) -> str:
    """What a terminal would show of a line that was overwritten and coloured."""
    return _COLOUR.sub("", line.rstrip("\r").rpartition("\r")[2])


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.startswith(f"{PREFIX} ") and not _PROGRESS_BAR.search(line)
