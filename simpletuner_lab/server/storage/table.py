"""The S3 operations spoken here: how each is recognised and what leave it needs. Names are those of the S3 API reference."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from simpletuner_lab.core.grant import Verb


class Operation(enum.StrEnum):
    """The operations, by their names in the S3 API reference."""

    LIST_BUCKETS = "ListBuckets"
    CREATE_BUCKET = "CreateBucket"
    HEAD_BUCKET = "HeadBucket"
    DELETE_BUCKET = "DeleteBucket"
    GET_LOCATION = "GetBucketLocation"
    LIST_OBJECTS = "ListObjects"
    LIST_OBJECTS_V2 = "ListObjectsV2"
    LIST_UPLOADS = "ListMultipartUploads"
    DELETE_OBJECTS = "DeleteObjects"
    PUT_OBJECT = "PutObject"
    COPY_OBJECT = "CopyObject"
    GET_OBJECT = "GetObject"
    HEAD_OBJECT = "HeadObject"
    GET_ATTRIBUTES = "GetObjectAttributes"
    DELETE_OBJECT = "DeleteObject"
    CREATE_UPLOAD = "CreateMultipartUpload"
    UPLOAD_PART = "UploadPart"
    COPY_PART = "UploadPartCopy"
    LIST_PARTS = "ListParts"
    COMPLETE_UPLOAD = "CompleteMultipartUpload"
    ABORT_UPLOAD = "AbortMultipartUpload"


COPIES: Final = frozenset({Operation.COPY_OBJECT, Operation.COPY_PART})
STORES_BODY: Final = frozenset({Operation.PUT_OBJECT, Operation.UPLOAD_PART})
OWNER_ONLY: Final = frozenset({Operation.LIST_BUCKETS, Operation.DELETE_BUCKET})
"""What no job's grant gives, whatever its verbs."""

SLOW: Final = frozenset({*COPIES, Operation.COMPLETE_UPLOAD, Operation.DELETE_OBJECTS})
"""These may take longer than a client waits for the first byte; their answer is a document, an error too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line: `level` is what the path names, `needs` and `may` are query parameters, `header` must be there."""

    operation: Operation
    method: str
    level: str
    verb: Verb
    needs: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    header: str = ""


SOURCE: Final = "x-amz-copy-source"
_LIST: Final = frozenset({"prefix", "delimiter", "max-keys", "encoding-type"})
_LIST_V2: Final = _LIST | {"start-after", "continuation-token", "fetch-owner"}
_UPLOADS: Final = frozenset({"prefix", "delimiter", "max-uploads", "encoding-type", "key-marker", "upload-id-marker"})
_BUCKETS: Final = frozenset({"prefix", "max-buckets", "continuation-token", "bucket-region"})
_PARTS: Final = frozenset({"max-parts", "part-number-marker"})
OVERRIDES: Final = frozenset(
    f"response-{name}"
    for name in (
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    )
)
_READ: Final = OVERRIDES | {"partNumber"}


def _row(operation: Operation, call: str, verb: Verb, *, may: frozenset[str] = frozenset(), header: str = "") -> Row:
    """`call` is `METHOD level` and the parameters that must be there."""
    method, level, *needs = call.split()
    return Row(
        operation=operation, method=method, level=level, verb=verb, needs=frozenset(needs), may=may, header=header
    )


_O = Operation
ROWS: Final = (
    _row(_O.LIST_BUCKETS, "GET service", Verb.LIST, may=_BUCKETS),
    _row(_O.CREATE_BUCKET, "PUT bucket", Verb.PUT),
    _row(_O.HEAD_BUCKET, "HEAD bucket", Verb.HEAD),
    _row(_O.DELETE_BUCKET, "DELETE bucket", Verb.DELETE),
    _row(_O.GET_LOCATION, "GET bucket location", Verb.HEAD),
    _row(_O.LIST_UPLOADS, "GET bucket uploads", Verb.LIST, may=_UPLOADS),
    _row(_O.LIST_OBJECTS_V2, "GET bucket list-type", Verb.LIST, may=_LIST_V2),
    _row(_O.LIST_OBJECTS, "GET bucket", Verb.LIST, may=_LIST | {"marker"}),
    _row(_O.DELETE_OBJECTS, "POST bucket delete", Verb.DELETE),
    _row(_O.COPY_PART, "PUT key partNumber uploadId", Verb.PUT, header=SOURCE),
    _row(_O.UPLOAD_PART, "PUT key partNumber uploadId", Verb.PUT),
    _row(_O.COPY_OBJECT, "PUT key", Verb.PUT, header=SOURCE),
    _row(_O.PUT_OBJECT, "PUT key", Verb.PUT),
    _row(_O.LIST_PARTS, "GET key uploadId", Verb.PUT, may=_PARTS),
    _row(_O.GET_ATTRIBUTES, "GET key attributes", Verb.GET),
    _row(_O.GET_OBJECT, "GET key", Verb.GET, may=_READ),
    _row(_O.HEAD_OBJECT, "HEAD key", Verb.HEAD, may=_READ),
    _row(_O.ABORT_UPLOAD, "DELETE key uploadId", Verb.PUT),
    _row(_O.DELETE_OBJECT, "DELETE key", Verb.DELETE),
    _row(_O.CREATE_UPLOAD, "POST key uploads", Verb.PUT),
    _row(_O.COMPLETE_UPLOAD, "POST key uploadId", Verb.PUT),
)

_SIGNING: Final = ("algorithm", "credential", "date", "expires", "signedheaders", "signature", "content-sha256")
SIGNING: Final = frozenset(f"x-amz-{name}" for name in _SIGNING)
HEADERS: Final = frozenset(
    {
        *SIGNING,
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
"""Headers that are understood wherever they may stand."""

ONLY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "x-amz-acl": "private",
        "x-amz-bucket-object-lock-enabled": "false",
        "x-amz-storage-class": "STANDARD",
        "x-amz-tagging-directive": "COPY",
    }
)
"""Headers whose one accepted value asks for what is done anyway."""

_READS: Final = frozenset({_O.GET_OBJECT, _O.HEAD_OBJECT})
_WRITES: Final = frozenset({_O.PUT_OBJECT, _O.COPY_OBJECT, _O.COMPLETE_UPLOAD})
HEADERS_OF: Final[Mapping[str, frozenset[Operation]]] = MappingProxyType(
    {
        "if-match": _READS | _WRITES | {_O.DELETE_OBJECT},
        "if-none-match": _READS | _WRITES,
        "if-modified-since": _READS,
        "if-unmodified-since": _READS,
        "x-amz-if-match-last-modified-time": frozenset({_O.DELETE_OBJECT}),
        "x-amz-if-match-size": frozenset({_O.DELETE_OBJECT}),
        SOURCE: COPIES,
        f"{SOURCE}-if-match": COPIES,
        f"{SOURCE}-if-none-match": COPIES,
        f"{SOURCE}-if-modified-since": COPIES,
        f"{SOURCE}-if-unmodified-since": COPIES,
        f"{SOURCE}-range": frozenset({_O.COPY_PART}),
        "x-amz-metadata-directive": frozenset({_O.COPY_OBJECT}),
        "x-amz-object-attributes": frozenset({_O.GET_ATTRIBUTES}),
        "x-amz-max-parts": frozenset({_O.GET_ATTRIBUTES}),
        "x-amz-part-number-marker": frozenset({_O.GET_ATTRIBUTES}),
    }
)
"""Headers that change what is done, and the operations that heed them; elsewhere they are refused, not dropped."""
