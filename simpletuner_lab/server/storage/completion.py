"""Completing a multipart upload: the one step from parts to an object.

Where the parts lie side by side in one file, that file becomes the object: no byte is read or written again, but for a
part that was sent twice or came before the size of the others was known. Otherwise the kernel copies them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from simpletuner_lab.server.storage import slots
from simpletuner_lab.server.storage.conditions import ALWAYS, Condition
from simpletuner_lab.server.storage.drafts import Draft, Renamed, copy_range
from simpletuner_lab.server.storage.errors import S3Error, disk_errors
from simpletuner_lab.server.storage.objects import ObjectStore
from simpletuner_lab.server.storage.parts import Chosen, Part, Upload, check_chosen, joined_record
from simpletuner_lab.server.storage.records import ObjectInfo, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the client says the whole object is, None and empty where it says nothing, and what it is to replace."""

    size: int | None = None
    checksum: tuple[str, str] | None = None
    checksum_type: str = ""
    condition: Condition = ALWAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """An upload, the parts of it that were chosen, and the descriptor of its folder."""

    store: ObjectStore
    upload: Upload
    parts: Sequence[Part]
    expected: Expected
    directory: int


def complete_upload(
    store: ObjectStore, bucket: str, key: str, upload_id: str, *, chosen: Sequence[Chosen], expected: Expected
) -> ObjectInfo:
    """Turns an upload into its object. Asked again for one that already did, it gives the same answer.

    Raises:
        S3Error: NoSuchUpload, InvalidPart, InvalidPartOrder, EntityTooSmall, MalformedXML, BadDigest, InvalidRequest,
            InsufficientStorage, PreconditionFailed, ConditionalRequestConflict; the upload then goes on, and the old
            object, if any, is untouched.
    """
    try:
        with store.uploads.ending(upload_id, bucket, key) as upload:
            info = store.made_by(bucket, key, upload_id)  # a server was killed before the parts were removed
            if info is None:
                info = _assemble(store, upload, chosen, expected)
            store.uploads.remove(upload_id)
            return info
    except S3Error as error:
        done = store.made_by(bucket, key, upload_id) if error.code == "NoSuchUpload" else None
        if done is None:
            raise
        return done


def _assemble(store: ObjectStore, upload: Upload, chosen: Sequence[Chosen], expected: Expected) -> ObjectInfo:
    if expected.condition.is_set:
        expected.condition.check(store.find(upload.bucket, upload.key))
    with store.uploads.folder_of(upload) as directory:
        stored = store.uploads.parts(upload)
        parts = check_chosen(chosen, stored)
        _record(upload, parts, expected)
        with slots.whole(directory, slots.natural_stride(parts, stored)) as data:
            if data is not None:
                # nobody writes into it any more: what is listed now stays as it is
                stored = store.uploads.parts(upload)
                parts = check_chosen(chosen, stored)
                stride = slots.natural_stride(parts, stored)
                if stride == parts[0].size:
                    job = _Job(store=store, upload=upload, parts=parts, expected=expected, directory=directory)
                    return _in_place(job, data)
        return _copied(_Job(store=store, upload=upload, parts=parts, expected=expected, directory=directory))


def _in_place(job: _Job, data: int) -> ObjectInfo:
    store, upload, parts = job.store, job.upload, job.parts
    stride, size = parts[0].size, sum(part.size for part in parts)
    record = _record(upload, parts, job.expected)
    with disk_errors():
        for part in parts:
            if part.stride != stride:
                with store.uploads.part_file(job.directory, part) as (source, offset):
                    copy_range(source, offset, data, (part.number - 1) * stride, part.size)
        os.ftruncate(data, size)
        os.utime(data)
        store.records.write(data, record, os.fstat(data))
        os.fsync(data)
        modified_at = os.fstat(data).st_mtime
        done = Renamed(job.directory, f"data-{stride}", store.records)
        store.place(done, upload.bucket, upload.key, job.expected.condition)
    return ObjectInfo(key=upload.key, size=size, modified_at=modified_at, record=record)


def _copied(job: _Job) -> ObjectInfo:
    store, upload, parts = job.store, job.upload, job.parts
    size = sum(part.size for part in parts)
    record = _record(upload, parts, job.expected)
    draft: Draft = store.open_draft(upload.bucket, upload.key, size)
    try:
        for part in parts:
            with store.uploads.part_file(job.directory, part) as (source, offset):
                draft.copy_from(source, offset, part.size)
        draft.seal(record)
        modified_at = os.fstat(draft.descriptor).st_mtime
        store.place(draft, upload.bucket, upload.key, job.expected.condition)
    finally:
        draft.discard()
    return ObjectInfo(key=upload.key, size=size, modified_at=modified_at, record=record)


def _record(upload: Upload, parts: Sequence[Part], expected: Expected) -> Record:
    """The record of the object, compared with what the client says of it."""
    size = sum(part.size for part in parts)
    record = joined_record(upload, parts)
    if expected.size not in {None, size}:
        raise S3Error("InvalidRequest", f"x-amz-mp-object-size says {expected.size}, the parts have {size} bytes")
    if expected.checksum_type and expected.checksum_type != upload.checksum_type:
        raise S3Error("InvalidRequest", "x-amz-checksum-type is not the one the upload was begun with")
    if expected.checksum:
        algorithm, value = expected.checksum
        plain = record.checksums.get(algorithm, "").partition("-")[0]
        if value not in {record.checksums.get(algorithm), plain} or not value:
            raise S3Error("BadDigest", "the checksum of the whole object is not that of its parts")
    return record
