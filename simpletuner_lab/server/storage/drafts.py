"""Files on their way: written under a name that is no key, and moved to their place whole and durable, or removed."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from simpletuner_lab.server.storage.errors import S3Error, disk_errors
from simpletuner_lab.server.storage.records import Record, Records

COUNTED_FOR_S: Final = 10.0
"""Others than this server may put files there too; after so long they are counted."""

_QUOTAS: Final = 1000
_COPY_BYTES: Final = 1 << 20
_COPY_IN_KERNEL_BYTES: Final = 1 << 30
_NO_KERNEL_COPY: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """At most `limit_bytes` under one prefix of one bucket."""

    bucket: str
    prefix: str
    limit_bytes: int

    def covers(self, bucket: str, key: str) -> bool:
        """Whether an object counts towards it."""
        return bucket == self.bucket and key.startswith(self.prefix)


class Coming(NamedTuple):
    """`size` bytes on their way to a key; `replaced` bytes that are there go when they arrive."""

    bucket: str
    key: str
    size: int
    replaced: int = 0


class _Count(NamedTuple):
    """When a quota was counted, and how many bytes there can be at most since: what came is added, what went stays."""

    at_s: float
    at_most: int


class Movable(Protocol):
    """A sealed file that can be given its place."""

    def move(self, directory: int, name: str, check: Callable[[], None] = ...) -> None:
        """See `Draft.move`."""


class Draft:
    """One file on its way. The lock on it says that its writer is alive; a sweep leaves it alone."""

    def __init__(self, path: Path, records: Records, release: Callable[[Draft], None]) -> None:
        self._path = path
        self._records = records
        self._release = release
        self._moved = False
        self.size = 0
        self.descriptor = _made(path)

    def write(self, data: memoryview | bytes) -> None:
        """Appends.

        Raises:
            S3Error: InsufficientStorage.
        """
        view = memoryview(data)
        with disk_errors():
            while view:
                written = os.write(self.descriptor, view)
                self.size += written
                view = view[written:]

    def copy_from(self, source: int, offset: int, size: int) -> None:
        """Appends `size` bytes of another file from `offset` on, inside the kernel where it can.

        Raises:
            S3Error: InsufficientStorage; IncompleteBody when the file is shorter.
        """
        with disk_errors():
            copy_range(source, offset, self.descriptor, self.size, size)
        self.size += size
        os.lseek(self.descriptor, self.size, os.SEEK_SET)

    def seal(self, record: Record) -> None:
        """Attaches the record and waits until the disk has everything."""
        with disk_errors():
            self._records.write(self.descriptor, record, os.fstat(self.descriptor))
            os.fsync(self.descriptor)

    def move(self, directory: int, name: str, check: Callable[[], None] = lambda: None) -> None:
        """Puts the sealed file in its place, in one step, over whatever file was there; the draft is then done.

        `check` is asked while no other writer of this folder can come in between; if it raises, nothing happens.

        Raises:
            OSError: the folder is gone, or a folder stands in its place; the draft is as before.
        """
        with disk_errors():
            old = rename(self._path, None, directory, name, check)
            self._moved = True
            os.fsync(directory)
        if old is not None:
            self._records.forget(old)
        self._close()

    def discard(self) -> None:
        """Removes the file; after `move`, or a second time, nothing happens."""
        if self.descriptor >= 0:
            if not self._moved:
                self._records.forget(os.fstat(self.descriptor))
                self._path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        os.close(self.descriptor)
        self.descriptor = -1
        self._release(self)


class Renamed:
    """A sealed file of ours, in a folder that stays behind, on its way to its place."""

    def __init__(self, folder: int, path: str, records: Records) -> None:
        self._folder = folder
        self._path = path
        self._records = records

    def move(self, directory: int, name: str, check: Callable[[], None] = lambda: None) -> None:
        """As `Draft.move`."""
        with disk_errors():
            old = rename(self._path, self._folder, directory, name, check)
            os.fsync(directory)
        if old is not None:
            self._records.forget(old)


class Drafts:
    """Opens drafts, knows the bytes they may still take, and sweeps those whose writer died."""

    def __init__(self, place: Path, records: Records, token: Callable[[], str]) -> None:
        self._place = place
        self._records = records
        self._token = token
        self._lock = threading.Lock()
        self._reserved: dict[Draft, Coming] = {}
        self._counted: dict[Quota, _Count] = {}

    def open(self, what: Coming, quota: Quota | None, usage: Callable[[str, str], int] | None) -> Draft:
        """A draft, its bytes reserved from now on; `usage` counts what lies there already.

        Raises:
            S3Error: InsufficientStorage, when the disk or the quota has no room for that.
        """
        with disk_errors(), self._lock:
            self._check_room(what, quota, usage)
            draft = Draft(self._place / self._token(), self._records, self._release)
            self._reserved[draft] = what
            return draft

    def sweep(self) -> None:
        """Removes drafts that no living process writes."""
        if not self._place.is_dir():
            return
        for path in self._place.iterdir():
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue  # another sweep was faster, or it is nothing of ours
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._records.forget(os.fstat(descriptor))
                path.unlink(missing_ok=True)
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)

    def _check_room(self, what: Coming, quota: Quota | None, usage: Callable[[str, str], int] | None) -> None:
        try:
            space = os.statvfs(self._place)
        except FileNotFoundError:
            self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
            space = os.statvfs(self._place)
        if what.size > space.f_bavail * space.f_frsize:
            raise S3Error("InsufficientStorage", "there is no room left to store this")
        if quota is not None and usage is not None:
            self._check_quota(max(0, what.size - what.replaced), quota, usage)

    def _check_quota(self, more: int, quota: Quota, usage: Callable[[str, str], int]) -> None:
        """Lets so many bytes more come, or raises.

        What is there is counted anew only where the last count is old, or what was let in since might not leave room:
        to open every object and part for each of ten thousand parts would take longer than their bytes.
        """
        counted = self._counted.get(quota)
        now = time.monotonic()
        if counted is None or counted.at_s + COUNTED_FOR_S < now or counted.at_most + more > quota.limit_bytes:
            coming = sum(one.size for one in self._reserved.values() if quota.covers(one.bucket, one.key))
            counted = _Count(now, usage(quota.bucket, quota.prefix) + coming)
            if len(self._counted) >= _QUOTAS:
                self._counted.clear()
        if counted.at_most + more > quota.limit_bytes:
            self._counted.pop(quota, None)
            raise S3Error("InsufficientStorage", f"the quota of {quota.limit_bytes} bytes has no room left for this")
        self._counted[quota] = counted._replace(at_most=counted.at_most + more)

    def _release(self, draft: Draft) -> None:
        self._reserved.pop(draft, None)


def _made(path: Path) -> int:
    """Descriptor of a new file, locked; made again where another server swept it away before the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def rename(
    path: Path | str, folder: int | None, directory: int, name: str, check: Callable[[], None]
) -> os.stat_result | None:
    """Gives a file its place once `check` has let it pass, with no other writer in between; tells what it replaced."""
    with alone_in(directory):
        check()
        old = _status(name, directory)
        os.rename(path, name, src_dir_fd=folder, dst_dir_fd=directory)
    return old


def copy_range(source: int, offset: int, target: int, at: int, size: int) -> None:
    """Copies bytes between files, inside the kernel where it can; where both share a disk that can, without copying.

    Raises:
        S3Error: IncompleteBody when the source is shorter.
    """
    done = 0
    while done < size:
        copied = _copy_some(source, offset + done, target, at + done, size - done)
        if not copied:
            raise S3Error("IncompleteBody", "a file that is copied is shorter than it was")
        done += copied


def _copy_some(source: int, offset: int, target: int, at: int, size: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, min(size, _COPY_IN_KERNEL_BYTES), offset, at)
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
    return os.pwrite(target, os.pread(source, min(size, _COPY_BYTES), offset), at)


@contextmanager
def alone_in(directory: int) -> Iterator[None]:
    """Keeps every other writer out of a folder for the moment of a decision, in this process and in others."""
    fcntl.flock(directory, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(directory, fcntl.LOCK_UN)


def _status(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
