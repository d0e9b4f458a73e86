"""Completing a multipart upload: the one step from parts to an object."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.multipart import (
    Chosen,
    Part,
    Upload,
    check_chosen,
    joined_checksums,
    joined_etag,
)
from simpletuner_lab.server.storage.objects import ObjectInfo, ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the client says the whole object is: None and empty where it says nothing."""

    size: int | None = None
    checksum: tuple[str, str] | None = None


def complete_upload(
    store: ObjectStore, bucket: str, key: str, upload_id: str, *, chosen: Sequence[Chosen], expected: Expected
) -> ObjectInfo:
    """Turns an upload into its object. Asked again for one that already did, it gives the same answer.

    Raises:
        S3Error: NoSuchUpload, InvalidPart, InvalidPartOrder, EntityTooSmall, MalformedXML, BadDigest, InvalidRequest,
            InsufficientStorage; the upload then goes on, and the old object, if any, is untouched.
    """
    try:
        with store.uploads.ending(upload_id, bucket, key) as upload:
            parts = check_chosen(chosen, store.uploads.parts(upload))
            info = _assemble(store, upload, chosen, parts, expected)
            store.uploads.remove(upload_id)
            return info
    except S3Error as error:
        done = _made_by(store, bucket, key, upload_id) if error.code == "NoSuchUpload" else None
        if done is None:
            raise
        return done


def _assemble(
    store: ObjectStore, upload: Upload, chosen: Sequence[Chosen], parts: Sequence[Part], expected: Expected
) -> ObjectInfo:
    size = sum(part.size for part in parts)
    checksums = joined_checksums(upload.checksum, parts)
    if expected.size not in {None, size}:
        raise S3Error("InvalidRequest", f"x-amz-mp-object-size says {expected.size}, the parts have {size} bytes")
    if expected.checksum and checksums.get(expected.checksum[0]) != expected.checksum[1]:
        raise S3Error("BadDigest", "the checksum of the whole object is not that of its parts")
    record = replace(
        upload.record,
        etag=joined_etag(parts),
        checksums=checksums,
        checksum_type="COMPOSITE" if checksums else "",
        upload_id=upload.id,
    )
    whole = store.open_draft(upload.bucket, upload.key, size)
    try:
        store.uploads.copy_parts(upload, chosen, whole)
        whole.seal(record)
        modified_at = os.fstat(whole.descriptor).st_mtime
        store.place(whole, upload.bucket, upload.key)
    finally:
        whole.discard()
    return ObjectInfo(key=upload.key, size=size, modified_at=modified_at, record=record)


def _made_by(store: ObjectStore, bucket: str, key: str, upload_id: str) -> ObjectInfo | None:
    """The object as it stands, when this very upload made it: its first answer was lost on the way."""
    try:
        reader = store.open_reader(bucket, key)
    except S3Error:
        return None
    reader.close()
    return reader.info if reader.info.record.upload_id == upload_id else None
