"""GetObject, HeadObject, GetObjectAttributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from simpletuner_lab.server.storage import xml
from simpletuner_lab.server.storage.answers import Answer, Work
from simpletuner_lab.server.storage.calls import Call, number
from simpletuner_lab.server.storage.conditions import is_modified, is_same
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.listing import MAX_PAGE
from simpletuner_lab.server.storage.objects import ObjectReader
from simpletuner_lab.server.storage.parts import MAX_PARTS, pieces
from simpletuner_lab.server.storage.reading import extent, http_date, object_headers, overrides, part_extent

_ATTRIBUTES: Final = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})


def get_object(work: Work) -> Answer:
    """The object, or a range or a part of it."""
    reader = work.objects.open_reader(work.call.bucket, work.call.key)
    try:
        answer = _read(work.call, reader)
    except S3Error:
        reader.close()
        raise
    if answer.status == 304:
        reader.close()
    return answer


def head_object(work: Work) -> Answer:
    """The headers alone."""
    reader = work.objects.open_reader(work.call.bucket, work.call.key)
    try:
        answer = _read(work.call, reader)
    finally:
        reader.close()
    return Answer(status=answer.status, headers=answer.headers)


def get_attributes(work: Work) -> Answer:
    """What is asked for of an object's attributes, and only that."""
    call = work.call
    wanted = {name.strip() for name in call.headers.get("x-amz-object-attributes", "").split(",")}
    if not wanted <= _ATTRIBUTES:
        raise S3Error("InvalidArgument", f"x-amz-object-attributes is a list of {', '.join(sorted(_ATTRIBUTES))}")
    max_parts = min(number(call.headers, "x-amz-max-parts", MAX_PAGE, 0, 10**9), MAX_PAGE)
    marker = number(call.headers, "x-amz-part-number-marker", 0, 0, 10**9)
    reader = work.objects.open_reader(call.bucket, call.key)
    reader.close()
    document = xml.attributes(reader.info, wanted, marker=marker, max_parts=max_parts)
    return Answer(headers={"Last-Modified": http_date(reader.info.modified_at)}, document=document)


def _read(call: Call, reader: ObjectReader) -> Answer:
    info = reader.info
    changed = overrides(call.query)
    part = number(call.query, "partNumber", 0, 1, MAX_PARTS)
    asked = call.headers.get("range") if is_same(call.headers, info) else None
    if part and asked is not None:
        raise S3Error("InvalidRequest", "a part number and a range exclude each other")
    if not is_modified(call.headers, info):
        return Answer(status=304, headers=object_headers(info, checksums=False))
    wanted = part_extent(part, info.record, info.size) if part else extent(asked, info.size)
    checksums = call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and not wanted.partial
    headers: Mapping[str, str] = {
        **object_headers(info, checksums=checksums),
        **changed,
        "Content-Length": str(wanted.size),
        **({"Content-Range": wanted.content_range(info.size)} if wanted.partial else {}),
        **({"x-amz-mp-parts-count": str(len(pieces(info.record)))} if part and info.record.part_sizes else {}),
    }
    return Answer(status=206 if wanted.partial else 200, headers=headers, reader=reader, extent=wanted)
