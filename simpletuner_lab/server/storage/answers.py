"""What an operation is given and what it gives back, and what several operations share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from simpletuner_lab.core.grant import Grant
from simpletuner_lab.server.storage.body import Promise, Received
from simpletuner_lab.server.storage.calls import Call
from simpletuner_lab.server.storage.checksums import HEADER
from simpletuner_lab.server.storage.drafts import Quota
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.objects import ObjectReader, ObjectStore, Writer
from simpletuner_lab.server.storage.reading import Extent
from simpletuner_lab.server.storage.records import DEFAULT_TYPE, Record

MAX_METADATA_BYTES: Final = 2048
MAX_HEADERS_BYTES: Final = 8192
"""Of the headers of a write that are kept and given back, their names too; S3's own limit for all of a request's."""
_KEPT: Final = ("Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Everything an operation needs. `writer` is there for the calls that store their body; `now` in epoch seconds."""

    objects: ObjectStore
    grant: Grant
    call: Call
    promise: Promise
    received: Received
    body: bytes
    writer: Writer | None
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers and a body: a document, or an object's bytes. `stored_bytes`: an object has just appeared."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    document: bytes = b""
    reader: ObjectReader | None = None
    extent: Extent | None = None
    stored_bytes: int | None = None


def quota_of(grant: Grant) -> Quota | None:
    """What a grant may fill, None where it has no limit of its own."""
    if grant.quota_bytes is None:
        return None
    return Quota(bucket=grant.bucket, prefix=grant.prefix, limit_bytes=grant.quota_bytes)


def described(call: Call, etag: str, checksums: Mapping[str, str] | None = None) -> Record:
    """The record of an object from the headers of the request that makes it; `aws-chunked` is not part of it.

    Raises:
        S3Error: MetadataTooLarge, RequestHeaderSectionTooLarge.
    """
    metadata = {
        name.removeprefix("x-amz-meta-"): value
        for name, value in call.headers.items()
        if name.startswith("x-amz-meta-")
    }
    if sum(len(name.encode()) + len(value) for name, value in metadata.items()) > MAX_METADATA_BYTES:
        raise S3Error("MetadataTooLarge", f"metadata has at most {MAX_METADATA_BYTES} bytes")
    headers = {name: call.headers[name.lower()] for name in _KEPT if name.lower() in call.headers}
    content_type = call.headers.get("content-type") or DEFAULT_TYPE
    kept = (content_type, *(part for header in headers.items() for part in header))
    if sum(len(part.encode()) for part in kept) > MAX_HEADERS_BYTES:
        raise S3Error("RequestHeaderSectionTooLarge", f"headers to keep have at most {MAX_HEADERS_BYTES} bytes")
    encodings = [one.strip() for one in headers.pop("Content-Encoding", "").split(",")]
    encoding = ", ".join(one for one in encodings if one and one != "aws-chunked")
    return Record(
        etag=etag,
        content_type=content_type,
        content_headers=headers | ({"Content-Encoding": encoding} if encoding else {}),
        metadata=metadata,
        checksums=checksums or {},
        checksum_type="FULL_OBJECT" if checksums else "",
    )


def stored_headers(record: Record) -> dict[str, str]:
    """What the answer to a write says of the bytes that came."""
    headers = {"ETag": f'"{record.etag}"', **{HEADER + name: value for name, value in record.checksums.items()}}
    return headers | ({HEADER + "type": record.checksum_type} if record.checksum_type else {})
