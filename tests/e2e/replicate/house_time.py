"""The time of a forked server: what somebody else writes into eight bytes of a file."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

wall_time = time.time
nap = time.sleep


class Clock:
    """A wall clock until it is told which file to read."""

    def __init__(self) -> None:
        self._cell: memoryview | None = None

    def read(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._cell = memoryview(mmap.mmap(file.fileno(), 8)).cast("d")

    def now(self) -> float:
        return wall_time() if self._cell is None else self._cell[0]

    def rule(self) -> None:
        """Makes it the time of this process, in which nobody sleeps and nothing waits for a disk.

        To be called before anything is imported that takes these functions along. A SIGKILL loses nothing that was
        written, on disk or not.
        """
        time.time = self.now
        time.sleep = lambda _: nap(0)
        os.fsync = lambda _: None
