"""One append-only log file per job, kept after the provider has deleted its own (SPEC J4).

The store holds how many bytes of a file are recorded. Bytes beyond that were written by a process that died before
its transaction: they are cut off before the next append, so nothing doubles.
"""

from __future__ import annotations

import os
from pathlib import Path

from simpletuner_lab.core.errors import DiskFull


class Logs:
    """The log files of all jobs, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, job_id: str) -> Path:
        """The file of one job; it may not exist yet."""
        return self._folder / f"{job_id}.log"

    def append(self, job_id: str, offset: int, text: bytes) -> None:
        """Writes `text` at `offset`, the recorded length; whatever lay beyond it goes.

        Raises:
            DiskFull: no room; the recorded part is intact.
        """
        if not text:
            return
        file = os.open(self.path(job_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(file, offset)
            view = memoryview(text)
            while view:
                written = os.pwrite(file, view, offset)
                offset += written
                view = view[written:]
        except OSError as error:
            raise DiskFull(f"the log of job {job_id} cannot grow: {error.strerror}", hint="free some space") from error
        finally:
            os.close(file)

    def read(self, job_id: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """Up to `limit` bytes from `offset`; empty at the end or where there is no log yet."""
        try:
            with self.path(job_id).open("rb") as stream:
                stream.seek(offset)
                return stream.read(limit)
        except FileNotFoundError:
            return b""

    def delete(self, job_id: str) -> None:
        """Removes the file."""
        self.path(job_id).unlink(missing_ok=True)
