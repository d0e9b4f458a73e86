"""Parts of one upload side by side in one sparse file, each where it will be in the object (docs/adr/0010).

In the folder of an upload, the file `data-STRIDE` has part n at (n-1) * STRIDE. A part is written into its slot once: it
counts from the moment its own small file `0000n`, with a record that names the stride, is in place. Two locks guard a
slot. Whoever writes into a data file holds it shared, and whoever makes an object of it holds it alone; whoever writes
slot n holds `0000n.claim`. A part that is sent again, or while another sending of it is under way, gets a file of its own.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from simpletuner_lab.server.storage.drafts import Draft
from simpletuner_lab.server.storage.errors import disk_errors
from simpletuner_lab.server.storage.folding import names_in
from simpletuner_lab.server.storage.parts import MIN_PART_BYTES, Part
from simpletuner_lab.server.storage.records import Record

MAX_DATA_BYTES: Final = 5 << 40
"""S3's own limit of an object; no data file grows beyond, so no file system's limit is met."""

DATA: Final = re.compile(r"data-([0-9]+)")
CLAIM: Final = re.compile(r"([0-9]{5})\.claim")
_OPEN: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_KEEP_SIZE_AND_PUNCH: Final = 0x01 | 0x02


class SlotWriter:
    """A part on its way into its slot: a `Writer`."""

    def __init__(
        self,
        *,
        about: Draft,
        place: Callable[[Draft, Record], None],
        data: int,
        claim: int,
        offset: int,
        stride: int,
        algorithm: str,
    ) -> None:
        self.algorithm = algorithm
        self._about = about
        self._place = place
        self._data = data
        self._claim = claim
        self._offset = offset
        self._stride = stride
        self._done = 0
        self._open = True

    def write(self, data: memoryview | bytes) -> None:
        """Appends; raises S3Error InsufficientStorage."""
        view = memoryview(data)
        assert self._done + len(view) <= self._stride
        with disk_errors():
            while view:
                written = os.pwrite(self._data, view, self._offset + self._done)
                self._done += written
                view = view[written:]

    def commit(self, record: Record) -> None:
        """Acknowledges the part; raises S3Error."""
        with disk_errors():
            os.fsync(self._data)
        self._place(self._about, replace(record, slot=(self._stride, self._done)))
        self._close()

    def discard(self) -> None:
        """Gives back what was written; after a commit nothing happens."""
        if self._open:
            if self._done:
                give_back(self._data, self._offset, self._done)
            self._about.discard()
            self._close()

    def _close(self) -> None:
        self._open = False
        os.close(self._data)
        os.close(self._claim)


def stride_for(directory: int, number: int, size: int) -> int:
    """The distance between parts where this one may lie beside the others; 0 where it needs a file of its own.

    Parts have one size, but for the last, which is shorter: the greatest size seen so far is the distance.
    """
    found = (DATA.fullmatch(name) for name in names_in(directory))
    stride = max((int(match[1]) for match in found if match), default=0)
    stride = max(stride, size)
    return stride if stride >= MIN_PART_BYTES and number * stride <= MAX_DATA_BYTES else 0


def open_slot(directory: int, number: int, stride: int) -> tuple[int, int] | None:
    """Descriptors of the data file and of the claim on a slot that is free; None where a file of its own is due.

    Raises:
        OSError: the folder is gone, the disk is full.
    """
    name = f"data-{stride}"
    data = os.open(name, _OPEN | os.O_CREAT, 0o600, dir_fd=directory)
    claim = -1
    try:
        if _locked(data, fcntl.LOCK_SH) and _is(data, name, directory) and give_back(data, MAX_DATA_BYTES, 1):
            claim = os.open(f"{number:05}.claim", _OPEN | os.O_CREAT, 0o600, dir_fd=directory)
            if _locked(claim, fcntl.LOCK_EX) and not _exists(f"{number:05}", directory):
                return data, claim
    except OSError:
        _close(data, claim)
        raise
    _close(data, claim)
    return None


@contextmanager
def whole(directory: int, stride: int) -> Iterator[int | None]:
    """Descriptor of a data file that nobody writes into; None where somebody does."""
    try:
        data = os.open(f"data-{stride}", _OPEN, dir_fd=directory)
    except FileNotFoundError:
        yield None
        return
    try:
        yield data if _locked(data, fcntl.LOCK_EX) else None
    finally:
        os.close(data)


def free_slot(directory: int, number: int, is_kept: Callable[[], bool]) -> None:
    """Gives back what an unacknowledged or superseded sending left in the slots of a part, if nobody writes there.

    `is_kept` says whether the part is acknowledged with a slot; it is asked while no writer can acknowledge it.
    """
    try:
        claim = os.open(f"{number:05}.claim", _OPEN, dir_fd=directory)
    except FileNotFoundError:
        return
    try:
        if _locked(claim, fcntl.LOCK_EX) and not is_kept():
            for name in names_in(directory):
                if match := DATA.fullmatch(name):
                    data = os.open(name, _OPEN, dir_fd=directory)
                    give_back(data, (number - 1) * int(match[1]), int(match[1]))
                    os.close(data)
    finally:
        os.close(claim)


def natural_stride(chosen: Sequence[Part], stored: Sequence[Part]) -> int:
    """The stride of the data file that already is the object, but for parts that lie elsewhere; 0 where none is.

    The chosen parts are 1 to N without a gap, all as long as the first but the last, and no other part lies behind.
    """
    stride = chosen[0].size
    uniform = all(part.number == index and part.size == stride for index, part in enumerate(chosen[:-1], 1))
    ends = chosen[-1].number == len(chosen) and chosen[-1].size <= stride
    there = any(part.stride == stride for part in chosen)
    behind = any(part.stride == stride and part.number > len(chosen) for part in stored)
    return stride if uniform and ends and there and not behind else 0


def give_back(descriptor: int, offset: int, size: int) -> bool:
    """Makes a hole of `size` bytes, at least one, in a file; False where this system cannot."""
    function = _fallocate()
    return function is not None and function(descriptor, _KEEP_SIZE_AND_PUNCH, offset, size) == 0


@functools.cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    found: Callable[[int, int, int, int], int] = function
    return found


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(descriptor: int, name: str, directory: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _exists(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)
