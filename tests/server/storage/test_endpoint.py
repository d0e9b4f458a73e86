"""What boto3's users do, on a real socket, at the root and below a user's address."""

from __future__ import annotations

import base64
import os
import threading
import zlib
from xml.etree import ElementTree as ET

import pytest
from boto3.s3.transfer import TransferConfig

from simpletuner_lab.server.storage.parts import MIN_PART_BYTES
from simpletuner_lab.testing.storage_server import storage_server
from tests.server.storage.kit import BUCKET, client, keys_in, leftovers, raw, refused

ODD_KEYS = [
    "a b",
    "a+b",
    "a%20b",
    "a%b",
    "a&b=c?d#e",
    "'\"<>&.txt",
    "ü/日本/😀",
    "a;b",
    "~t",
    "a=b",
    "x/y/z",
    "..a",
    "é",
]
SMALL_PARTS = TransferConfig(multipart_threshold=MIN_PART_BYTES, multipart_chunksize=MIN_PART_BYTES, max_concurrency=4)


@pytest.fixture(params=["/", "/user/ann/"])
def based(request, tmp_path):
    with storage_server(tmp_path, base_url=request.param) as server:
        yield server


def test_the_whole_way_of_a_model(based, tmp_path):
    keys = based.issue("job-1")
    s3 = client(based, keys)
    small, large, back = tmp_path / "small", tmp_path / "large", tmp_path / "back"
    small.write_bytes(b"weights")
    large.write_bytes(os.urandom(2 * MIN_PART_BYTES + 12345))
    for path in (small, large):
        s3.upload_file(
            str(path), BUCKET, f"job-1/out/{path.name}", Config=SMALL_PARTS, ExtraArgs={"Metadata": {"step": "9"}}
        )
        s3.download_file(BUCKET, f"job-1/out/{path.name}", str(back), Config=SMALL_PARTS)
        assert back.read_bytes() == path.read_bytes()
        assert (based.objects._root / BUCKET / "job-1/out" / path.name).read_bytes() == path.read_bytes()
        head = s3.head_object(Bucket=BUCKET, Key=f"job-1/out/{path.name}")
        assert (head["ContentLength"], head["Metadata"]) == (path.stat().st_size, {"step": "9"})
    assert s3.head_object(Bucket=BUCKET, Key="job-1/out/large")["ETag"].endswith('-3"')
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix="job-1/")
    assert [entry["Key"] for entry in found["Contents"]] == ["job-1/out/large", "job-1/out/small"]
    assert sorted(based.stored) == [
        (BUCKET, "job-1/out/large", large.stat().st_size),
        (BUCKET, "job-1/out/small", 7),
    ]
    assert leftovers(based) == []


def test_what_is_sent_with_an_object_comes_back(shared):
    s3 = client(shared)
    sent = {
        "ContentType": "image/png",
        "CacheControl": "no-cache",
        "ContentDisposition": 'attachment; filename="a.png"',
        "ContentEncoding": "br",
        "ContentLanguage": "ja",
        "Metadata": {"mtime": "1.5", "who": "ann"},
    }
    put = s3.put_object(Bucket=BUCKET, Key="meta/a", Body=b"hello", **sent)
    for answer in (s3.get_object(Bucket=BUCKET, Key="meta/a"), s3.head_object(Bucket=BUCKET, Key="meta/a")):
        assert {name: answer[name] for name in sent} == sent
        assert answer["ETag"] == put["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    assert s3.get_object(Bucket=BUCKET, Key="meta/a")["ChecksumCRC32"] == put["ChecksumCRC32"]
    s3.put_object(Bucket=BUCKET, Key="meta/a", Body=b"")
    answer = s3.get_object(Bucket=BUCKET, Key="meta/a")
    assert (answer["Body"].read(), answer["Metadata"], answer["ContentType"]) == (b"", {}, "binary/octet-stream")


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_go_there_and_back(shared, key):
    s3 = client(shared)
    s3.put_object(Bucket=BUCKET, Key=f"odd/{key}", Body=key.encode())
    assert s3.get_object(Bucket=BUCKET, Key=f"odd/{key}")["Body"].read() == key.encode()
    assert (shared.objects._root / BUCKET / "odd" / key).read_bytes() == key.encode()
    s3.delete_object(Bucket=BUCKET, Key=f"odd/{key}")
    assert refused(s3.get_object, Bucket=BUCKET, Key=f"odd/{key}") == "NoSuchKey 404"


@pytest.mark.parametrize(
    ("asked", "data", "span"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=5-99", b"56789", "bytes 5-9/10"),
        ("bytes=3-2", b"0123456789", None),
        ("bytes=0-1,3-4", b"0123456789", None),
        ("lines=0-1", b"0123456789", None),
    ],
)
def test_ranges(shared, asked, data, span):
    s3 = client(shared)
    s3.put_object(Bucket=BUCKET, Key="range", Body=b"0123456789")
    answer = s3.get_object(Bucket=BUCKET, Key="range", Range=asked, ChecksumMode="ENABLED")
    assert answer["Body"].read() == data
    assert answer.get("ContentRange") == span
    assert answer["ContentLength"] == len(data)
    assert ("ChecksumCRC32" in answer) is (span is None)
    head = s3.head_object(Bucket=BUCKET, Key="range", Range=asked)
    assert head["ContentLength"] == len(data)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_ranges_behind_the_end(shared, asked):
    client(shared).put_object(Bucket=BUCKET, Key="range", Body=b"0123456789")
    answer = raw(shared, "GET", f"/{BUCKET}/range", headers={"Range": asked})
    assert (answer.status, answer.code, answer.headers["content-range"]) == (416, "InvalidRange", "bytes */10")


def test_conditions_of_reads(shared):
    s3 = client(shared)
    etag = s3.put_object(Bucket=BUCKET, Key="cond", Body=b"x")["ETag"]
    assert s3.get_object(Bucket=BUCKET, Key="cond", IfMatch=etag)["Body"].read() == b"x"
    assert refused(s3.get_object, Bucket=BUCKET, Key="cond", IfMatch='"other"') == "PreconditionFailed 412"
    assert refused(s3.get_object, Bucket=BUCKET, Key="cond", IfNoneMatch=etag) == "304 304"
    modified = s3.head_object(Bucket=BUCKET, Key="cond")["LastModified"]
    assert refused(s3.head_object, Bucket=BUCKET, Key="cond", IfModifiedSince=modified) == "304 304"
    assert refused(s3.put_object, Bucket=BUCKET, Key="cond", Body=b"y", IfNoneMatch="*") == "PreconditionFailed 412"
    assert s3.get_object(Bucket=BUCKET, Key="cond")["Body"].read() == b"x"


def test_errors_of_head_have_no_body(shared):
    answer = raw(shared, "HEAD", f"/{BUCKET}/nothing")
    assert (answer.status, answer.body) == (404, b"")
    assert answer.headers["x-amz-request-id"]
    missing = raw(shared, "GET", f"/{BUCKET}/nothing")
    assert (missing.status, missing.code, missing.headers["content-type"]) == (404, "NoSuchKey", "application/xml")


def test_buckets(shared):
    s3 = client(shared)
    for _ in range(2):
        s3.create_bucket(Bucket="photos")
    s3.head_bucket(Bucket="photos")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET, "photos"]
    assert raw(shared, "GET", "/").status == raw(shared, "GET", "").status == 200
    assert raw(shared, "GET", f"/{BUCKET}/").status == raw(shared, "GET", f"/{BUCKET}").status == 200
    assert refused(s3.head_bucket, Bucket="nothere") == "404 404"
    assert refused(s3.list_objects_v2, Bucket="nothere") == "NoSuchBucket 404"
    assert refused(s3.put_object, Bucket="nothere", Key="a", Body=b"") == "NoSuchBucket 404"
    assert raw(shared, "PUT", "/api").code == raw(shared, "PUT", "/Photos").code == "InvalidBucketName"


@pytest.fixture(scope="module")
def listed(shared):
    s3 = client(shared)
    s3.create_bucket(Bucket="listed")
    for key in [*ODD_KEYS, "b/1", "b/2", "b-1", "c"]:
        s3.put_object(Bucket="listed", Key=key, Body=b"x")
    return s3


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("delimiter", ["", "/", " "])
@pytest.mark.parametrize("call", ["list_objects", "list_objects_v2"])
def test_pages_of_listings(listed, call, delimiter, size):
    keys, prefixes = [], []
    for page in listed.get_paginator(call).paginate(
        Bucket="listed", Delimiter=delimiter, PaginationConfig={"PageSize": size}
    ):
        keys += [entry["Key"] for entry in page.get("Contents", [])]
        prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        assert len(page.get("Contents", [])) + len(page.get("CommonPrefixes", [])) <= size
    everything = sorted([*ODD_KEYS, "b/1", "b/2", "b-1", "c"], key=str.encode)
    if not delimiter:
        assert (keys, prefixes) == (everything, [])
        return
    assert keys == [key for key in everything if delimiter not in key]
    rolled = {key[: key.index(delimiter) + 1] for key in everything if delimiter in key}
    assert prefixes == sorted(rolled, key=str.encode)


def test_listings_by_their_parameters(shared, listed):
    found = listed.list_objects_v2(Bucket="listed", Prefix="b", StartAfter="b-1", FetchOwner=True)
    assert [entry["Key"] for entry in found["Contents"]] == ["b/1", "b/2"]
    assert found["KeyCount"] == 2
    assert "Owner" in found["Contents"][0]
    assert found["Contents"][0]["ETag"] == '"9dd4e461268c8034f5c8564e155c67a6"'
    empty = listed.list_objects_v2(Bucket="listed", MaxKeys=0)
    assert (empty["KeyCount"], empty["IsTruncated"]) == (0, False)
    assert b"<Key>a%20b</Key>" in raw(shared, "GET", "/listed?encoding-type=url&prefix=a%20").body
    assert b"<Key>'\"&lt;&gt;&amp;.txt</Key>" in raw(shared, "GET", "/listed?list-type=2&prefix=%27").body
    document = ET.fromstring(raw(shared, "GET", "/listed?list-type=2").body)
    plain = [element.text for element in document.iter("{http://s3.amazonaws.com/doc/2006-03-01/}Key")]
    assert plain == sorted([*ODD_KEYS, "b/1", "b/2", "b-1", "c"], key=str.encode)
    for query in (
        "max-keys=-1",
        "max-keys=x",
        "encoding-type=base64",
        "list-type=3",
        "list-type=2&continuation-token=%2A",
    ):
        assert raw(shared, "GET", "/listed?" + query).code == "InvalidArgument"


def test_multipart_by_hand(server):
    """Parts out of order, one sent twice, listed in pages; completing again gives the same answer."""
    s3 = client(server)
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="m", Metadata={"a": "b"}, ChecksumAlgorithm="CRC32")[
        "UploadId"
    ]
    parts = {1: b"1" * MIN_PART_BYTES, 2: b"2" * MIN_PART_BYTES, 7: b"7"}
    here = {"Bucket": BUCKET, "Key": "m", "UploadId": upload}
    s3.upload_part(**here, PartNumber=2, Body=b"wrong")
    done = {}
    for number in (7, 2, 1):
        answer = s3.upload_part(**here, PartNumber=number, Body=parts[number])
        done[number] = {"ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"], "PartNumber": number}
    pages = list(s3.get_paginator("list_parts").paginate(**here, PaginationConfig={"PageSize": 2}))
    assert [[part["PartNumber"] for part in page["Parts"]] for page in pages] == [[1, 2], [7]]
    assert pages[1]["Parts"][0]["ChecksumCRC32"] == done[7]["ChecksumCRC32"]
    assert keys_in(server) == []
    chosen = {"Parts": [done[number] for number in (1, 2, 7)]}
    first = s3.complete_multipart_upload(**here, MultipartUpload=chosen)
    again = s3.complete_multipart_upload(**here, MultipartUpload=chosen)
    assert first["ETag"] == again["ETag"] == s3.head_object(Bucket=BUCKET, Key="m")["ETag"]
    digests = b"".join(base64.b64decode(done[number]["ChecksumCRC32"]) for number in (1, 2, 7))
    assert first["ChecksumCRC32"] == base64.b64encode(zlib.crc32(digests).to_bytes(4, "big")).decode() + "-3"
    got = s3.get_object(Bucket=BUCKET, Key="m")
    assert got["Body"].read() == b"".join(parts[number] for number in (1, 2, 7))
    assert got["Metadata"] == {"a": "b"}
    assert leftovers(server) == []
    assert refused(s3.list_parts, **here) == "NoSuchUpload 404"


def test_completions_that_do_not_fit_leave_the_upload_as_it_was(server):
    s3 = client(server)
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="m")["UploadId"]
    here = {"Bucket": BUCKET, "Key": "m", "UploadId": upload}
    etags = [s3.upload_part(**here, PartNumber=number, Body=b"small")["ETag"] for number in (1, 2)]

    def complete(*parts, **more) -> str:
        chosen = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in parts]}
        return refused(s3.complete_multipart_upload, **here, MultipartUpload=chosen, **more)

    assert complete((1, etags[0]), (2, etags[1])) == "EntityTooSmall 400"
    assert complete((2, etags[1]), (1, etags[0])) == "InvalidPartOrder 400"
    assert complete((1, '"other"')) == "InvalidPart 400"
    assert complete((3, etags[0])) == "InvalidPart 400"
    assert complete((1, etags[0]), MpuObjectSize=6) == "InvalidRequest 400"
    for body in (
        b"",
        b"<a/>",
        b"<CompleteMultipartUpload/>",
        b"<CompleteMultipartUpload><Part/></CompleteMultipartUpload>",
    ):
        assert raw(server, "POST", f"/{BUCKET}/m?uploadId={upload}", body=body).code == "MalformedXML"
    assert keys_in(server) == []
    s3.abort_multipart_upload(**here)
    assert refused(s3.abort_multipart_upload, **here) == "NoSuchUpload 404"
    assert refused(s3.upload_part, **here, PartNumber=1, Body=b"x") == "NoSuchUpload 404"
    assert complete((1, etags[0])) == "NoSuchUpload 404"
    assert leftovers(server) == []


@pytest.mark.parametrize(
    "document",
    [
        b'<!DOCTYPE a [<!ENTITY x "y">]><CompleteMultipartUpload>&x;</CompleteMultipartUpload>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><CompleteMultipartUpload/>',
        b"<CompleteMultipartUpload>&undefined;</CompleteMultipartUpload>",
        b'<?xml version="1.0" encoding="nonsense"?><CompleteMultipartUpload/>',
        b"\xff\xfe",
    ],
)
def test_hostile_xml(shared, document):
    upload = client(shared).create_multipart_upload(Bucket=BUCKET, Key="hostile")["UploadId"]
    assert raw(shared, "POST", f"/{BUCKET}/hostile?uploadId={upload}", body=document).code == "MalformedXML"


def test_a_document_that_is_too_long_is_refused(shared):
    upload = client(shared).create_multipart_upload(Bucket=BUCKET, Key="hostile")["UploadId"]
    body = b"<CompleteMultipartUpload>" + b" " * (2 << 20)
    answer = raw(shared, "POST", f"/{BUCKET}/hostile?uploadId={upload}", body=body)
    assert answer.code == "EntityTooLarge"


def test_completed_and_aborted_at_once_ends_in_one_true_state(server):
    s3 = client(server)
    for turn in range(6):
        key = f"race-{turn}"
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        here = {"Bucket": BUCKET, "Key": key, "UploadId": upload}
        etag = s3.upload_part(**here, PartNumber=1, Body=b"x" * 100_000)["ETag"]
        chosen = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        answers: dict[str, str] = {}

        def attempt(name, call, answers=answers, **kwargs):
            try:
                call(**kwargs)
                answers[name] = "done"
            except s3.exceptions.ClientError as error:
                answers[name] = error.response["Error"]["Code"]

        threads = [
            threading.Thread(target=attempt, args=("abort", s3.abort_multipart_upload), kwargs=here),
            threading.Thread(
                target=attempt,
                args=("complete", s3.complete_multipart_upload),
                kwargs=here | {"MultipartUpload": chosen},
            ),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers.values()) == ["NoSuchUpload", "done"]
        assert (key in keys_in(server)) is (answers["complete"] == "done")
    assert leftovers(server) == []
