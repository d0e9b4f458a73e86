"""A folder as one zip whose length is known before its first byte, written in one pass with constant memory.

Entries are stored: weights and pictures do not shrink. Their checksums follow the data (APPNOTE 4.3.9), sizes are in the
headers from the start, and zip64 fields come only where a size or an offset needs them.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final

_LIMIT: Final = 0xFFFFFFFF
_FLAGS: Final = 0x0808
"""The checksum follows the data; names are UTF-8."""
_VERSION: Final = 45
_UNIX: Final = 3 << 8
_MODE: Final = 0o100644 << 16
_RESERVED: Final = str.maketrans(dict.fromkeys('\\:*?"<>|', "_"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file: where it is read from, its name in the zip, size and time of the last write (seconds, UTC)."""

    path: str
    name: str
    bytes: int
    modified_at: float


def safe_names(paths: Sequence[str], folder: str) -> list[str]:
    """A name for each path, below one folder, that every system can unpack: no drive, no control character, none twice."""
    taken: set[str] = set()
    names = []
    for path in paths:
        parts = [_safe(part) for part in path.split("/") if part not in {"", ".", ".."}]
        name = "/".join([_safe(folder), *parts])
        while name.casefold() in taken:
            stem, dot, suffix = name.rpartition(".")
            name = f"{stem}_{dot}{suffix}" if dot and "/" not in suffix else f"{name}_"
        taken.add(name.casefold())
        names.append(name)
    return names


def length(entries: Sequence[Entry]) -> int:
    """How many bytes `stream` gives."""
    at, directory = 0, 0
    for entry in entries:
        directory += len(_central(entry, at, 0))
        at += len(_local(entry)) + entry.bytes + len(_descriptor(entry, 0))
    return at + directory + len(_end(len(entries), at, directory))


def stream(entries: Sequence[Entry], read: Callable[[Entry], Generator[bytes]]) -> Generator[bytes]:
    """The zip, piece by piece. `read` gives exactly `entry.bytes` bytes, or raises."""
    at = 0
    directory = []
    for entry in entries:
        crc = 0
        yield _local(entry)
        for block in read(entry):
            crc = zlib.crc32(block, crc)
            yield block
        yield _descriptor(entry, crc)
        directory.append(_central(entry, at, crc))
        at += len(_local(entry)) + entry.bytes + len(_descriptor(entry, crc))
    yield from directory
    yield _end(len(entries), at, sum(map(len, directory)))


def _safe(part: str) -> str:
    shown = "".join(character if character.isprintable() else "_" for character in part).translate(_RESERVED)
    return shown.encode("utf-8", "replace").decode("utf-8") or "_"


def _moment(modified_at: float) -> tuple[int, int]:
    """Time and date as DOS has them, in UTC; from 1980 to 2107."""
    at = time.gmtime(min(max(modified_at, 315532800.0), 4354819198.0))
    return at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2, at.tm_year - 1980 << 9 | at.tm_mon << 5 | at.tm_mday


def _local(entry: Entry) -> bytes:
    name, big = entry.name.encode(), entry.bytes >= _LIMIT
    size = _LIMIT if big else entry.bytes
    extra = struct.pack("<HHQQ", 1, 16, entry.bytes, entry.bytes) if big else b""
    head = struct.pack(
        "<4s5H3L2H", b"PK\3\4", _VERSION, _FLAGS, 0, *_moment(entry.modified_at), 0, size, size, len(name), len(extra)
    )
    return head + name + extra


def _descriptor(entry: Entry, crc: int) -> bytes:
    form = "<4sLQQ" if entry.bytes >= _LIMIT else "<4sLLL"
    return struct.pack(form, b"PK\7\x08", crc, entry.bytes, entry.bytes)


def _central(entry: Entry, at: int, crc: int) -> bytes:
    name = entry.name.encode()
    wide = [*([entry.bytes] * 2 if entry.bytes >= _LIMIT else []), *([at] if at >= _LIMIT else [])]
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    size = min(entry.bytes, _LIMIT)
    head = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", _UNIX | _VERSION, _VERSION, _FLAGS, 0, *_moment(entry.modified_at), crc, size, size,
        len(name), len(extra), 0, 0, 0, _MODE, min(at, _LIMIT),
    )  # fmt: skip
    return head + name + extra


def _end(count: int, at: int, size: int) -> bytes:
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[min(count, 0xFFFF)] * 2, min(size, _LIMIT), min(at, _LIMIT), 0)
    if count < 0xFFFF and at < _LIMIT and size < _LIMIT:
        return last
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, _UNIX | _VERSION, _VERSION, 0, 0, count, count, size, at)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at + size, 1)
    return record + locator + last
