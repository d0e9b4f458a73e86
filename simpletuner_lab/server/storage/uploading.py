"""The calls of a multipart upload, but for UploadPartCopy."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from simpletuner_lab.server.storage import documents, xml
from simpletuner_lab.server.storage.answers import Answer, Work, described, quota_of, stored_headers
from simpletuner_lab.server.storage.calls import number
from simpletuner_lab.server.storage.checksums import ELEMENTS, HEADER, algorithm_named, type_of
from simpletuner_lab.server.storage.completion import Expected, complete_upload
from simpletuner_lab.server.storage.conditions import write_condition
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.listing import MAX_PAGE
from simpletuner_lab.server.storage.parts import Upload
from simpletuner_lab.server.storage.records import Record

MOST_UPLOADS: Final = 1000
"""So many may be unfinished under a grant with a quota: each is a folder, which no quota counts."""

_TIME_DIGITS: Final = 12
_MAX_BYTES: Final = 10**18


def create_upload(work: Work) -> Answer:
    """Begins an upload. Its id begins with the time, so ids sort as the uploads were begun."""
    call, objects = work.call, work.objects
    objects.buckets.check(call.bucket)
    named = call.headers.get(HEADER + "algorithm")
    algorithm = algorithm_named(named) if named else ""
    upload = Upload(
        id=f"{int(work.now * 1000):0{_TIME_DIGITS}x}"[-_TIME_DIGITS:] + objects.token()[_TIME_DIGITS:],
        bucket=call.bucket,
        key=call.key,
        checksum=algorithm,
        checksum_type=type_of(algorithm, call.headers.get(HEADER + "type", "")),
        initiated_at=work.now,
        record=described(call, etag=""),
    )
    if (quota := quota_of(work.grant)) is not None and objects.uploads.count(
        quota.bucket, quota.prefix
    ) >= MOST_UPLOADS:
        raise S3Error("InsufficientStorage", f"{MOST_UPLOADS} uploads are unfinished here: complete or abort some")
    draft = objects.open_draft(call.bucket, call.key, 0)
    try:
        objects.uploads.create(upload, draft)
    finally:
        draft.discard()
    headers = {HEADER + "algorithm": algorithm.upper(), HEADER + "type": upload.checksum_type} if algorithm else {}
    fields = [("Bucket", call.bucket), ("Key", call.key), ("UploadId", upload.id)]
    return Answer(headers=headers, document=xml.document("InitiateMultipartUploadResult", fields))


def upload_part(work: Work) -> Answer:
    """Stores the body as a part."""
    assert work.writer is not None
    record = Record(etag=work.received.md5_hex, checksums=work.received.checksums)
    work.writer.commit(record)
    return Answer(headers=stored_headers(record))


def list_parts(work: Work) -> Answer:
    """The parts that were acknowledged."""
    call = work.call
    upload = work.objects.uploads.find(call.query["uploadId"], call.bucket, call.key)
    max_parts = min(number(call.query, "max-parts", MAX_PAGE, 0, 10**9), MAX_PAGE)
    marker = number(call.query, "part-number-marker", 0, 0, 10**9)
    parts = [part for part in work.objects.uploads.parts(upload) if part.number > marker]
    truncated = len(parts) > max_parts > 0
    page = parts[:max_parts]
    return Answer(document=xml.parts(upload, page, marker=marker, max_parts=max_parts, truncated=truncated))


def complete(work: Work) -> Answer:
    """Makes the object of its parts."""
    call = work.call
    checksums = [(name, call.headers[HEADER + name]) for name in ELEMENTS if HEADER + name in call.headers]
    if len(checksums) > 1:
        raise S3Error("InvalidRequest", "a request carries one checksum, not several")
    size = number(call.headers, "x-amz-mp-object-size", -1, 0, _MAX_BYTES)
    expected = Expected(
        size=None if size < 0 else size,
        checksum=checksums[0] if checksums else None,
        checksum_type=call.headers.get(HEADER + "type", ""),
        condition=write_condition(call.headers),
    )
    chosen = documents.completion(work.body)
    info = complete_upload(
        work.objects, call.bucket, call.key, call.query["uploadId"], chosen=chosen, expected=expected
    )
    fields = [
        ("Location", f"/{call.bucket}/{quote(call.key)}"),
        ("Bucket", call.bucket),
        ("Key", call.key),
        *xml.identity(info.record),
    ]
    return Answer(document=xml.document("CompleteMultipartUploadResult", fields), stored_bytes=info.size)


def abort_upload(work: Work) -> Answer:
    """Ends an upload with nothing."""
    call = work.call
    with work.objects.uploads.ending(call.query["uploadId"], call.bucket, call.key) as upload:
        work.objects.uploads.remove(upload.id)
    return Answer(status=204)
