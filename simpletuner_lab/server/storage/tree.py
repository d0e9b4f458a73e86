"""Walking the folders of a bucket by descriptor: no component of a path is ever a link that was followed."""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from simpletuner_lab.server.storage.entries import SLASH, Entries, name_of
from simpletuner_lab.server.storage.folding import check_exact
from simpletuner_lab.server.storage.keys import MAX_KEY_BYTES, is_key

NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG, errno.EACCES})
"""What opening a name can answer when there is no object behind it: nothing, a link, a socket, a file above it."""

AFTER_ALL: Final = b"\xff"
"""Sorts behind every key that shares what stands before it: the byte occurs nowhere in UTF-8."""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def folder(root: Path, segments: Sequence[str], *, create: Sequence[str] = (), exact: bool = False) -> Iterator[int]:
    """Descriptor of a folder below `root`; of `create`, what is missing is made, durably.

    Raises:
        OSError: a folder is missing, is a link, or is no folder.
        FallsTogether: with `exact`, a folder is there by another name only.
    """
    current = os.open(root, _FOLDER)
    try:
        for position, name in enumerate((*segments, *create)):
            if exact:
                check_exact(current, name)
            if position >= len(segments):
                _make(current, name)
            if exact and position >= len(segments):  # another may have made it, by another name, just now
                check_exact(current, name)
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def open_file(name: str, directory: int) -> int | None:
    """Descriptor of a regular file for reading; None when there is none by this name."""
    try:
        descriptor = os.open(name, _FILE, dir_fd=directory)
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


class Found(NamedTuple):
    """An object met on a walk: its key, and where to open it while the walk stands there."""

    key: str
    directory: int
    name: str


class Walk:
    """The objects of a bucket whose keys start with `prefix` and sort behind `after`, ordered by their UTF-8 bytes.

    `after` may be raised during the walk: whole folders are then passed by without being opened.
    """

    def __init__(
        self, root: Path, bucket: str, prefix: str, after: bytes = b"", entries: Entries | None = None
    ) -> None:
        self._root = root
        self._bucket = bucket
        self._prefix = prefix.encode()
        self._base = prefix.rpartition("/")[0]
        self._entries = entries or Entries()
        self.after = after

    def __iter__(self) -> Iterator[Found]:
        if self._base and not is_key(self._base):
            return
        segments = self._base.split("/") if self._base else []
        try:
            with folder(self._root, (self._bucket, *segments)) as directory:
                yield from self._below(directory, self._base + "/" if self._base else "")
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise

    def _below(self, directory: int, path: str) -> Iterator[Found]:
        start = path.encode()
        wanted, room = self._prefix[len(start) :], MAX_KEY_BYTES - len(start)
        entries = self._entries.of(directory)
        for entry in entries[self._first(entries, start, wanted) :]:
            if not entry.startswith(wanted):
                return
            if len(entry) > room or not (start or entry):
                continue
            name = name_of(entry)
            if not entry.endswith(SLASH):
                if start + entry > self.after:
                    yield Found(path + name if entry else path, directory, name)
            elif start + entry + AFTER_ALL > self.after:
                yield from self._inside(directory, name, f"{path}{name}/")

    def _first(self, entries: Sequence[bytes], start: bytes, wanted: bytes) -> int:
        """Where entries that matter begin: with `wanted`, and not before the folder in which `after` lies."""
        first = bisect_left(entries, wanted)
        behind = self.after.startswith(start)
        return max(first, bisect_right(entries, self.after[len(start) :]) - 1) if behind else first

    def _inside(self, directory: int, name: str, path: str) -> Iterator[Found]:
        try:
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=directory)
        except OSError as error:
            if error.errno in NOT_THERE:
                return
            raise
        try:
            yield from self._below(below, path)
        finally:
            os.close(below)


def remove_empty(root: Path, bucket: str, folders: Sequence[str]) -> None:
    """Takes away the folders above a deleted object that hold nothing any more, never the bucket."""
    for depth in range(len(folders) - 1, -1, -1):
        try:
            with folder(root, (bucket, *folders[:depth])) as above:
                os.rmdir(folders[depth], dir_fd=above)
        except OSError as error:
            if error.errno in NOT_THERE | {errno.ENOTEMPTY, errno.EEXIST}:
                return
            raise


def _make(directory: int, name: str) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=directory)
    except FileExistsError:
        return
    os.fsync(directory)
