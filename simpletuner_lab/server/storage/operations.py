"""Which function does which S3 operation, once it is authenticated, authorised and its body is in. For an executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from simpletuner_lab.server.storage import browsing, copying, getting, putting, uploading
from simpletuner_lab.server.storage.answers import Answer, Work, described
from simpletuner_lab.server.storage.body import Promise
from simpletuner_lab.server.storage.calls import Call, number
from simpletuner_lab.server.storage.checksums import HEADER, algorithm_named
from simpletuner_lab.server.storage.conditions import write_condition
from simpletuner_lab.server.storage.drafts import Quota
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.objects import ObjectStore, Writer
from simpletuner_lab.server.storage.parts import MAX_PARTS
from simpletuner_lab.server.storage.table import COPIES, STORES_BODY, Operation


def body_headers(call: Call) -> Mapping[str, str]:
    """The headers that speak of the body: on completion, checksums are of the object and not of the XML."""
    if call.operation is not Operation.COMPLETE_UPLOAD:
        return call.headers
    return {name: value for name, value in call.headers.items() if not name.startswith(HEADER)}


def open_writer(objects: ObjectStore, call: Call, promise: Promise, quota: Quota | None) -> Writer | None:
    """Where the body of this call goes; None for a call that keeps it in memory.

    Raises:
        S3Error: MissingContentLength, NoSuchBucket, NoSuchUpload, InsufficientStorage and whatever else can be known
            before a single byte of the body is accepted.
    """
    if "x-amz-sdk-checksum-algorithm" in call.headers and call.operation is not Operation.COMPLETE_UPLOAD:
        named = algorithm_named(call.headers["x-amz-sdk-checksum-algorithm"])
        if named != promise.algorithm:
            raise S3Error("InvalidRequest", "x-amz-sdk-checksum-algorithm names a checksum that does not come")
    if call.operation in COPIES and promise.size:
        raise S3Error("InvalidRequest", "a copy has no body")
    if call.operation not in STORES_BODY:
        return None
    if promise.size is None:
        raise S3Error("MissingContentLength", "the length of the object must be given before its bytes")
    if call.operation is Operation.PUT_OBJECT:
        described(call, etag="")
        return objects.open_writer(call.bucket, call.key, promise.size, quota, write_condition(call.headers))
    part = number(call.query, "partNumber", 0, 1, MAX_PARTS)
    upload = objects.uploads.find(call.query["uploadId"], call.bucket, call.key)
    if upload.checksum and promise.algorithm not in {"", upload.checksum}:
        raise S3Error("InvalidRequest", f"the parts of this upload carry {upload.checksum}, not {promise.algorithm}")
    there = objects.uploads.size_of(upload, part) if quota is not None else 0
    draft = objects.open_draft(call.bucket, call.key, promise.size, quota, there)
    try:
        return objects.uploads.open_part(upload, part, promise.size, draft)
    except BaseException:
        draft.discard()
        raise


def perform(work: Work) -> Answer:
    """Does what the call asks for.

    Raises:
        S3Error: and nothing has changed.
    """
    return _OPERATIONS[work.call.operation](work)


_OPERATIONS: Final[Mapping[Operation, Callable[[Work], Answer]]] = MappingProxyType(
    {
        Operation.LIST_BUCKETS: browsing.list_buckets,
        Operation.CREATE_BUCKET: browsing.create_bucket,
        Operation.HEAD_BUCKET: browsing.head_bucket,
        Operation.DELETE_BUCKET: browsing.delete_bucket,
        Operation.GET_LOCATION: browsing.get_location,
        Operation.LIST_OBJECTS: browsing.list_objects,
        Operation.LIST_OBJECTS_V2: browsing.list_objects_v2,
        Operation.LIST_UPLOADS: browsing.list_uploads,
        Operation.PUT_OBJECT: putting.put_object,
        Operation.COPY_OBJECT: copying.copy_object,
        Operation.GET_OBJECT: getting.get_object,
        Operation.HEAD_OBJECT: getting.head_object,
        Operation.GET_ATTRIBUTES: getting.get_attributes,
        Operation.DELETE_OBJECT: putting.delete_object,
        Operation.DELETE_OBJECTS: putting.delete_objects,
        Operation.CREATE_UPLOAD: uploading.create_upload,
        Operation.UPLOAD_PART: uploading.upload_part,
        Operation.COPY_PART: copying.copy_part,
        Operation.LIST_PARTS: uploading.list_parts,
        Operation.COMPLETE_UPLOAD: uploading.complete,
        Operation.ABORT_UPLOAD: uploading.abort_upload,
    }
)
