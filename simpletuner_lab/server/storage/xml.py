"""The XML of S3's answers. Element names: botocore's model of the service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from html import escape
from typing import Final
from urllib.parse import quote

from simpletuner_lab.server.storage.buckets import Bucket
from simpletuner_lab.server.storage.checksums import ELEMENTS
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.keys import is_carried
from simpletuner_lab.server.storage.listing import Page, UploadsPage
from simpletuner_lab.server.storage.parts import Part, Upload, pieces
from simpletuner_lab.server.storage.records import ObjectInfo, Record

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
OWNER: Final = "simpletuner-lab"
_PERSON: Final = (("ID", OWNER), ("DisplayName", OWNER))
_OWNER: Final = f"<Owner><ID>{OWNER}</ID><DisplayName>{OWNER}</DisplayName></Owner>"
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9/_.~-]*")
DECLARATION: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'

Field = tuple[str, "str | Iterable[Field]"]
"""An element: its name, and its text or its children."""


def document(root: str, fields: Iterable[Field], namespace: str = NAMESPACE) -> bytes:
    """An XML document."""
    out: list[str] = []
    _write(out, fields)
    return _whole(root, out, namespace)


def error(code: str, message: str, resource: str, request_id: str, details: Mapping[str, str]) -> bytes:
    """The document of an error; it has no namespace."""
    fields = {"Code": code, "Message": message, **details, "Resource": resource, "RequestId": request_id}
    return document("Error", ((name, _carried(text)) for name, text in fields.items()), namespace="")


def buckets(found: Iterable[Bucket], given: Mapping[str, str]) -> bytes:
    """ListBuckets; `given` as in `listing`."""
    entries = [("Bucket", (("Name", bucket.name), ("CreationDate", timestamp(bucket.created_at)))) for bucket in found]
    return document("ListAllMyBucketsResult", [("Owner", _PERSON), ("Buckets", entries), *given.items()])


def listing(bucket: str, page: Page, given: Mapping[str, str], *, encode: bool, owner: bool) -> bytes:
    """ListObjects and ListObjectsV2; `given` are the elements that repeat or answer the request, in order."""
    text = _encoded if encode else str
    fields: list[Field] = [("Name", bucket), *_given(given, encode=encode)]
    fields.append(("IsTruncated", "true" if page.next_after else "false"))
    out: list[str] = []
    _write(out, fields)
    out += [
        _entry(info, _encoded(info.key) if encode else escape(info.key, quote=False), owner) for info in page.objects
    ]
    _write(out, [("CommonPrefixes", [("Prefix", text(prefix))]) for prefix in page.prefixes])
    return _whole("ListBucketResult", out, NAMESPACE)


def _entry(info: ObjectInfo, key: str, owner: bool) -> str:
    """One object in a listing, by a thousand the page. What a record holds may come from an attribute of a file."""
    record = info.record
    checked = ""
    if record.checksums:
        checked = "".join(f"<ChecksumAlgorithm>{escape(name.upper())}</ChecksumAlgorithm>" for name in record.checksums)
        checked += f"<ChecksumType>{escape(record.checksum_type)}</ChecksumType>" if record.checksum_type else ""
    etag = record.etag if record.etag.isalnum() else escape(record.etag)
    return (
        f"<Contents><Key>{key}</Key><LastModified>{timestamp(info.modified_at)}</LastModified>"
        f'<ETag>"{etag}"</ETag>{checked}<Size>{info.size}</Size><StorageClass>STANDARD</StorageClass>'
        f"{_OWNER if owner else ''}</Contents>"
    )


def parts(upload: Upload, page: list[Part], *, marker: int, max_parts: int, truncated: bool) -> bytes:
    """ListParts."""
    fields: list[Field] = [
        ("Bucket", upload.bucket),
        ("Key", upload.key),
        ("UploadId", upload.id),
        ("Initiator", _PERSON),
        ("Owner", _PERSON),
        ("StorageClass", "STANDARD"),
        ("PartNumberMarker", str(marker)),
        ("NextPartNumberMarker", str(page[-1].number if page else 0)),
        ("MaxParts", str(max_parts)),
        ("IsTruncated", "true" if truncated else "false"),
    ]
    if upload.checksum:
        fields += [("ChecksumAlgorithm", upload.checksum.upper()), ("ChecksumType", upload.checksum_type)]
    for part in page:
        entry: list[Field] = [
            ("PartNumber", str(part.number)),
            ("LastModified", timestamp(part.modified_at)),
            ("ETag", f'"{part.etag}"'),
            ("Size", str(part.size)),
        ]
        fields.append(("Part", [*entry, *_checksums(part.checksums)]))
    return document("ListPartsResult", fields)


def uploads(bucket: str, page: UploadsPage, given: Mapping[str, str], *, encode: bool) -> bytes:
    """ListMultipartUploads."""
    text = _encoded if encode else str
    fields: list[Field] = [("Bucket", bucket), *_given(given, encode=encode)]
    if page.next_key:
        fields += [("NextKeyMarker", text(page.next_key)), ("NextUploadIdMarker", page.next_id)]
    fields.append(("IsTruncated", "true" if page.next_key else "false"))
    for upload in page.uploads:
        entry: list[Field] = [
            ("Key", text(upload.key)),
            ("UploadId", upload.id),
            ("Initiator", _PERSON),
            ("Owner", _PERSON),
            ("StorageClass", "STANDARD"),
            ("Initiated", timestamp(upload.initiated_at)),
        ]
        if upload.checksum:
            entry += [("ChecksumAlgorithm", upload.checksum.upper()), ("ChecksumType", upload.checksum_type)]
        fields.append(("Upload", entry))
    fields += [("CommonPrefixes", [("Prefix", text(prefix))]) for prefix in page.prefixes]
    return document("ListMultipartUploadsResult", fields)


def copied(root: str, record: Record, now: float) -> bytes:
    """CopyObject and UploadPartCopy."""
    return document(root, [("LastModified", timestamp(now)), *identity(record)])


def deleted(done: Iterable[str], failed: Iterable[tuple[str, S3Error]]) -> bytes:
    """DeleteObjects."""
    fields: list[Field] = [("Deleted", [("Key", key)]) for key in done]
    for key, error_ in failed:
        fields.append(("Error", [("Key", _carried(key)), ("Code", error_.code), ("Message", error_.message)]))
    return document("DeleteResult", fields)


def identity(record: Record) -> list[Field]:
    """ETag and checksums."""
    fields: list[Field] = [("ETag", f'"{record.etag}"'), *_checksums(record.checksums)]
    return [*fields, ("ChecksumType", record.checksum_type)] if record.checksum_type else fields


def attributes(info: ObjectInfo, wanted: set[str], *, marker: int, max_parts: int) -> bytes:
    """GetObjectAttributes: the attributes that are wanted, and of them those the object has."""
    record = info.record
    fields: list[Field] = []
    if "ETag" in wanted:
        fields.append(("ETag", record.etag))
    if "Checksum" in wanted and record.checksums:
        kind: list[Field] = [("ChecksumType", record.checksum_type)] if record.checksum_type else []
        fields.append(("Checksum", [*_checksums(record.checksums), *kind]))
    if "ObjectParts" in wanted and record.part_sizes:
        fields.append(("ObjectParts", _pieces(record, marker=marker, max_parts=max_parts)))
    if "StorageClass" in wanted:
        fields.append(("StorageClass", "STANDARD"))
    if "ObjectSize" in wanted:
        fields.append(("ObjectSize", str(info.size)))
    return document("GetObjectAttributesResponse", fields)


def _pieces(record: Record, *, marker: int, max_parts: int) -> list[Field]:
    everything = pieces(record)
    behind = [piece for piece in everything if piece.number > marker]
    page = behind[:max_parts]
    fields: list[Field] = [
        ("PartsCount", str(len(everything))),
        ("PartNumberMarker", str(marker)),
        ("NextPartNumberMarker", str(page[-1].number if page else 0)),
        ("MaxParts", str(max_parts)),
        ("IsTruncated", "true" if len(behind) > len(page) > 0 else "false"),
    ]
    algorithm = next(iter(record.checksums), "")
    for piece in page:
        checksum = {algorithm: piece.checksum} if piece.checksum else {}
        entry: list[Field] = [("PartNumber", str(piece.number)), ("Size", str(piece.size)), *_checksums(checksum)]
        fields.append(("Part", entry))
    return fields


def timestamp(seconds: float) -> str:
    """ISO 8601 with milliseconds, as listings carry it."""
    whole, part = divmod(seconds, 1)
    return f"{_second(int(whole))}.{int(part * 1000):03}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _given(given: Mapping[str, str], *, encode: bool) -> list[Field]:
    """What repeats the request: names in the encoding that was asked for."""
    names = {"Prefix", "Delimiter", "Marker", "NextMarker", "StartAfter", "KeyMarker"}
    fields: list[Field] = [
        (name, _encoded(value) if encode and name in names else _carried(value)) for name, value in given.items()
    ]
    return [*fields, ("EncodingType", "url")] if encode else fields


def _encoded(text: str) -> str:
    return text if _UNRESERVED.fullmatch(text) else quote(text, safe="/-_.~")


def _checksums(values: Mapping[str, str]) -> list[Field]:
    return [(ELEMENTS[name], value) for name, value in values.items()]


def _whole(root: str, out: Iterable[str], namespace: str) -> bytes:
    start = f'<{root} xmlns="{namespace}">' if namespace else f"<{root}>"
    return DECLARATION + "".join((start, *out, f"</{root}>")).encode()


def _write(out: list[str], fields: Iterable[Field]) -> None:
    """As text: a page of a thousand keys is ten thousand elements, and a tree of them takes three times as long."""
    for name, content in fields:
        if isinstance(content, str):
            out.append(f"<{name}>{escape(content, quote=False)}</{name}>")
        else:
            out.append(f"<{name}>")
            _write(out, content)
            out.append(f"</{name}>")


def _carried(text: str) -> str:
    """What a client sent may come back, but not what XML cannot carry."""
    return "".join(character if is_carried(character) else "\N{REPLACEMENT CHARACTER}" for character in text)
