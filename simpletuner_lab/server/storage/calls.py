"""Which S3 operation a request asks for, and what it needs leave for. Pure. What is not in the table is refused by name.

Query parameters and x-amz- headers are taken from a list of what is understood: anything else would otherwise be
dropped silently, and a request for an ACL or a copy would look like a plain object call.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from simpletuner_lab.core.grant import Grant, Verb, allows, allows_bucket, is_live
from simpletuner_lab.server.storage.checksums import HEADER as CHECKSUM_HEADER
from simpletuner_lab.server.storage.errors import S3Error, not_implemented
from simpletuner_lab.server.storage.keys import check_bucket, check_key
from simpletuner_lab.server.storage.sigv4 import Request, query_pairs


class Operation(enum.StrEnum):
    """The S3 operations spoken here, by their names in the S3 API reference."""

    LIST_BUCKETS = "ListBuckets"
    CREATE_BUCKET = "CreateBucket"
    HEAD_BUCKET = "HeadBucket"
    LIST_OBJECTS = "ListObjects"
    LIST_OBJECTS_V2 = "ListObjectsV2"
    PUT_OBJECT = "PutObject"
    GET_OBJECT = "GetObject"
    HEAD_OBJECT = "HeadObject"
    DELETE_OBJECT = "DeleteObject"
    CREATE_UPLOAD = "CreateMultipartUpload"
    UPLOAD_PART = "UploadPart"
    LIST_PARTS = "ListParts"
    COMPLETE_UPLOAD = "CompleteMultipartUpload"
    ABORT_UPLOAD = "AbortMultipartUpload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: `level` is what the path names, `needs` and `may` are query parameters."""

    operation: Operation
    method: str
    level: str
    verb: Verb
    needs: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()


_LIST: Final = frozenset({"prefix", "delimiter", "max-keys", "encoding-type"})
_LIST_V2: Final = _LIST | {"start-after", "continuation-token", "fetch-owner"}
_PART: Final = frozenset({"partNumber", "uploadId"})
_UPLOAD: Final = frozenset({"uploadId"})
_PARTS: Final = frozenset({"max-parts", "part-number-marker"})

ROWS: Final = (
    Row(operation=Operation.LIST_BUCKETS, method="GET", level="service", verb=Verb.LIST),
    Row(operation=Operation.CREATE_BUCKET, method="PUT", level="bucket", verb=Verb.PUT),
    Row(operation=Operation.HEAD_BUCKET, method="HEAD", level="bucket", verb=Verb.HEAD),
    Row(
        operation=Operation.LIST_OBJECTS_V2,
        method="GET",
        level="bucket",
        verb=Verb.LIST,
        needs=frozenset({"list-type"}),
        may=_LIST_V2,
    ),
    Row(operation=Operation.LIST_OBJECTS, method="GET", level="bucket", verb=Verb.LIST, may=_LIST | {"marker"}),
    Row(operation=Operation.UPLOAD_PART, method="PUT", level="key", verb=Verb.PUT, needs=_PART),
    Row(operation=Operation.PUT_OBJECT, method="PUT", level="key", verb=Verb.PUT),
    Row(operation=Operation.LIST_PARTS, method="GET", level="key", verb=Verb.PUT, needs=_UPLOAD, may=_PARTS),
    Row(operation=Operation.GET_OBJECT, method="GET", level="key", verb=Verb.GET),
    Row(operation=Operation.HEAD_OBJECT, method="HEAD", level="key", verb=Verb.HEAD),
    Row(operation=Operation.ABORT_UPLOAD, method="DELETE", level="key", verb=Verb.PUT, needs=_UPLOAD),
    Row(operation=Operation.DELETE_OBJECT, method="DELETE", level="key", verb=Verb.DELETE),
    Row(operation=Operation.CREATE_UPLOAD, method="POST", level="key", verb=Verb.PUT, needs=frozenset({"uploads"})),
    Row(operation=Operation.COMPLETE_UPLOAD, method="POST", level="key", verb=Verb.PUT, needs=_UPLOAD),
)

_SIGNING: Final = frozenset(
    f"x-amz-{name}"
    for name in ("algorithm", "credential", "date", "expires", "signedheaders", "signature", "content-sha256")
)
_HEADERS: Final = frozenset(
    {
        *_SIGNING,
        "x-amz-checksum-algorithm",
        "x-amz-checksum-mode",
        "x-amz-checksum-type",
        "x-amz-decoded-content-length",
        "x-amz-mp-object-size",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-security-token",
        "x-amz-trailer",
        "x-amz-user-agent",
    }
)
_ONLY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "x-amz-acl": "private",
        "x-amz-bucket-object-lock-enabled": "false",
        "x-amz-storage-class": "STANDARD",
        "x-amz-checksum-type": "COMPOSITE",
    }
)
"""Headers whose one accepted value asks for what is done anyway."""

_CONDITIONS: Final = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
_READS: Final = frozenset({Operation.GET_OBJECT, Operation.HEAD_OBJECT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request understood: the operation, what it is about, its parameters, its headers in lower case."""

    operation: Operation
    verb: Verb
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


def read_call(request: Request, bucket: str, key: str) -> Call:
    """Understands a request or refuses it by name. `bucket` and `key` are decoded, empty where the path has none.

    Raises:
        S3Error: NotImplemented, MethodNotAllowed, or a name or parameter that cannot be.
    """
    query, headers = _parameters(request)
    level = "key" if key else "bucket" if bucket else "service"
    row = _row(request.method, level, query)
    if bucket:
        check_bucket(bucket)
    if key:
        check_key(key)
    _check_headers(headers, row.operation)
    return Call(operation=row.operation, verb=row.verb, bucket=bucket, key=key, query=query, headers=headers)


def authorise(call: Call, grant: Grant, now: float) -> None:
    """Lets the call pass when the grant covers it. The refusal is the same whether or not the thing exists.

    Raises:
        S3Error: AccessDenied.
    """
    if call.operation is Operation.LIST_BUCKETS:
        allowed = grant.is_owner and is_live(grant, now)
    elif call.key:
        allowed = allows(grant, call.verb, call.bucket, call.key, now)
    elif call.verb is Verb.LIST:
        allowed = allows(grant, call.verb, call.bucket, call.query.get("prefix", ""), now)
    else:
        allowed = allows_bucket(grant, call.verb, call.bucket, now)
    if not allowed:
        raise S3Error("AccessDenied", "these credentials give no leave for this, or not any more")


def number(call: Call, name: str, default: int, low: int, high: int) -> int:
    """An integer parameter; InvalidArgument when it is not one from `low` to `high`."""
    text = call.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise S3Error("InvalidArgument", f"{name} is a whole number from {low} to {high}", ArgumentName=name)
    return int(text)


def _parameters(request: Request) -> tuple[dict[str, str], dict[str, str]]:
    """Query parameters and headers. What a presigner moved from a header into the query counts as the header."""
    headers = {name: request.header(name) or "" for name, _ in request.headers}
    query: dict[str, str] = {}
    try:
        pairs = [(name.decode(), value.decode()) for name, value in query_pairs(request.query)]
    except UnicodeDecodeError as error:
        raise S3Error("InvalidURI", "the query is not UTF-8") from error
    for name, value in pairs:
        lower = name.lower()
        into = headers if lower.startswith("x-amz-") else query
        place = lower if into is headers else name
        if place in into and place not in _SIGNING:
            raise S3Error("InvalidArgument", "a parameter is given twice", ArgumentName=name)
        into[place] = value
    query.pop("x-id", None)
    return query, headers


def _row(method: str, level: str, query: Mapping[str, str]) -> Row:
    rows = [row for row in ROWS if row.method == method and row.level == level]
    for row in rows:
        if row.needs <= query.keys():
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
        if name in _ONLY:
            if value != _ONLY[name]:
                raise not_implemented(f"{name}: {value}")
        elif name.startswith("x-amz-") and name not in _HEADERS:
            if not name.startswith(("x-amz-meta-", CHECKSUM_HEADER)):
                raise not_implemented(f"the header {name}")
        elif name in _CONDITIONS and operation not in _READS:
            raise not_implemented(f"the header {name} on {operation}")
