"""Which S3 operation a request asks for, and what it needs leave for. Pure. What is not in the table is refused by name.

Query parameters and x-amz- headers are taken from lists of what is understood: anything else would otherwise be
dropped silently, and a request for an ACL or a copy would look like a plain object call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from simpletuner_lab.core.grant import Grant, Verb, allows, allows_bucket, is_live
from simpletuner_lab.server.storage.checksums import HEADER as CHECKSUM_HEADER
from simpletuner_lab.server.storage.errors import S3Error, not_implemented
from simpletuner_lab.server.storage.keys import check_bucket, check_key
from simpletuner_lab.server.storage.sigv4 import Request
from simpletuner_lab.server.storage.table import (
    HEADERS,
    HEADERS_OF,
    ONLY,
    OWNER_ONLY,
    ROWS,
    SIGNING,
    SOURCE,
    Operation,
    Row,
)

_FAMILIES: Final = ("x-amz-meta-", CHECKSUM_HEADER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a copy is made of."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request understood: the operation, what it is about, its parameters, its headers in lower case."""

    operation: Operation
    verb: Verb
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    source: Source | None = None


def read_call(request: Request, bucket: str, key: str) -> Call:
    """Understands a request or refuses it by name. `bucket` and `key` are decoded, empty where the path has none.

    Raises:
        S3Error: NotImplemented, MethodNotAllowed, or a name or parameter that cannot be.
    """
    query, headers = _parameters(request)
    level = "key" if key else "bucket" if bucket else "service"
    row = _row(request.method, level, query, headers)
    if bucket:
        check_bucket(bucket)
    if key:
        check_key(key)
    _check_headers(headers, row.operation)
    source = _source(headers[SOURCE]) if row.header == SOURCE else None
    return Call(
        operation=row.operation,
        verb=row.verb,
        bucket=bucket,
        key=key,
        query=query,
        headers=headers,
        source=source,
    )


def authorise(call: Call, grant: Grant, now: float) -> None:
    """Lets the call pass when the grant covers it. The refusal is the same whether or not the thing exists.

    Raises:
        S3Error: AccessDenied.
    """
    if call.operation in OWNER_ONLY:
        allowed = grant.is_owner and call.verb in grant.verbs and is_live(grant, now)
    elif call.key:
        allowed = allows(grant, call.verb, call.bucket, call.key, now)
    elif call.verb is Verb.LIST:
        allowed = allows(grant, call.verb, call.bucket, call.query.get("prefix", ""), now)
    else:
        allowed = allows_bucket(grant, call.verb, call.bucket, now)
    if call.source is not None:
        allowed = allowed and allows(grant, Verb.GET, call.source.bucket, call.source.key, now)
    if not allowed:
        raise denied()


def denied() -> S3Error:
    """The refusal of what a grant does not cover."""
    return S3Error("AccessDenied", "these credentials give no leave for this, or not any more")


def number(given: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """An integer among parameters or headers; InvalidArgument when it is not one from `low` to `high`."""
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise S3Error("InvalidArgument", f"{name} is a whole number from {low} to {high}", ArgumentName=name)
    return int(text)


def _parameters(request: Request) -> tuple[dict[str, str], dict[str, str]]:
    """Query parameters and headers. What a presigner moved from a header into the query counts as the header.

    Values of headers are latin-1 for the bytes that came, wherever they stood.
    """
    headers = dict(request.joined)
    query: dict[str, str] = {}
    try:
        pairs = [(name.decode(), value.decode()) for name, value in request.pairs]
    except UnicodeDecodeError as error:
        raise S3Error("InvalidURI", "the query is not UTF-8") from error
    for name, value in pairs:
        moved = name.lower().startswith("x-amz-")
        into, place = (headers, name.lower()) if moved else (query, name)
        if place in into and place not in SIGNING:
            raise S3Error("InvalidArgument", "a parameter is given twice", ArgumentName=name)
        into[place] = value.encode().decode("latin-1") if moved else value
    query.pop("x-id", None)
    return query, headers


def _row(method: str, level: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Row:
    rows = [row for row in ROWS if row.method == method and row.level == level]
    for row in rows:
        if row.needs <= query.keys() and (not row.header or row.header in headers):
            unknown = sorted(query.keys() - row.needs - row.may)
            if unknown:
                raise not_implemented(f"the parameter {unknown[0]!r} of {row.operation}")
            return row
    if query:
        raise not_implemented(f"{method} with the parameter {min(query)!r}")
    if method == "POST" or rows or level != "key":
        raise not_implemented(f"{method} on a {level}")
    raise S3Error("MethodNotAllowed", f"there is no {method} on an object")


def _check_headers(headers: Mapping[str, str], operation: Operation) -> None:
    for name, value in headers.items():
        if name in HEADERS_OF:
            if operation not in HEADERS_OF[name]:
                raise not_implemented(f"the header {name} on {operation}")
        elif name in ONLY:
            if value != ONLY[name]:
                raise not_implemented(f"{name}: {value}")
        elif name.startswith("x-amz-") and not (name in HEADERS or name.startswith(_FAMILIES)):
            raise not_implemented(f"the header {name}")


def _source(header: str) -> Source:
    """`bucket/key` or `/bucket/key`, percent-encoded; a version is none of ours."""
    path, _, version = header.partition("?")
    if version not in {"", "versionId=null"}:
        raise not_implemented("a version of the source of a copy")
    try:
        bucket, slash, key = unquote_to_bytes(path.encode("latin-1")).decode().removeprefix("/").partition("/")
    except UnicodeDecodeError as error:
        raise S3Error("InvalidArgument", "x-amz-copy-source is not UTF-8") from error
    if not slash or not key:
        raise S3Error("InvalidArgument", "x-amz-copy-source is BUCKET/KEY, percent-encoded")
    check_bucket(bucket)
    check_key(key)
    return Source(bucket=bucket, key=key)
