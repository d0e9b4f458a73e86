"""Conditional requests: whether a read, a copy's source, a write or a delete may go on. Pure.

Rules: RFC 9110 §13; where S3 differs, the S3 documentation. A write knows `If-None-Match: *` and `If-Match` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from simpletuner_lab.server.storage.calls import number
from simpletuner_lab.server.storage.errors import S3Error, not_implemented
from simpletuner_lab.server.storage.records import ObjectInfo

_MAX_BYTES: Final = 10**18


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What must be true of the object that stands at the key, for a write or a delete to happen."""

    absent: bool = False
    match: str | None = None
    size: int | None = None
    modified_at: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is anything to ask."""
        return self != ALWAYS

    def check(self, found: ObjectInfo | None) -> None:
        """Passes when what stands there, None for nothing, is what the client expects.

        Raises:
            S3Error: PreconditionFailed; NoSuchKey, when there is nothing that could match.
        """
        if not self.is_set:
            return
        if self.absent:
            if found is not None:
                raise _failed("If-None-Match")
        elif found is None:
            raise S3Error("NoSuchKey", "there is no object that the condition could be about")
        elif self.match is not None and not _names(self.match, found.record.etag):
            raise _failed("If-Match")
        elif self.size not in {None, found.size}:
            raise _failed("x-amz-if-match-size")
        elif self.modified_at not in {None, float(int(found.modified_at))}:
            raise _failed("x-amz-if-match-last-modified-time")


ALWAYS: Final = Condition()


def write_condition(headers: Mapping[str, str]) -> Condition:
    """The condition that the headers of a write or a delete set.

    Raises:
        S3Error: NotImplemented for If-None-Match with anything but `*`; InvalidRequest for both; InvalidArgument.
    """
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if none_match is not None and none_match.strip() != "*":
        raise not_implemented("If-None-Match with anything but * on a write")
    if match is not None and none_match is not None:
        raise S3Error("InvalidRequest", "If-Match and If-None-Match exclude each other on a write")
    size = number(headers, "x-amz-if-match-size", -1, 0, _MAX_BYTES)
    name = "x-amz-if-match-last-modified-time"
    modified_at = _time(headers.get(name))
    if name in headers and modified_at is None:
        raise S3Error("InvalidArgument", f"{name} is a date", ArgumentName=name)
    return Condition(
        absent=none_match is not None, match=match, size=None if size < 0 else size, modified_at=modified_at
    )


def is_modified(headers: Mapping[str, str], info: ObjectInfo) -> bool:
    """Evaluates the conditions of a read: False asks for 304.

    Raises:
        S3Error: PreconditionFailed.
    """
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    since, until = _time(headers.get("if-modified-since")), _time(headers.get("if-unmodified-since"))
    modified = int(info.modified_at)
    if match is not None and not _names(match, info.record.etag):
        raise _failed("If-Match")
    if match is None and until is not None and modified > until:
        raise _failed("If-Unmodified-Since")
    if none_match is not None:
        return not _names(none_match, info.record.etag)
    return since is None or modified > since


def is_same(headers: Mapping[str, str], info: ObjectInfo) -> bool:
    """Whether a range is of the object that If-Range means, a strong entity tag or a date; else the whole is due."""
    given = headers.get("if-range", "").strip()
    if not given:
        return True
    at = None if given.startswith(('"', "W/")) else _time(given)
    return given.strip('"') == info.record.etag if at is None else at == int(info.modified_at)


def check_source(headers: Mapping[str, str], info: ObjectInfo) -> None:
    """Evaluates the conditions that a copy sets for its source.

    Raises:
        S3Error: PreconditionFailed.
    """
    start = "x-amz-copy-source-"
    asked = {name.removeprefix(start): value for name, value in headers.items() if name.startswith(start)}
    if not is_modified(asked, info):
        raise _failed("x-amz-copy-source-if-none-match or -if-modified-since")


def _failed(name: str) -> S3Error:
    return S3Error("PreconditionFailed", "the object is not the one the request is about", Condition=name)


def _names(header: str, etag: str) -> bool:
    """Whether an entity tag list holds this one; clients send them quoted, bare or weak."""
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return "*" in tags or etag in tags


def _time(header: str | None) -> float | None:
    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except (ValueError, OverflowError):
        return None
