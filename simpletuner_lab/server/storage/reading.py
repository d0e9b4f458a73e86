"""Which bytes of an object a GET or HEAD asks for, and whether it wants them at all. Pure.

Rules: RFC 9110 §13 and §14; where S3 differs (several ranges are answered whole), the S3 documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

from simpletuner_lab.server.storage.checksums import HEADER
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.objects import ObjectInfo

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """`size` bytes from `offset`; `partial` when they were asked for as a range."""

    offset: int
    size: int
    partial: bool


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


def is_modified(headers: Mapping[str, str], info: ObjectInfo) -> bool:
    """Evaluates the conditions of a read: False asks for 304.

    Raises:
        S3Error: PreconditionFailed.
    """
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    since, until = _time(headers.get("if-modified-since")), _time(headers.get("if-unmodified-since"))
    modified = int(info.modified_at)
    late = match is None and until is not None and modified > until
    if late or (match is not None and not _names(match, info.record.etag)):
        raise S3Error("PreconditionFailed", "the object is not the one the request is about")
    if none_match is not None:
        return not _names(none_match, info.record.etag)
    return since is None or modified > since


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


def _names(header: str, etag: str) -> bool:
    """Whether an entity tag list holds this one; clients send them quoted, bare or weak."""
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return "*" in tags or etag in tags


def _time(header: str | None) -> float | None:
    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except ValueError:
        return None
