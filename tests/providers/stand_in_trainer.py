"""A trainer that trains nothing and keeps the protocol: spec.json in, lines out, lifeline, lock, exit codes.

`local_kit` puts it where `python -m simpletuner_trainer` finds it. It does what `config["behaviour"]` says.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

CHATTER_LINES = 2000
INTERRUPTED = 75


def main(spec_path: str) -> int:
    """Run one behaviour; its return value is the exit code."""
    signal.alarm(60)  # whatever goes wrong in a test, nothing stays
    spec = json.loads(Path(spec_path).read_bytes())
    work = Path(spec["work_dir"])
    lock = os.open(work / "trainer.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print(f"::st {spec['nonce']} " + json.dumps({"kind": "stage", "stage": "train", "label": "stand-in"}))
    behaviour = spec["config"]["behaviour"]
    return {
        "succeed": lambda: 0,
        "fail": fail,
        "wait": lambda: wait(work),
        "chatter": chatter,
        "report": report,
        "stubborn": stubborn,
        "straggler": straggler,
        "linger": lambda: linger(work),
        "half": lambda: half(work),
        "much": much,
        "exit": lambda: int(spec["config"]["code"]),
    }[behaviour]()


def say(**facts: object) -> None:
    """One line of JSON that a test reads back."""
    print("facts " + json.dumps(facts), flush=True)


def fail() -> NoReturn:
    """End with a traceback, as a crash does."""
    raise ValueError("the stand-in was told to fail")


def until_told() -> None:
    """Returns at SIGTERM (by an exception) or at the end of the lifeline."""

    def end(_number: int, _frame: object) -> NoReturn:
        raise SystemExit(INTERRUPTED)

    signal.signal(signal.SIGTERM, end)
    say(pid=os.getpid(), supervisor=os.getppid())
    sys.stdin.buffer.read()


def wait(work: Path) -> int:
    """Run until told to end; write a checkpoint on the way out."""
    try:
        until_told()
    finally:
        (work / "checkpoint").touch()
    return INTERRUPTED


def chatter() -> int:
    """Many lines, and a last text without a newline."""
    for number in range(CHATTER_LINES):
        print(f"line {number}", flush=number % 100 == 0)
    print("and that was all", end="")
    return 0


def much() -> int:
    """More than one poll reads, in lines of a kilobyte."""
    for number in range(2500):
        print(f"{number:06d} {'x' * 1016}")
    return 0


def report() -> int:
    """What this process was given."""
    descriptors = []
    for number in range(256):
        try:
            os.fstat(number)
        except OSError:
            continue
        descriptors.append(number)
    mask = os.umask(0o077)
    say(
        environment=dict(os.environ),
        inherited=[number for number in descriptors if os.get_inheritable(number)],
        group=os.getpgid(0) == os.getpid(),
        session=os.getsid(0),
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        umask=mask,
    )
    return 0


def stubborn() -> int:
    """Does not hear SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(pid=os.getpid(), supervisor=os.getppid())
    sys.stdin.buffer.read()
    return 0


def straggler() -> int:
    """Ends well and leaves a child behind."""
    child = subprocess.Popen(["sleep", "60"])
    say(child=child.pid)
    child.returncode = 0  # it is meant to stay
    return 0


def linger(work: Path) -> int:
    """After the end of the lifeline, goes on until a file `release` is there, as one that writes a checkpoint does."""
    say(pid=os.getpid(), supervisor=os.getppid())
    sys.stdin.buffer.read()
    (work / "winding-down").touch()
    while not (work / "release").exists():
        time.sleep(0.02)
    return INTERRUPTED


def half(work: Path) -> int:
    """Half a line, and the rest of it once a file `release` is there."""
    print("one whole line")
    print("half a", end="", flush=True)
    while not (work / "release").exists():
        time.sleep(0.02)
    print(" line")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
