"""CopyObject and UploadPartCopy, as boto3 sends them."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from datetime import UTC, datetime, timedelta

import pytest

from simpletuner_lab.server.storage.parts import MIN_PART_BYTES
from tests.server.storage.kit import BUCKET, client, keys_in, leftovers, raw, refused


@pytest.fixture(scope="module")
def s3(shared):
    made = client(shared)
    made.create_bucket(Bucket="photos")
    return made


def read(s3, key, bucket=BUCKET) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_a_copy_has_bytes_etag_and_metadata_of_its_source(s3):
    put = s3.put_object(
        Bucket=BUCKET, Key="a", Body=b"hello", Metadata={"who": "ann"}, ContentType="text/x", ChecksumAlgorithm="SHA256"
    )
    for bucket in (BUCKET, "photos"):
        answer = s3.copy_object(Bucket=bucket, Key="deep/b", CopySource={"Bucket": BUCKET, "Key": "a"})[
            "CopyObjectResult"
        ]
        assert (answer["ETag"], answer["ChecksumSHA256"]) == (put["ETag"], put["ChecksumSHA256"])
        got = s3.get_object(Bucket=bucket, Key="deep/b")
        assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"hello", {"who": "ann"}, "text/x")
        assert got["ETag"] == put["ETag"]


def test_metadata_is_replaced_where_that_is_asked_for(s3):
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"hello", Metadata={"who": "ann"}, CacheControl="no-store")
    source = {"Bucket": BUCKET, "Key": "a"}
    s3.copy_object(Bucket=BUCKET, Key="b", CopySource=source, Metadata={"new": "1"}, ContentType="text/y")
    assert s3.head_object(Bucket=BUCKET, Key="b")["Metadata"] == {"who": "ann"}
    more = {"Metadata": {"new": "1"}, "ContentType": "text/y", "MetadataDirective": "REPLACE"}
    for key in ("b", "a"):
        s3.copy_object(Bucket=BUCKET, Key=key, CopySource=source, **more)
        head = s3.head_object(Bucket=BUCKET, Key=key)
        assert (head["Metadata"], head["ContentType"], head.get("CacheControl")) == ({"new": "1"}, "text/y", None)
        assert read(s3, key) == b"hello"
    assert refused(s3.copy_object, Bucket=BUCKET, Key="a", CopySource=source) == "InvalidRequest 400"
    assert refused(s3.copy_object, Bucket=BUCKET, Key="a", CopySource=source, MetadataDirective="X").startswith("Inv")


def test_another_checksum_is_made_where_that_is_asked_for(s3):
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"hello", ChecksumAlgorithm="CRC32")
    source = {"Bucket": BUCKET, "Key": "a"}
    made = s3.copy_object(Bucket=BUCKET, Key="sum", CopySource=source, ChecksumAlgorithm="SHA1")["CopyObjectResult"]
    assert made["ChecksumSHA1"] == base64.b64encode(hashlib.sha1(b"hello").digest()).decode()
    assert s3.get_object(Bucket=BUCKET, Key="sum")["ChecksumSHA1"] == made["ChecksumSHA1"]


@pytest.mark.parametrize("key", ["a b", "a+b", "a%20b", "ü/日本/😀", "q?versionId=1", "a&b=c#d", "'\"<>"])
def test_sources_with_special_characters(s3, key):
    s3.put_object(Bucket=BUCKET, Key=f"odd/{key}", Body=key.encode())
    s3.copy_object(Bucket=BUCKET, Key="odd-copy", CopySource={"Bucket": BUCKET, "Key": f"odd/{key}"})
    assert read(s3, "odd-copy") == key.encode()


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("", "InvalidArgument"),
        ("outputs", "InvalidArgument"),
        ("outputs/", "InvalidArgument"),
        ("/outputs/nothing", "NoSuchKey"),
        ("/nothere/a", "NoSuchBucket"),
        ("/outputs/../server.key", "InvalidArgument"),
        ("/outputs/%2e%2e/server.key", "InvalidArgument"),
        ("/outputs/a%00", "InvalidArgument"),
        ("/outputs/a%5cb", "InvalidArgument"),
        ("/outputs//etc/passwd", "InvalidArgument"),
        ("/%2e%2e/a", "InvalidBucketName"),
        ("/.stlab/drafts", "InvalidBucketName"),
        ("/outputs/%ff", "InvalidArgument"),
        ("/outputs/a?versionId=7", "NotImplemented"),
    ],
)
def test_sources_that_cannot_be(shared, source, code):
    for path in (f"/{BUCKET}/target", f"/{BUCKET}/target?partNumber=1&uploadId={'0' * 32}"):
        answer = raw(shared, "PUT", path, headers={"x-amz-copy-source": source})
        assert answer.code in {code, "NoSuchUpload"}
    assert "target" not in keys_in(shared)


def test_conditions_on_the_source(s3):
    etag = s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")["ETag"]
    before, after = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=1)
    here = {"Bucket": BUCKET, "Key": "cond", "CopySource": {"Bucket": BUCKET, "Key": "a"}}
    s3.copy_object(**here, CopySourceIfMatch=etag, CopySourceIfUnmodifiedSince=before)
    s3.copy_object(**here, CopySourceIfNoneMatch='"other"', CopySourceIfModifiedSince=before)
    for condition in (
        {"CopySourceIfMatch": '"other"'},
        {"CopySourceIfNoneMatch": etag},
        {"CopySourceIfModifiedSince": after},
        {"CopySourceIfUnmodifiedSince": before},
        {"CopySourceIfNoneMatch": etag, "CopySourceIfModifiedSince": before},
    ):
        assert refused(s3.copy_object, **here, **condition) == "PreconditionFailed 412"
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="cond")["UploadId"]
        assert (
            refused(s3.upload_part_copy, **here, UploadId=upload, PartNumber=1, **condition) == "PreconditionFailed 412"
        )


def test_source_and_target_are_both_covered_by_the_grant(server):
    mine, theirs, owner = server.issue("job-1"), server.issue("job-2"), client(server)
    s3 = client(server, mine)
    owner.put_object(Bucket=BUCKET, Key="job-2/secret", Body=b"secret")
    owner.put_object(Bucket=BUCKET, Key="job-1/a", Body=b"mine")
    s3.copy_object(Bucket=BUCKET, Key="job-1/b", CopySource={"Bucket": BUCKET, "Key": "job-1/a"})
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="job-1/up")["UploadId"]
    before = keys_in(server), leftovers(server)
    for key in ("job-2/secret", "job-2/nothing", "job-10/a", "../server.key"):
        code = "InvalidArgument 400" if ".." in key else "AccessDenied 403"
        source = {"Bucket": BUCKET, "Key": key}
        assert refused(s3.copy_object, Bucket=BUCKET, Key="job-1/stolen", CopySource=source) == code
        up = {"Bucket": BUCKET, "Key": "job-1/up", "UploadId": upload, "PartNumber": 1}
        assert refused(s3.upload_part_copy, **up, CopySource=source) == code
    own = {"Bucket": BUCKET, "Key": "job-1/a"}
    assert refused(s3.copy_object, Bucket=BUCKET, Key="job-2/planted", CopySource=own) == "AccessDenied 403"
    assert (
        refused(client(server, theirs).copy_object, Bucket=BUCKET, Key="job-2/x", CopySource=own) == "AccessDenied 403"
    )
    assert (keys_in(server), leftovers(server)) == before


def test_a_quota_counts_copies(server):
    s3 = client(server, server.issue("job-1", quota_bytes=25))
    s3.put_object(Bucket=BUCKET, Key="job-1/a", Body=b"x" * 10)
    source = {"Bucket": BUCKET, "Key": "job-1/a"}
    s3.copy_object(Bucket=BUCKET, Key="job-1/b", CopySource=source)
    assert refused(s3.copy_object, Bucket=BUCKET, Key="job-1/c", CopySource=source) == "InsufficientStorage 507"
    assert keys_in(server) == ["job-1/a", "job-1/b"]


def test_parts_that_are_copied(server):
    s3 = client(server)
    data = os.urandom(MIN_PART_BYTES + 1000)
    s3.put_object(Bucket=BUCKET, Key="source", Body=data)
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="m", ChecksumAlgorithm="CRC32")["UploadId"]
    here = {"Bucket": BUCKET, "Key": "m", "UploadId": upload}
    source = {"CopySource": {"Bucket": BUCKET, "Key": "source"}}
    first = s3.upload_part_copy(**here, **source, PartNumber=1)["CopyPartResult"]
    second = s3.upload_part_copy(**here, **source, PartNumber=2, CopySourceRange="bytes=100-1099")["CopyPartResult"]
    assert first["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert second["ChecksumCRC32"] == base64.b64encode(zlib.crc32(data[100:1100]).to_bytes(4, "big")).decode()
    for asked, code in [
        (f"bytes=0-{len(data)}", "InvalidRange 416"),
        ("bytes=5-", "InvalidArgument 400"),
        ("bytes=-5", "InvalidArgument 400"),
        ("bytes=9-5", "InvalidArgument 400"),
        ("0-5", "InvalidArgument 400"),
    ]:
        assert refused(s3.upload_part_copy, **here, **source, PartNumber=3, CopySourceRange=asked) == code
    parts = [{"PartNumber": n, "ETag": part["ETag"]} for n, part in ((1, first), (2, second))]
    s3.complete_multipart_upload(**here, MultipartUpload={"Parts": parts})
    assert read(s3, "m") == data + data[100:1100]
    assert leftovers(server) == []
    copy = s3.copy_object(Bucket=BUCKET, Key="n", CopySource={"Bucket": BUCKET, "Key": "m"})["CopyObjectResult"]
    assert copy["ETag"] == s3.head_object(Bucket=BUCKET, Key="m")["ETag"]
    assert s3.get_object(Bucket=BUCKET, Key="n", PartNumber=2)["Body"].read() == data[100:1100]


def test_a_large_copy_goes_through_boto3s_own_transfer(server):
    from boto3.s3.transfer import TransferConfig

    s3, data = client(server), os.urandom(3 * MIN_PART_BYTES - 5)
    s3.put_object(Bucket=BUCKET, Key="a", Body=data)
    config = TransferConfig(multipart_threshold=MIN_PART_BYTES, multipart_chunksize=MIN_PART_BYTES)
    s3.copy({"Bucket": BUCKET, "Key": "a"}, BUCKET, "b", Config=config)
    assert read(s3, "b") == data
    assert s3.head_object(Bucket=BUCKET, Key="b")["ETag"].endswith('-3"')
