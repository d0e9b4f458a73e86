"""Reading files that must not change meanwhile: whoever sends them ends in an error rather than in a torn copy."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import BinaryIO, Final

from simpletuner_lab.core.errors import OutputChanged

BLOCK: Final = 1 << 20


def read_steadily(stream: BinaryIO, name: str, *, offset: int = 0, size: int | None = None) -> Generator[bytes]:
    """`size` bytes from `offset` on, to the end if nothing is said, in blocks.

    Raises:
        OutputChanged: the file was written, cut, replaced or deleted since the reading began.
    """
    before = os.fstat(stream.fileno())
    left = before.st_size - offset if size is None else size
    stream.seek(offset)
    while left > 0:
        block = stream.read(min(BLOCK, left))
        now = os.fstat(stream.fileno())
        if not block or now.st_nlink == 0 or identity(now) != identity(before):
            raise OutputChanged(f"{name} changed while it was read", hint="download it again")
        left -= len(block)
        yield block


def identity(status: os.stat_result) -> tuple[int, int, int]:
    """What a file that was written or replaced differs in: size, time of the last write, inode."""
    return status.st_size, status.st_mtime_ns, status.st_ino
