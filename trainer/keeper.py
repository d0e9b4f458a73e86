"""Keeps a trainer in a folder that is gone when the trainer is: `python keeper.py FOLDER GRACE_S`. It holds `spec.json`.

Whoever starts it holds its standard input. The end of that is the end of the run, whether it was closed or its holder
was killed: the trainer gets SIGTERM and GRACE_S seconds for a checkpoint, then its whole group is killed. It exits as the trainer
did, with 128 + N where signal N killed it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path


def main(folder: Path, grace_s: float) -> int:
    """One run, from its start to the removal of its folder."""
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(128 + signal.SIGTERM))
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "simpletuner_trainer", str(folder / "spec.json")],
            cwd=folder, stdin=subprocess.PIPE, process_group=0,
        ) as trainer:  # fmt: skip
            try:
                threading.Thread(target=_end_with_the_holder, args=(trainer, grace_s), daemon=True).start()
                code = trainer.wait()
            finally:
                _signal(trainer, signal.SIGKILL)  # and whatever it has left behind
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


def _end_with_the_holder(trainer: subprocess.Popen[bytes], grace_s: float) -> None:
    stdin = 0
    with contextlib.suppress(OSError):
        while os.read(stdin, 4096):
            pass
    if trainer.poll() is None:
        _signal(trainer, signal.SIGTERM)
        try:
            trainer.wait(grace_s)
        except subprocess.TimeoutExpired:
            _signal(trainer, signal.SIGKILL)


def _signal(trainer: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(trainer.pid, number)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2])))
