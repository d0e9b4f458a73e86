"""Which bytes of an object a request asks for, and the headers that come with them. Pure.

Rules: RFC 9110 §14; where S3 differs (several ranges are answered whole), the S3 documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from simpletuner_lab.server.storage.checksums import HEADER
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.parts import Piece, pieces
from simpletuner_lab.server.storage.records import ObjectInfo, Record
from simpletuner_lab.server.storage.table import OVERRIDES, SOURCE

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """`size` bytes from `offset`; `partial` when they were asked for as a range."""

    offset: int
    size: int
    partial: bool

    def content_range(self, whole: int) -> str:
        """The header that says which bytes these are of how many."""
        return f"bytes {self.offset}-{self.offset + self.size - 1}/{whole}"


def extent(header: str | None, size: int) -> Extent:
    """What a Range header selects of `size` bytes; one that cannot be read is ignored.

    Raises:
        S3Error: InvalidRange, when it begins at or behind the end.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    first, last = (match[1], match[2]) if match else ("", "")
    if not first and not last:
        return Extent(offset=0, size=size, partial=False)
    if first and last and int(last) < int(first):
        return Extent(offset=0, size=size, partial=False)
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size:
        raise S3Error("InvalidRange", "the range begins behind the end of the object", ActualObjectSize=str(size))
    return Extent(offset=start, size=end - start + 1, partial=True)


def part_extent(number: int, record: Record, size: int) -> Extent:
    """The bytes of a part by its number; an object that came in one piece is its own only part.

    Raises:
        S3Error: InvalidPartNumber.
    """
    found = pieces(record) or [Piece(number=1, offset=0, size=size, checksum="")]
    if number > len(found):
        raise S3Error("InvalidPartNumber", "the object has no such part", ActualPartCount=str(len(found)))
    piece = found[number - 1]
    return Extent(offset=piece.offset, size=piece.size, partial=size > 0)


def copied_extent(header: str | None, size: int) -> Extent:
    """What x-amz-copy-source-range selects; unlike Range it must be of the one form and lie within the source.

    Raises:
        S3Error: InvalidArgument, InvalidRange.
    """
    if header is None:
        return Extent(offset=0, size=size, partial=False)
    match = _RANGE.fullmatch(header.strip())
    if match is None or not match[1] or not match[2] or int(match[2]) < int(match[1]):
        raise S3Error("InvalidArgument", "x-amz-copy-source-range is bytes=FIRST-LAST", ArgumentName=f"{SOURCE}-range")
    first, last = int(match[1]), int(match[2])
    if last >= size:
        raise S3Error("InvalidRange", "the range ends behind the end of the source", ActualObjectSize=str(size))
    return Extent(offset=first, size=last - first + 1, partial=True)


def object_headers(info: ObjectInfo, *, checksums: bool) -> dict[str, str]:
    """The headers of an object; `checksums` only where the whole of it is sent, since they are of the whole."""
    record = info.record
    headers = {
        "Content-Type": record.content_type,
        "ETag": f'"{record.etag}"',
        "Last-Modified": http_date(info.modified_at),
        "Accept-Ranges": "bytes",
        **record.content_headers,
        **{f"x-amz-meta-{name}": value for name, value in record.metadata.items()},
    }
    if checksums:
        headers |= {HEADER + name: value for name, value in record.checksums.items()}
    if checksums and record.checksum_type:
        headers["x-amz-checksum-type"] = record.checksum_type
    return headers


def http_date(seconds: float) -> str:
    """The date format of HTTP headers."""
    return format_datetime(datetime.fromtimestamp(int(seconds), tz=UTC), usegmt=True)


def overrides(query: Mapping[str, str]) -> dict[str, str]:
    """The headers that the parameters `response-...` put in the place of the object's own.

    Raises:
        S3Error: InvalidArgument for a value that is no header.
    """
    found = {}
    for parameter in OVERRIDES & query.keys():
        value = query[parameter]
        if not value.isprintable():
            raise S3Error("InvalidArgument", f"{parameter} holds a control character", ArgumentName=parameter)
        name = parameter.removeprefix("response-").title()
        found[name] = value.encode().decode("latin-1")
    return found
