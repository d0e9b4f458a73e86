"""The XML of S3's answers, and the one document that comes in. Element names: botocore's model of the service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from simpletuner_lab.server.storage.buckets import Bucket
from simpletuner_lab.server.storage.checksums import ELEMENTS
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.listing import Page
from simpletuner_lab.server.storage.multipart import Chosen, Part, Upload

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
OWNER: Final = "simpletuner-lab"
_PERSON: Final = (("ID", OWNER), ("DisplayName", OWNER))
_DECLARATION: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_NUMBER: Final = re.compile(r"[0-9]{1,5}")

Field = tuple[str, "str | Iterable[Field]"]
"""An element: its name, and its text or its children."""


def document(root: str, fields: Iterable[Field], namespace: str = NAMESPACE) -> bytes:
    """An XML document."""
    element = ET.Element(root, {"xmlns": namespace} if namespace else {})
    _fill(element, fields)
    return _DECLARATION + bytes(ET.tostring(element, encoding="utf-8", xml_declaration=False))


def error(code: str, message: str, resource: str, request_id: str, details: Mapping[str, str]) -> bytes:
    """The document of an error; it has no namespace."""
    fields = {"Code": code, "Message": message, **details, "Resource": resource, "RequestId": request_id}
    return document("Error", ((name, _printable(text)) for name, text in fields.items()), namespace="")


def buckets(found: Iterable[Bucket]) -> bytes:
    """ListBuckets."""
    entries = [("Bucket", (("Name", bucket.name), ("CreationDate", timestamp(bucket.created_at)))) for bucket in found]
    return document("ListAllMyBucketsResult", [("Owner", _PERSON), ("Buckets", entries)])


def listing(bucket: str, page: Page, given: Mapping[str, str], *, encode: bool, owner: bool) -> bytes:
    """ListObjects and ListObjectsV2; `given` are the elements that repeat or answer the request, in order."""

    def text(value: str) -> str:
        return quote(value, safe="/-_.~") if encode else value

    fields: list[Field] = [("Name", bucket)]
    names = {"Prefix", "Delimiter", "Marker", "NextMarker", "StartAfter"}
    fields += [(name, text(value) if name in names else value) for name, value in given.items()]
    if encode:
        fields.append(("EncodingType", "url"))
    fields.append(("IsTruncated", "true" if page.next_after else "false"))
    for info in page.objects:
        entry: list[Field] = [
            ("Key", text(info.key)),
            ("LastModified", timestamp(info.modified_at)),
            ("ETag", f'"{info.record.etag}"'),
            ("Size", str(info.size)),
            ("StorageClass", "STANDARD"),
        ]
        fields.append(("Contents", [*entry, ("Owner", _PERSON)] if owner else entry))
    fields += [("CommonPrefixes", [("Prefix", text(prefix))]) for prefix in page.prefixes]
    return document("ListBucketResult", fields)


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
        fields += [("ChecksumAlgorithm", upload.checksum.upper()), ("ChecksumType", "COMPOSITE")]
    for part in page:
        entry: list[Field] = [
            ("PartNumber", str(part.number)),
            ("LastModified", timestamp(part.modified_at)),
            ("ETag", f'"{part.etag}"'),
            ("Size", str(part.size)),
        ]
        fields.append(("Part", entry + [(ELEMENTS[name], value) for name, value in part.checksums.items()]))
    return document("ListPartsResult", fields)


def completion(body: bytes) -> list[Chosen]:
    """Reads a CompleteMultipartUpload document, with or without its namespace.

    Raises:
        S3Error: MalformedXML; anything with a document type is, so there are no entities to expand.
    """
    root = _parse(body)
    if _local(root) != "CompleteMultipartUpload":
        raise S3Error("MalformedXML", "expected CompleteMultipartUpload")
    chosen = []
    for element in root:
        fields = {_local(child): (child.text or "").strip() for child in element}
        number, etag = fields.get("PartNumber", ""), fields.get("ETag", "").strip('"')
        if _local(element) != "Part" or not _NUMBER.fullmatch(number) or not etag:
            raise S3Error("MalformedXML", "expected Part elements, each with PartNumber and ETag")
        checksums = {name: fields[tag] for name, tag in ELEMENTS.items() if tag in fields}
        chosen.append(Chosen(number=int(number), etag=etag, checksums=checksums))
    return chosen


def timestamp(seconds: float) -> str:
    """ISO 8601 with milliseconds, as listings carry it."""
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _NoDoctype(ET.TreeBuilder):
    """Refuses a document type before a single entity of it is declared."""

    def doctype(self, *_: str | None) -> None:
        raise S3Error("MalformedXML", "a document type is not allowed")


def _parse(body: bytes) -> ET.Element:
    parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314 - without a document type there is no entity
    try:
        parser.feed(body)
        root = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise S3Error("MalformedXML", "the XML cannot be read") from error
    assert isinstance(root, ET.Element)
    return root


def _fill(parent: ET.Element, fields: Iterable[Field]) -> None:
    for name, content in fields:
        element = ET.SubElement(parent, name)
        if isinstance(content, str):
            element.text = content
        else:
            _fill(element, content)


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _printable(text: str) -> str:
    """What a client sent may come back in an error, but not what XML cannot carry."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
