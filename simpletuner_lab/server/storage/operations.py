"""What each S3 operation does, once it is authenticated, authorised and its body is in. Synchronous: for an executor."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from simpletuner_lab.server.storage import xml
from simpletuner_lab.server.storage.body import Promise, Received
from simpletuner_lab.server.storage.calls import Call, Operation, number
from simpletuner_lab.server.storage.checksums import ELEMENTS, HEADER, algorithm_named
from simpletuner_lab.server.storage.completion import Expected, complete_upload
from simpletuner_lab.server.storage.drafts import Quota
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.listing import MAX_PAGE, after_marker
from simpletuner_lab.server.storage.multipart import MAX_PARTS, Upload
from simpletuner_lab.server.storage.objects import ObjectReader, ObjectStore, ObjectWriter
from simpletuner_lab.server.storage.reading import Extent, extent, is_modified, object_headers
from simpletuner_lab.server.storage.records import DEFAULT_TYPE, Record

MAX_METADATA_BYTES: Final = 2048
_KEPT: Final = ("Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Everything an operation needs. `writer` is there for the calls that store their body; `now` in epoch seconds."""

    objects: ObjectStore
    call: Call
    promise: Promise
    received: Received
    body: bytes
    writer: ObjectWriter | None
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


def body_headers(call: Call) -> Mapping[str, str]:
    """The headers that speak of the body: on completion, checksums are of the object and not of the XML."""
    if call.operation is not Operation.COMPLETE_UPLOAD:
        return call.headers
    return {name: value for name, value in call.headers.items() if not name.startswith(HEADER)}


def open_writer(objects: ObjectStore, call: Call, promise: Promise, quota: Quota | None) -> ObjectWriter | None:
    """Where the body of this call goes; None for a call that keeps it in memory.

    Raises:
        S3Error: MissingContentLength, NoSuchBucket, NoSuchUpload, InsufficientStorage and whatever else can be known
            before a single byte of the body is accepted.
    """
    if call.operation not in {Operation.PUT_OBJECT, Operation.UPLOAD_PART}:
        return None
    if promise.size is None:
        raise S3Error("MissingContentLength", "the length of the object must be given before its bytes")
    if "x-amz-sdk-checksum-algorithm" in call.headers:
        named = algorithm_named(call.headers["x-amz-sdk-checksum-algorithm"])
        if named != promise.algorithm:
            raise S3Error("InvalidRequest", "x-amz-sdk-checksum-algorithm names a checksum that does not come")
    if call.operation is Operation.PUT_OBJECT:
        described(call, etag="")
        return objects.open_writer(call.bucket, call.key, promise.size, quota)
    part = number(call, "partNumber", 0, 1, MAX_PARTS)
    upload = objects.uploads.find(call.query["uploadId"], call.bucket, call.key)
    if upload.checksum and promise.algorithm not in {"", upload.checksum}:
        raise S3Error("InvalidRequest", f"the parts of this upload carry {upload.checksum}, not {promise.algorithm}")
    draft = objects.open_draft(call.bucket, call.key, promise.size, quota)
    return ObjectWriter(draft, lambda draft, record: objects.uploads.put_part(upload, part, draft, record))


def perform(work: Work) -> Answer:
    """Does what the call asks for.

    Raises:
        S3Error: and nothing has changed.
    """
    return _OPERATIONS[work.call.operation](work)


def described(call: Call, etag: str, checksums: Mapping[str, str] | None = None) -> Record:
    """The record of an object from the headers of the request that makes it; `aws-chunked` is not part of it.

    Raises:
        S3Error: MetadataTooLarge.
    """
    metadata = {
        name.removeprefix("x-amz-meta-"): value
        for name, value in call.headers.items()
        if name.startswith("x-amz-meta-")
    }
    if sum(len((name + value).encode("latin-1")) for name, value in metadata.items()) > MAX_METADATA_BYTES:
        raise S3Error("MetadataTooLarge", f"metadata has at most {MAX_METADATA_BYTES} bytes")
    headers = {name: call.headers[name.lower()] for name in _KEPT if name.lower() in call.headers}
    encodings = [one.strip() for one in headers.pop("Content-Encoding", "").split(",")]
    encoding = ", ".join(one for one in encodings if one and one != "aws-chunked")
    return Record(
        etag=etag,
        content_type=call.headers.get("content-type") or DEFAULT_TYPE,
        content_headers=headers | ({"Content-Encoding": encoding} if encoding else {}),
        metadata=metadata,
        checksums=checksums or {},
        checksum_type="FULL_OBJECT" if checksums else "",
    )


def _list_buckets(work: Work) -> Answer:
    return Answer(document=xml.buckets(work.objects.buckets.all()))


def _create_bucket(work: Work) -> Answer:
    work.objects.buckets.create(work.call.bucket)
    return Answer(headers={"Location": f"/{work.call.bucket}"})


def _head_bucket(work: Work) -> Answer:
    work.objects.buckets.check(work.call.bucket)
    return Answer(headers={"x-amz-bucket-region": "us-east-1"})


def _list_objects(work: Work) -> Answer:
    call = work.call
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    marker = call.query.get("marker", "")
    max_keys = _max_keys(call)
    page = work.objects.list_page(
        call.bucket,
        prefix=prefix,
        delimiter=delimiter,
        after=after_marker(marker, prefix, delimiter),
        max_keys=max_keys,
    )
    given = {"Prefix": prefix, "Marker": marker, "MaxKeys": str(max_keys)}
    if delimiter:
        given["Delimiter"] = delimiter
    if delimiter and page.next_after:
        given["NextMarker"] = page.last
    return Answer(document=xml.listing(call.bucket, page, given, encode=_encode(call), owner=True))


def _list_objects_v2(work: Work) -> Answer:
    call = work.call
    if call.query["list-type"] != "2":
        raise S3Error("InvalidArgument", "list-type is 2", ArgumentName="list-type")
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    start, token = call.query.get("start-after", ""), call.query.get("continuation-token")
    after = start.encode() if token is None else _from_token(token)
    max_keys = _max_keys(call)
    page = work.objects.list_page(call.bucket, prefix=prefix, delimiter=delimiter, after=after, max_keys=max_keys)
    given = {"Prefix": prefix, "MaxKeys": str(max_keys), "KeyCount": str(len(page.objects) + len(page.prefixes))}
    if delimiter:
        given["Delimiter"] = delimiter
    if start:
        given["StartAfter"] = start
    if token is not None:
        given["ContinuationToken"] = token
    if page.next_after:
        given["NextContinuationToken"] = base64.urlsafe_b64encode(page.next_after).decode("ascii")
    owner = call.query.get("fetch-owner") == "true"
    return Answer(document=xml.listing(call.bucket, page, given, encode=_encode(call), owner=owner))


def _put_object(work: Work) -> Answer:
    assert work.writer is not None
    record = described(work.call, work.received.md5_hex, work.received.checksums)
    work.writer.commit(record)
    return Answer(headers=_stored(record), stored_bytes=work.received.size)


def _get_object(work: Work) -> Answer:
    reader = work.objects.open_reader(work.call.bucket, work.call.key)
    try:
        answer = _read(work.call, reader)
    except S3Error:
        reader.close()
        raise
    if answer.status == 304:
        reader.close()
    return answer


def _head_object(work: Work) -> Answer:
    reader = work.objects.open_reader(work.call.bucket, work.call.key)
    try:
        answer = _read(work.call, reader)
    finally:
        reader.close()
    return Answer(status=answer.status, headers=answer.headers)


def _read(call: Call, reader: ObjectReader) -> Answer:
    info = reader.info
    if not is_modified(call.headers, info):
        return Answer(status=304, headers=object_headers(info, checksums=False))
    wanted = extent(call.headers.get("range"), info.size)
    checksums = call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and not wanted.partial
    headers = object_headers(info, checksums=checksums) | {"Content-Length": str(wanted.size)}
    if wanted.partial:
        headers["Content-Range"] = f"bytes {wanted.offset}-{wanted.offset + wanted.size - 1}/{info.size}"
    return Answer(status=206 if wanted.partial else 200, headers=headers, reader=reader, extent=wanted)


def _delete_object(work: Work) -> Answer:
    work.objects.delete(work.call.bucket, work.call.key)
    return Answer(status=204)


def _create_upload(work: Work) -> Answer:
    call, objects = work.call, work.objects
    objects.buckets.check(call.bucket)
    named = call.headers.get("x-amz-checksum-algorithm")
    algorithm = algorithm_named(named) if named else ""
    upload = Upload(
        id=objects.token(),
        bucket=call.bucket,
        key=call.key,
        checksum=algorithm,
        initiated_at=work.now,
        record=described(call, etag=""),
    )
    draft = objects.open_draft(call.bucket, call.key, 0)
    try:
        objects.uploads.create(upload, draft)
    finally:
        draft.discard()
    headers = {"x-amz-checksum-algorithm": algorithm.upper(), "x-amz-checksum-type": "COMPOSITE"} if algorithm else {}
    fields = [("Bucket", call.bucket), ("Key", call.key), ("UploadId", upload.id)]
    return Answer(headers=headers, document=xml.document("InitiateMultipartUploadResult", fields))


def _upload_part(work: Work) -> Answer:
    assert work.writer is not None
    record = Record(etag=work.received.md5_hex, checksums=work.received.checksums)
    work.writer.commit(record)
    return Answer(headers=_stored(record))


def _list_parts(work: Work) -> Answer:
    call = work.call
    upload = work.objects.uploads.find(call.query["uploadId"], call.bucket, call.key)
    max_parts = min(number(call, "max-parts", MAX_PAGE, 0, 10**9 - 1), MAX_PAGE)
    marker = number(call, "part-number-marker", 0, 0, 10**9 - 1)
    parts = [part for part in work.objects.uploads.parts(upload) if part.number > marker]
    truncated = len(parts) > max_parts > 0
    page = parts[:max_parts]
    return Answer(document=xml.parts(upload, page, marker=marker, max_parts=max_parts, truncated=truncated))


def _complete_upload(work: Work) -> Answer:
    call = work.call
    size = call.headers.get("x-amz-mp-object-size")
    if size is not None and not (size.isascii() and size.isdigit()):
        raise S3Error("InvalidArgument", "x-amz-mp-object-size is a whole number")
    checksums = [(name, call.headers[HEADER + name]) for name in ELEMENTS if HEADER + name in call.headers]
    expected = Expected(size=int(size) if size else None, checksum=checksums[0] if checksums else None)
    chosen = xml.completion(work.body)
    info = complete_upload(
        work.objects, call.bucket, call.key, call.query["uploadId"], chosen=chosen, expected=expected
    )
    fields = [
        ("Location", f"/{call.bucket}/{quote(call.key)}"),
        ("Bucket", call.bucket),
        ("Key", call.key),
        ("ETag", f'"{info.record.etag}"'),
        *((ELEMENTS[name], value) for name, value in info.record.checksums.items()),
        *((("ChecksumType", info.record.checksum_type),) if info.record.checksum_type else ()),
    ]
    return Answer(document=xml.document("CompleteMultipartUploadResult", fields), stored_bytes=info.size)


def _abort_upload(work: Work) -> Answer:
    call = work.call
    with work.objects.uploads.ending(call.query["uploadId"], call.bucket, call.key) as upload:
        work.objects.uploads.remove(upload.id)
    return Answer(status=204)


def _stored(record: Record) -> dict[str, str]:
    return {"ETag": f'"{record.etag}"', **{HEADER + name: value for name, value in record.checksums.items()}}


def _max_keys(call: Call) -> int:
    return min(number(call, "max-keys", MAX_PAGE, 0, 10**9 - 1), MAX_PAGE)


def _encode(call: Call) -> bool:
    encoding = call.query.get("encoding-type")
    if encoding not in {None, "url"}:
        raise S3Error("InvalidArgument", "encoding-type is url", ArgumentName="encoding-type")
    return encoding == "url"


def _from_token(token: str) -> bytes:
    try:
        return base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise S3Error("InvalidArgument", "the continuation token is not one of ours") from error


_OPERATIONS: Final[Mapping[Operation, Callable[[Work], Answer]]] = MappingProxyType(
    {
        Operation.LIST_BUCKETS: _list_buckets,
        Operation.CREATE_BUCKET: _create_bucket,
        Operation.HEAD_BUCKET: _head_bucket,
        Operation.LIST_OBJECTS: _list_objects,
        Operation.LIST_OBJECTS_V2: _list_objects_v2,
        Operation.PUT_OBJECT: _put_object,
        Operation.GET_OBJECT: _get_object,
        Operation.HEAD_OBJECT: _head_object,
        Operation.DELETE_OBJECT: _delete_object,
        Operation.CREATE_UPLOAD: _create_upload,
        Operation.UPLOAD_PART: _upload_part,
        Operation.LIST_PARTS: _list_parts,
        Operation.COMPLETE_UPLOAD: _complete_upload,
        Operation.ABORT_UPLOAD: _abort_upload,
    }
)
