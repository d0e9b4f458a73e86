"""What is known of an object besides its bytes, kept with the file: in one extended attribute, else beside it.

A record names the size and time of the file it describes. A file that a person changed or dropped in has none that
fits, and is simply described anew. The time is that of the last write: the time of the last change (ctime) cannot be in
an attribute, as setting it is a change, and a copy or backup would lose every record. So who edits a file in place and
puts its time back is not seen, here as by rsync or make; `touch` mends it.

Without extended attributes (macOS, some file systems, a record too long for one) it is a small file named after the
object file's inode, time and size, so it too becomes valid and void in one step.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from simpletuner_lab.server.storage.entries import SETTLED_NS

ATTRIBUTE: Final = "user.stlab.object"
DEFAULT_TYPE: Final = "binary/octet-stream"
MOST_RECORDS: Final = 20_000
"""So many are kept in memory, about 10 MB."""

MAX_ATTRIBUTE_BYTES: Final = 3500
"""ext4 takes 4,000 bytes and answers "no space" to 4,096, which would look like a full disk."""

_YOUNG_S: Final = 60
_NO_ATTRIBUTES: Final = frozenset({errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENOSPC, errno.E2BIG, errno.ERANGE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """ETag without quotes, headers to give back (`content_headers`: Cache-Control and the like), checksums in base64.

    Of an object that was uploaded in parts, `upload_id` names the upload, so that a repeated completion is recognised;
    `part_sizes` are runs of (size, count), and `part_digests` the parts' checksums in a row, in base64. The record of
    a part that lies in a file with others has the `slot`: their distance there, and its size.
    """

    etag: str
    content_type: str = DEFAULT_TYPE
    content_headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    checksum_type: str = ""
    upload_id: str = ""
    part_sizes: Sequence[Sequence[int]] = ()
    part_digests: str = ""
    slot: Sequence[int] = ()

    def as_json(self) -> dict[str, object]:
        """The ETag, and the other fields that say something."""
        said = {one.name: value for one in fields(self) if (value := getattr(self, one.name))}
        return {"etag": self.etag} | said


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """An object as listings and headers tell of it; `modified_at` in seconds since the epoch."""

    key: str
    size: int
    modified_at: float
    record: Record


class Records:
    """Writes, reads and forgets records; `aside` is the folder for those that cannot be attributes."""

    def __init__(self, aside: Path, *, attributes: bool = sys.platform == "linux") -> None:
        self._aside = aside
        self._attributes = attributes
        self._kept: dict[tuple[int, ...], Record] = {}

    def write(self, descriptor: int, record: Record, status: os.stat_result) -> None:
        """Attaches a record to an open file; `status` is of the moment whose content it describes."""
        stamp = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
        text = json.dumps({**record.as_json(), **stamp}, ensure_ascii=False, separators=(",", ":")).encode()
        if not (self._attributes and len(text) <= MAX_ATTRIBUTE_BYTES and _set(descriptor, text)):
            self._write_aside(status, text)

    def read(self, descriptor: int, status: os.stat_result | None = None) -> Record | None:
        """The record that fits the open file as it is now, or was at `status`; None when there is none."""
        status = status or os.fstat(descriptor)
        kept = self.kept(status)
        if kept is not None:
            return kept
        text = _get(descriptor) if self._attributes else None
        record = _parsed(text, status) or _parsed(self._read_aside(status), status)
        if record is not None and status.st_ctime_ns + SETTLED_NS < time.time_ns():
            if len(self._kept) >= MOST_RECORDS:
                self._kept.clear()
            self._kept[_state(status)] = record
        return record

    def kept(self, status: os.stat_result) -> Record | None:
        """The record of a file that was read before and has not been touched since, from memory; else None."""
        return self._kept.get(_state(status))

    def forget(self, status: os.stat_result) -> None:
        """Removes what stands aside for a file that is gone; an attribute went with it."""
        self._path(status).unlink(missing_ok=True)

    def sweep(self, now: float, root: Path) -> None:
        """Removes what stands aside, older than a minute, for files below `root` that are gone or have changed."""
        found = [path for path in self._aside.glob("*.json") if path.stat().st_mtime + _YOUNG_S < now]
        if not found:
            return
        living = set()
        for _, _, names, directory in os.fwalk(root, follow_symlinks=False):
            for name in names:
                with suppress(FileNotFoundError):
                    living.add(self._path(os.stat(name, dir_fd=directory, follow_symlinks=False)))
        for path in found:
            if path not in living:
                path.unlink(missing_ok=True)

    def _path(self, status: os.stat_result) -> Path:
        return self._aside / f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}.json"

    def _write_aside(self, status: os.stat_result, text: bytes) -> None:
        self._aside.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path(status), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        directory = os.open(self._aside, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _read_aside(self, status: os.stat_result) -> bytes | None:
        try:
            return self._path(status).read_bytes()
        except FileNotFoundError:
            return None


def _state(status: os.stat_result) -> tuple[int, ...]:
    """Changes with whatever is done to a file, its attributes too, and with the file that has this inode."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _set(descriptor: int, text: bytes) -> bool:
    try:
        os.setxattr(descriptor, ATTRIBUTE, text)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return False
        raise
    return True


def _get(descriptor: int) -> bytes | None:
    try:
        return os.getxattr(descriptor, ATTRIBUTE)
    except OSError as error:
        if error.errno in {errno.ENODATA, *_NO_ATTRIBUTES}:
            return None
        raise


def _parsed(text: bytes | None, status: os.stat_result) -> Record | None:
    try:
        found = json.loads(text.decode() if text else "null")
        fits = (found.pop("size"), found.pop("mtime_ns")) == (status.st_size, status.st_mtime_ns)
        return Record(**found) if fits else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
