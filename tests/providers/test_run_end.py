"""What an exit record means, and which line of a log says why."""

from __future__ import annotations

import fcntl
import signal
from pathlib import Path

import pytest

from simpletuner_lab.core.provider import RunState
from simpletuner_lab.providers._run_end import Ending, explain, last_meaningful_line, run_state
from simpletuner_lab.providers._run_folder import POLL_BYTES, held, whole_lines

TRACEBACK = """step 1
Traceback (most recent call last):
  File "x.py", line 1, in <module>
    boom()
ValueError: too small
"""


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        (Ending(status=0), RunState.SUCCEEDED),
        (Ending(status=0, cancelled=True), RunState.SUCCEEDED),
        (Ending(status=0, interrupted=True), RunState.SUCCEEDED),
        (Ending(status=1), RunState.FAILED),
        (Ending(status=2), RunState.FAILED),
        (Ending(status=3), RunState.FAILED),
        (Ending(status=127), RunState.FAILED),
        (Ending(status=75), RunState.INTERRUPTED),
        (Ending(status=76), RunState.INTERRUPTED),
        (Ending(status=77), RunState.INTERRUPTED),
        (Ending(status=78), RunState.INTERRUPTED),
        (Ending(status=75, cancelled=True), RunState.CANCELLED),
        (Ending(status=1, cancelled=True), RunState.CANCELLED),
        (Ending(signal=signal.SIGKILL, cancelled=True), RunState.CANCELLED),
        (Ending(signal=signal.SIGKILL, interrupted=True), RunState.INTERRUPTED),
        (Ending(signal=signal.SIGKILL), RunState.LOST),
        (Ending(signal=signal.SIGTERM), RunState.LOST),
        (Ending(signal=signal.SIGSEGV), RunState.FAILED),
        (Ending(signal=signal.SIGABRT), RunState.FAILED),
        (Ending(), RunState.LOST),
        (Ending(cancelled=True), RunState.CANCELLED),
    ],
)
def test_what_an_ending_means(ending: Ending, state: RunState) -> None:
    assert run_state(ending) is state
    said = explain(ending, "out of luck\n")
    assert bool(said) is (state not in {RunState.SUCCEEDED, RunState.CANCELLED})
    if state is RunState.FAILED and ending.status is not None:
        assert said == "out of luck"


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", ""),
        ("\n \n", ""),
        ("one\ntwo\n\n", "two"),
        (TRACEBACK, "ValueError: too small"),
        (TRACEBACK + "::st abc {}\nresource_tracker: 1 leaked semaphore\n", "ValueError: too small"),
        (TRACEBACK + "tried again\n" * 20, "tried again"),
        (TRACEBACK + "\nDuring handling of the above, another occurred:\n\n" + TRACEBACK.replace("small", "big"),
         "ValueError: too big"),
        ('the rest of one\nTraceback (most recent call last):\n  File "x", line 1\n', 'File "x", line 1'),
        ('no space left\n::st abc {"kind":"end"}\n', "no space left"),
        ("no space left\n 50%|#####     | 5/10 [00:01<00:01,  4.9it/s]\n", "no space left"),
        ("a\rb\rthe last of it\r\n", "the last of it"),
        ("\x1b[31mred\x1b[0m\n", "red"),
        ("x" * 2000, "x" * 500),
    ],
)  # fmt: skip
def test_the_line_that_says_why(log: str, line: str) -> None:
    assert last_meaningful_line(log) == line


@pytest.mark.parametrize(
    ("piece", "final", "lines", "taken"),
    [
        (b"", False, b"", 0),
        (b"", True, b"", 0),
        (b"a\nb", False, b"a\n", 2),
        (b"a\nb", True, b"a\nb\n", 3),
        (b"a\n", True, b"a\n", 2),
        (b"a", False, b"", 0),
        (b"x" * POLL_BYTES, False, b"x" * POLL_BYTES + b"\n", POLL_BYTES),
    ],
)
def test_whole_lines(piece: bytes, final: bool, lines: bytes, taken: int) -> None:
    assert whole_lines(piece, final=final) == (lines, taken)


def test_askers_do_not_take_each_other_for_the_holder(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not held(lock)
    with lock.open("wb") as holder:
        fcntl.flock(holder, fcntl.LOCK_SH)
        assert not held(lock)
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert held(lock)
    assert not held(lock)
