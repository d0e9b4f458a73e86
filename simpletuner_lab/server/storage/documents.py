"""The XML documents that come in. Element names: botocore's model of the service."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final
from xml.etree import ElementTree as ET

from simpletuner_lab.server.storage.checksums import ELEMENTS
from simpletuner_lab.server.storage.conditions import Condition
from simpletuner_lab.server.storage.errors import S3Error, not_implemented
from simpletuner_lab.server.storage.parts import Chosen

MAX_DELETED: Final = 1000
_NUMBER: Final = re.compile(r"[0-9]{1,5}")
_SIZE: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """An object that is to go, if the condition holds."""

    key: str
    condition: Condition


def completion(body: bytes) -> list[Chosen]:
    """Reads a CompleteMultipartUpload document, with or without its namespace.

    Raises:
        S3Error: MalformedXML; anything with a document type is, so there are no entities to expand.
    """
    chosen = []
    for element in _root(body, "CompleteMultipartUpload"):
        fields = {_local(child): (child.text or "").strip() for child in element}
        number, etag = fields.get("PartNumber", ""), fields.get("ETag", "").strip('"')
        if _local(element) != "Part" or not _NUMBER.fullmatch(number) or not etag:
            raise S3Error("MalformedXML", "expected Part elements, each with PartNumber and ETag")
        checksums = {name: fields[tag] for name, tag in ELEMENTS.items() if tag in fields}
        chosen.append(Chosen(number=int(number), etag=etag, checksums=checksums))
    return chosen


def deletion(body: bytes) -> tuple[list[Doomed], bool]:
    """Reads a Delete document: what is to go, and whether only failures are to be told.

    Raises:
        S3Error: MalformedXML, for a list of none or too many as well; NotImplemented for a version.
    """
    wanted, quiet = [], False
    for element in _root(body, "Delete"):
        name = _local(element)
        if name == "Quiet":
            quiet = (element.text or "").strip().lower() == "true"
        elif name == "Object":
            wanted.append(_doomed({_local(child): child.text or "" for child in element}))
        else:
            raise S3Error("MalformedXML", "expected Object elements and Quiet")
    if not 1 <= len(wanted) <= MAX_DELETED:
        raise S3Error("MalformedXML", f"a deletion names from 1 to {MAX_DELETED} keys")
    return wanted, quiet


def _doomed(fields: dict[str, str]) -> Doomed:
    if not fields.get("Key"):
        raise S3Error("MalformedXML", "expected a Key in each Object")
    if fields.get("VersionId", "null").strip() not in {"", "null"}:
        raise not_implemented("the deletion of a version")
    size = fields.get("Size", "").strip()
    if size and not _SIZE.fullmatch(size):
        raise S3Error("MalformedXML", "a Size is a whole number")
    condition = Condition(
        match=fields.get("ETag"),
        size=int(size) if size else None,
        modified_at=_time(fields["LastModifiedTime"].strip()) if "LastModifiedTime" in fields else None,
    )
    return Doomed(key=fields["Key"], condition=condition)


def _time(text: str) -> float:
    """Clients write the time as in a header or as in a listing."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return float(int(parse(text).timestamp()))
        except (ValueError, OverflowError):
            continue
    raise S3Error("MalformedXML", "a LastModifiedTime cannot be read")


class _NoDoctype(ET.TreeBuilder):
    """Refuses a document type before a single entity of it is declared."""

    def doctype(self, *_: str | None) -> None:
        raise S3Error("MalformedXML", "a document type is not allowed")


def _root(body: bytes, name: str) -> ET.Element:
    parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314 - without a document type there is no entity
    try:
        parser.feed(body)
        root = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise S3Error("MalformedXML", "the XML cannot be read") from error
    assert isinstance(root, ET.Element)
    if _local(root) != name:
        raise S3Error("MalformedXML", f"expected {name}")
    return root


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
