"""CopyObject and UploadPartCopy: bytes that are here already are not sent again."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from simpletuner_lab.server.storage import xml
from simpletuner_lab.server.storage.answers import Answer, Work, described, quota_of
from simpletuner_lab.server.storage.calls import number
from simpletuner_lab.server.storage.checksums import FULL_OBJECT, algorithm_named, encoded, new_hash
from simpletuner_lab.server.storage.conditions import check_source, write_condition
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.objects import ObjectReader
from simpletuner_lab.server.storage.parts import MAX_PARTS
from simpletuner_lab.server.storage.reading import copied_extent
from simpletuner_lab.server.storage.records import Record

_READ_BYTES: Final = 1 << 20


def copy_object(work: Work) -> Answer:
    """Makes an object of another's bytes, with the other's metadata or with new ones. Its ETag is that of the source."""
    call, source = work.call, work.call.source
    assert source is not None
    directive = call.headers.get("x-amz-metadata-directive", "COPY")
    if directive not in {"COPY", "REPLACE"}:
        raise S3Error("InvalidArgument", "x-amz-metadata-directive is COPY or REPLACE")
    if (source.bucket, source.key) == (call.bucket, call.key) and directive == "COPY":
        raise S3Error("InvalidRequest", "a copy onto itself replaces the metadata, or it does nothing")
    new = described(call, etag="") if directive == "REPLACE" else None
    named = call.headers.get("x-amz-checksum-algorithm")
    algorithm = algorithm_named(named) if named else ""
    reader = work.objects.open_reader(source.bucket, source.key)
    try:
        check_source(call.headers, reader.info)
        record = _record(reader, new, algorithm)
        size = reader.info.size
        condition = write_condition(call.headers)
        writer = work.objects.open_writer(call.bucket, call.key, size, quota_of(work.grant), condition)
        try:
            writer.copy_from(reader, size)
            writer.commit(record)
        finally:
            writer.discard()
    finally:
        reader.close()
    return Answer(document=xml.copied("CopyObjectResult", record, work.now), stored_bytes=size)


def copy_part(work: Work) -> Answer:
    """Makes a part of another object's bytes, or of a range of them."""
    call, source, objects = work.call, work.call.source, work.objects
    assert source is not None
    part = number(call.query, "partNumber", 0, 1, MAX_PARTS)
    upload = objects.uploads.find(call.query["uploadId"], call.bucket, call.key)
    reader = objects.open_reader(source.bucket, source.key)
    try:
        check_source(call.headers, reader.info)
        wanted = copied_extent(call.headers.get("x-amz-copy-source-range"), reader.info.size)
        draft = objects.open_draft(call.bucket, call.key, wanted.size, quota_of(work.grant))
        writer = None
        try:
            writer = objects.uploads.open_part(upload, part, wanted.size, draft)
            hashes = {name: new_hash(name) for name in {"md5", upload.checksum} - {""}}
            done = 0
            while done < wanted.size:
                block = reader.read(wanted.offset + done, min(_READ_BYTES, wanted.size - done))
                if not block:
                    raise S3Error("InternalError", "the source was cut short while it was copied")
                done += len(block)
                for hash_ in hashes.values():
                    hash_.update(block)
                writer.write(block)
            digests = {name: hash_.digest() for name, hash_ in hashes.items()}
            checksums = {name: encoded(digest) for name, digest in digests.items() if name != "md5"}
            record = Record(etag=digests["md5"].hex(), checksums=checksums)
            writer.commit(record)
        finally:
            (writer or draft).discard()
    finally:
        reader.close()
    return Answer(document=xml.copied("CopyPartResult", record, work.now))


def _record(reader: ObjectReader, new: Record | None, algorithm: str) -> Record:
    """The source's record, with other metadata or another checksum where that is asked for."""
    about = reader.info.record
    if new is not None:
        about = replace(
            about, content_type=new.content_type, content_headers=new.content_headers, metadata=new.metadata
        )
    if algorithm and algorithm not in about.checksums:
        digest, done = new_hash(algorithm), 0
        while block := reader.read(done, _READ_BYTES):
            digest.update(block)
            done += len(block)
        about = replace(
            about, checksums={algorithm: encoded(digest.digest())}, checksum_type=FULL_OBJECT, part_digests=""
        )
    return replace(about, upload_id="")
