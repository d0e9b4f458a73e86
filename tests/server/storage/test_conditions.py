"""Writes and deletes on a condition, decided in one step however many come at once."""

from __future__ import annotations

import threading

import pytest

from simpletuner_lab.server.storage.conditions import Condition, write_condition
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.objects import ObjectStore
from simpletuner_lab.server.storage.records import Record
from tests.server.storage.kit import BUCKET, client, keys_in, leftovers, raw, refused

WRITERS = 32


def read(s3, key) -> bytes:
    return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def test_puts(server):
    s3 = client(server)
    etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    assert refused(s3.put_object, Bucket=BUCKET, Key="k", Body=b"2", IfNoneMatch="*") == "PreconditionFailed 412"
    assert refused(s3.put_object, Bucket=BUCKET, Key="k", Body=b"2", IfMatch='"other"') == "PreconditionFailed 412"
    assert refused(s3.put_object, Bucket=BUCKET, Key="new", Body=b"2", IfMatch=etag) == "NoSuchKey 404"
    assert read(s3, "k") == b"1"
    for match in (etag, etag.strip('"'), f'"other", {etag}', "*"):
        etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1", IfMatch=match)["ETag"]
    assert refused(s3.put_object, Bucket=BUCKET, Key="k", Body=b"", IfNoneMatch='"x"') == "NotImplemented 501"
    both = {"If-Match": "x", "If-None-Match": "*"}
    assert raw(server, "PUT", f"/{BUCKET}/k", headers=both).code == "InvalidRequest"
    assert (keys_in(server), leftovers(server)) == (["k"], [])


def test_copies(server):
    s3 = client(server)
    etag = s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")["ETag"]
    s3.put_object(Bucket=BUCKET, Key="b", Body=b"2")
    here = {"Bucket": BUCKET, "CopySource": {"Bucket": BUCKET, "Key": "a"}}
    assert refused(s3.copy_object, **here, Key="b", IfNoneMatch="*") == "PreconditionFailed 412"
    assert refused(s3.copy_object, **here, Key="b", IfMatch=etag) == "PreconditionFailed 412"
    assert refused(s3.copy_object, **here, Key="c", IfMatch=etag) == "NoSuchKey 404"
    assert read(s3, "b") == b"2"
    s3.copy_object(**here, Key="c", IfNoneMatch="*")
    s3.copy_object(**here, Key="c", IfMatch=etag)
    assert read(s3, "c") == b"1"


def test_completions(server):
    s3 = client(server)
    etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"old")["ETag"]

    def begin(key: str) -> dict:
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        here = {"Bucket": BUCKET, "Key": key, "UploadId": upload}
        part = s3.upload_part(**here, PartNumber=1, Body=b"new")["ETag"]
        return here | {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part}]}}

    call = begin("k")
    assert refused(s3.complete_multipart_upload, **call, IfNoneMatch="*") == "PreconditionFailed 412"
    assert refused(s3.complete_multipart_upload, **call, IfMatch='"other"') == "PreconditionFailed 412"
    assert read(s3, "k") == b"old"
    s3.complete_multipart_upload(**call, IfMatch=etag)
    assert read(s3, "k") == b"new"
    other = begin("other")
    assert refused(s3.complete_multipart_upload, **other, IfMatch=etag) == "NoSuchKey 404"
    s3.complete_multipart_upload(**other, IfNoneMatch="*")
    assert leftovers(server) == []


def test_deletes(server):
    s3 = client(server)
    etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"12345")["ETag"]
    assert refused(s3.delete_object, Bucket=BUCKET, Key="k", IfMatch='"other"') == "PreconditionFailed 412"
    assert refused(s3.delete_object, Bucket=BUCKET, Key="k", IfMatchSize=4) == "PreconditionFailed 412"
    assert refused(s3.delete_object, Bucket=BUCKET, Key="none", IfMatch="*") == "NoSuchKey 404"
    assert refused(s3.delete_object, Bucket=BUCKET, Key="a/none", IfMatch="*") == "NoSuchKey 404"
    modified = s3.head_object(Bucket=BUCKET, Key="k")["LastModified"]
    s3.delete_object(Bucket=BUCKET, Key="k", IfMatch=etag, IfMatchSize=5, IfMatchLastModifiedTime=modified)
    assert keys_in(server) == []


@pytest.mark.parametrize("how", ["put", "complete", "copy"])
def test_of_many_who_may_only_create_one_does(server, how):
    s3 = client(server, max_pool_connections=WRITERS)
    s3.put_object(Bucket=BUCKET, Key="source", Body=b"source")
    calls = []
    for number in range(WRITERS):
        if how == "put":
            calls.append((s3.put_object, {"Body": f"writer {number}".encode()}))
        elif how == "copy":
            calls.append((s3.copy_object, {"CopySource": {"Bucket": BUCKET, "Key": "source"}}))
        else:
            upload = s3.create_multipart_upload(Bucket=BUCKET, Key="k")["UploadId"]
            here = {"Bucket": BUCKET, "Key": "k", "UploadId": upload}
            etag = s3.upload_part(**here, PartNumber=1, Body=f"writer {number}".encode())["ETag"]
            chosen = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
            calls.append((s3.complete_multipart_upload, {"UploadId": upload, "MultipartUpload": chosen}))
    answers: dict[int, str] = {}
    ready = threading.Barrier(WRITERS)

    def write(number: int) -> None:
        call, more = calls[number]
        ready.wait()
        try:
            call(Bucket=BUCKET, Key="k", IfNoneMatch="*", **more)
            answers[number] = "done"
        except s3.exceptions.ClientError as error:
            answers[number] = error.response["Error"]["Code"]

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for number, answer in answers.items() if answer == "done"]
    assert len(winners) == 1
    assert set(answers.values()) <= {"done", "PreconditionFailed", "ConditionalRequestConflict"}
    expected = b"source" if how == "copy" else f"writer {winners[0]}".encode()
    assert read(s3, "k") == expected


def test_a_counter_that_many_raise_loses_no_turn(server):
    """Compare and swap: read, then write if nobody wrote in between, as a log or a lock over S3 does."""
    s3 = client(server, max_pool_connections=8)
    s3.put_object(Bucket=BUCKET, Key="n", Body=b"0")

    refusals: list[str] = []

    def raise_it() -> None:
        done = 0
        while done < 5:
            got = s3.get_object(Bucket=BUCKET, Key="n")
            value = int(got["Body"].read())
            try:
                s3.put_object(Bucket=BUCKET, Key="n", Body=str(value + 1).encode(), IfMatch=got["ETag"])
                done += 1
            except s3.exceptions.ClientError as error:
                refusals.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=raise_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(s3, "n") == b"20"
    assert set(refusals) <= {"PreconditionFailed", "ConditionalRequestConflict"}


def test_who_began_in_time_and_came_too_late_is_told_so(tmp_path):
    """The condition held when the write began: that is a conflict to try again, not a condition that failed."""
    store = ObjectStore(tmp_path)
    store.sweep(0.0)

    def code(call, *args) -> str:
        with pytest.raises(S3Error) as caught:
            call(*args)
        return caught.value.code

    absent, there = Condition(absent=True), Condition(match="e1")
    late = store.open_writer(BUCKET, "k", 1, condition=absent)
    store.open_writer(BUCKET, "k", 1, condition=absent).commit(Record(etag="e1"))
    assert code(late.commit, Record(etag="e2")) == "ConditionalRequestConflict"
    late.discard()
    assert code(lambda: store.open_writer(BUCKET, "k", 1, condition=absent)) == "PreconditionFailed"
    changing = store.open_writer(BUCKET, "k", 1, condition=there)
    store.delete(BUCKET, "k")
    assert code(changing.commit, Record(etag="e3")) == "ConditionalRequestConflict"
    changing.discard()
    assert list((tmp_path / ".stlab/drafts").iterdir()) == []


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"if-none-match": "abc"}, "NotImplemented"),
        ({"if-none-match": "*", "if-match": "*"}, "InvalidRequest"),
        ({"x-amz-if-match-size": "-1"}, "InvalidArgument"),
        ({"x-amz-if-match-last-modified-time": "yesterday"}, "InvalidArgument"),
    ],
)
def test_conditions_that_cannot_be(headers, code):
    with pytest.raises(S3Error, match=code):
        write_condition(headers)
