"""Runs one trainer and outlives the lab that asked for it. Pure standard library, one process per attempt.

Started as `python -I -S _supervisor.py LOCK` in the attempt's folder, with the environment that the trainer gets and
`LOCK` the descriptor of the folder's `lock`, flocked already: it is held for as long as this process lives and is
never handed on. The first process forks and ends at once, so whoever started it has no child to reap.

`order.json` says what to run. A file `cancel`, or a signal to this process, ends the trainer: TERM, then after the
grace KILL for its whole process group. Every end is written to `exit.json`, atomically; only then is the lock freed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

LOOK_S: Final = 0.2
"""How often the cancel file is looked for."""

SWEEP_S: Final = 1.0
"""How long killed stragglers may take to go."""

CANNOT_START: Final = 127
"""Exit status, as a shell gives it, of a trainer that could not be started."""

ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(lock: int) -> None:
    """Supervise the run in the present folder, to its end."""
    os.set_inheritable(lock, False)
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    wake = _wake_on_signals()
    order: dict[str, Any] = json.loads(Path("order.json").read_bytes())
    log = os.open("trainer.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        trainer, lifeline = _start(order["command"], log)
    except OSError as error:
        os.write(log, f"the trainer cannot be started: {error}\n".encode())
        _write_exit(order["attempt"], CANNOT_START, cancelled=False, interrupted=False)
        return
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, trainer.pid, os.getpriority(os.PRIO_PROCESS, 0) + order["nice"])
    cancelled, interrupted = _watch(trainer, wake, order["grace_s"])
    _sweep(trainer.pid)
    os.close(lifeline)
    os.fsync(log)
    _write_exit(order["attempt"], trainer.returncode, cancelled=cancelled, interrupted=interrupted)


def _wake_on_signals() -> int:
    """A descriptor that becomes readable on a child's end or a wish to end: one byte each, the signal's number."""
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    os.set_blocking(writes, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    for number in (*ENDING, signal.SIGCHLD):
        signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return reads


def _start(command: list[str], log: int) -> tuple[subprocess.Popen[bytes], int]:
    """The trainer in a process group of its own, and the write end of its lifeline, which nobody else holds."""
    end_of_file, lifeline = os.pipe()
    try:
        trainer = subprocess.Popen(command, stdin=end_of_file, stdout=log, stderr=log, close_fds=True, process_group=0)
    finally:
        os.close(end_of_file)
    return trainer, lifeline


def _watch(trainer: subprocess.Popen[bytes], wake: int, grace_s: float) -> tuple[bool, bool]:
    """Waits for the trainer's end, and brings it about when asked. Whether it was cancelled, whether interrupted.

    TERM goes to the trainer alone, so that it can write its checkpoint with its helpers alive; KILL goes to all.
    """
    cancelled = interrupted = False
    kill_at: float | None = None
    while True:
        left_s = LOOK_S if kill_at is None else min(LOOK_S, max(0.0, kill_at - time.monotonic()))
        told = _told_to_end(wake, left_s)
        if trainer.poll() is not None:
            return cancelled, interrupted
        interrupted |= told
        cancelled |= Path("cancel").exists()
        if kill_at is None and (cancelled or interrupted):
            trainer.terminate()
            kill_at = time.monotonic() + grace_s
        elif kill_at is not None and time.monotonic() >= kill_at:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(trainer.pid, signal.SIGKILL)
            kill_at = math.inf


def _told_to_end(wake: int, timeout_s: float) -> bool:
    """Waits for a signal; whether one came that asks for the end."""
    if not select.select([wake], [], [], timeout_s)[0]:
        return False
    return any(number in ENDING for number in os.read(wake, 4096))


def _sweep(group: int) -> None:
    """Kills what the trainer left behind in its group.

    The trainer is reaped by now. A group with a member left keeps its number; an empty one is an error that means
    there is nothing to do, and process numbers do not come round again in the microseconds between.
    """
    give_up_at = time.monotonic() + SWEEP_S
    while time.monotonic() < give_up_at:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            return
        time.sleep(0.02)


def _write_exit(attempt: int, returncode: int, *, cancelled: bool, interrupted: bool) -> None:
    record = {
        "attempt": attempt,
        "status": returncode if returncode >= 0 else None,
        "signal": -returncode if returncode < 0 else None,
        "cancelled": cancelled,
        "interrupted": interrupted,
        "ended_at": time.time(),
    }
    with Path("exit.json.new").open("w", encoding="utf-8") as stream:
        json.dump(record, stream)
        stream.flush()
        os.fsync(stream.fileno())
    folder = os.open(".", os.O_RDONLY)
    Path("exit.json.new").replace("exit.json")
    os.fsync(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]))
