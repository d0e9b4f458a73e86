"""PutObject, DeleteObject, DeleteObjects."""

from __future__ import annotations

from simpletuner_lab.core.grant import Verb, allows
from simpletuner_lab.server.storage import documents, xml
from simpletuner_lab.server.storage.answers import Answer, Work, described, stored_headers
from simpletuner_lab.server.storage.calls import denied
from simpletuner_lab.server.storage.conditions import write_condition
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.keys import check_key


def put_object(work: Work) -> Answer:
    """Stores the body."""
    assert work.writer is not None
    record = described(work.call, work.received.md5_hex, work.received.checksums)
    work.writer.commit(record)
    return Answer(headers=stored_headers(record), stored_bytes=work.received.size)


def delete_object(work: Work) -> Answer:
    """Removes one object; one that is not there is gone already."""
    work.objects.delete(work.call.bucket, work.call.key, write_condition(work.call.headers))
    return Answer(status=204)


def delete_objects(work: Work) -> Answer:
    """Removes many objects, each by itself: some may go while others may not."""
    promise = work.promise
    if promise.md5 is None and not promise.algorithm:
        raise S3Error("InvalidRequest", "this call carries Content-MD5 or a checksum of its body")
    work.objects.buckets.check(work.call.bucket)
    wanted, quiet = documents.deletion(work.body)
    done: list[str] = []
    failed: list[tuple[str, S3Error]] = []
    for one in wanted:
        try:
            _delete(work, one)
        except S3Error as error:
            failed.append((one.key, error))
        else:
            done.append(one.key)
    return Answer(document=xml.deleted([] if quiet else done, failed))


def _delete(work: Work, one: documents.Doomed) -> None:
    """The key is checked and covered by the grant before anything is looked up."""
    check_key(one.key)
    if not allows(work.grant, Verb.DELETE, work.call.bucket, one.key, work.now):
        raise denied()
    work.objects.delete(work.call.bucket, one.key, one.condition)
