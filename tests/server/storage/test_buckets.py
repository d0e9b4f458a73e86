"""The calls about buckets, and those that concern many keys at once."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import threading
from xml.etree import ElementTree as ET

import pytest

from simpletuner_lab.core.naming import MARKER
from tests.server.storage.kit import BUCKET, client, keys_in, leftovers, raw, refused

NS = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def test_a_bucket_goes_when_it_is_empty(server):
    s3 = client(server)
    s3.create_bucket(Bucket="photos")
    s3.put_object(Bucket="photos", Key="a/b/", Body=b"")
    assert refused(s3.delete_bucket, Bucket="photos") == "BucketNotEmpty 409"
    s3.delete_object(Bucket="photos", Key="a/b/")
    upload = s3.create_multipart_upload(Bucket="photos", Key="up")["UploadId"]
    assert refused(s3.delete_bucket, Bucket="photos") == "BucketNotEmpty 409"
    s3.abort_multipart_upload(Bucket="photos", Key="up", UploadId=upload)
    root = server.objects._root
    (root / "photos/empty/deep").mkdir(parents=True)
    (root / "photos/link").symlink_to(root)
    assert refused(s3.delete_bucket, Bucket="photos") == "BucketNotEmpty 409"
    (root / "photos/link").unlink()
    s3.delete_bucket(Bucket="photos")
    assert not (root / "photos").exists()
    assert refused(s3.delete_bucket, Bucket="photos") == "NoSuchBucket 404"


def test_the_marker_of_its_own_folder_keeps_no_bucket(server):
    s3 = client(server)
    s3.create_bucket(Bucket="photos")
    bucket = server.objects._root / "photos"
    (bucket / MARKER).touch()
    (bucket / "file").touch()
    assert refused(s3.delete_bucket, Bucket="photos") == "BucketNotEmpty 409"
    assert (bucket / MARKER).exists()
    (bucket / "file").unlink()
    s3.delete_bucket(Bucket="photos")
    assert not bucket.exists()


def test_a_bucket_was_made_when_it_was_made(server):
    s3 = client(server)
    s3.create_bucket(Bucket="photos")
    bucket = server.objects._root / "photos"
    if sys.platform == "linux" and not os.listxattr(bucket):
        pytest.skip("this file system keeps no attributes")

    def made():
        return {one["Name"]: one["CreationDate"] for one in s3.list_buckets()["Buckets"]}

    (server.objects._root / "by-hand").mkdir()
    first = made()
    for name in ("photos", "by-hand"):
        s3.put_object(Bucket=name, Key="one", Body=b"x")
        (server.objects._root / name).chmod(0o750)
    assert made() == first


def test_no_grant_of_a_job_removes_a_bucket(server):
    s3 = client(server, server.issue("job-1"))
    assert refused(s3.delete_bucket, Bucket=BUCKET) == "AccessDenied 403"
    assert (server.objects._root / BUCKET).is_dir()


def test_location(shared):
    assert client(shared).get_bucket_location(Bucket=BUCKET)["LocationConstraint"] is None
    for path in (f"/{BUCKET}?location", f"/{BUCKET}/?location", f"/{BUCKET}?location="):
        answer = raw(shared, "GET", path)
        assert (answer.status, ET.fromstring(answer.body).tag) == (200, f"{NS}LocationConstraint")
    assert raw(shared, "GET", "/nothere?location").code == "NoSuchBucket"
    assert raw(shared, "GET", f"/{BUCKET}?location", keys=shared.issue("job-9")).status == 200
    assert raw(shared, "GET", "/photos?location", keys=shared.issue("job-9")).code == "AccessDenied"


def test_pages_of_buckets(server):
    s3 = client(server)
    names = [f"b-{number}" for number in range(5)]
    for name in names:
        s3.create_bucket(Bucket=name)
    found, token, pages = [], {}, 0
    while True:
        page = s3.list_buckets(Prefix="b-", MaxBuckets=2, **token)
        assert page["Prefix"] == "b-"
        found += [bucket["Name"] for bucket in page["Buckets"]]
        pages += 1
        if "ContinuationToken" not in page:
            break
        token = {"ContinuationToken": page["ContinuationToken"]}
    assert (found, pages) == (names, 3)
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [*names, BUCKET]
    assert s3.list_buckets(BucketRegion="eu-west-1").get("Buckets", []) == []
    for query in ("max-buckets=0", "max-buckets=x", "max-buckets=10001", "continuation-token=%2A"):
        assert raw(server, "GET", f"/?{query}").code == "InvalidArgument"
        assert raw(server, "GET", f"?{query}").code == "InvalidArgument"


def test_many_objects_are_deleted_at_once(server):
    s3 = client(server)
    for number in range(3):
        s3.put_object(Bucket=BUCKET, Key=f"d/{number} ü&<", Body=b"x")
    s3.put_object(Bucket=BUCKET, Key="keep", Body=b"x")
    keys = [f"d/{number} ü&<" for number in range(3)] + ["never/was"]
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]})
    assert [one["Key"] for one in answer["Deleted"]] == keys
    assert "Errors" not in answer
    quiet = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "x"}, {"Key": "a/../b"}], "Quiet": True})
    assert "Deleted" not in quiet
    assert [(one["Key"], one["Code"]) for one in quiet["Errors"]] == [("a/../b", "InvalidArgument")]
    assert keys_in(server) == ["keep"]
    thousand = {"Objects": [{"Key": f"k{number}"} for number in range(1000)]}
    assert len(s3.delete_objects(Bucket=BUCKET, Delete=thousand)["Deleted"]) == 1000
    thousand["Objects"].append({"Key": "one more"})
    assert refused(s3.delete_objects, Bucket=BUCKET, Delete=thousand) == "MalformedXML 400"
    assert refused(s3.delete_objects, Bucket="nothere", Delete={"Objects": [{"Key": "a"}]}) == "NoSuchBucket 404"


def test_each_key_of_a_deletion_is_covered_by_the_grant(server):
    owner, s3 = client(server), client(server, server.issue("job-1"))
    for key in ("job-1/a", "job-2/a", "job-10/a"):
        owner.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    keys = ["job-2/a", "job-1/a", "job-10/a", "job-2/nothing", "../server.key"]
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]})
    assert [one["Key"] for one in answer["Deleted"]] == ["job-1/a"]
    assert {one["Key"]: one["Code"] for one in answer["Errors"]} == {
        "job-2/a": "AccessDenied",
        "job-10/a": "AccessDenied",
        "job-2/nothing": "AccessDenied",
        "../server.key": "InvalidArgument",
    }
    assert keys_in(server) == ["job-10/a", "job-2/a"]
    assert refused(s3.delete_objects, Bucket="photos", Delete={"Objects": [{"Key": "job-1/a"}]}) == "AccessDenied 403"


def test_a_deletion_carries_a_digest_of_its_body(shared):
    body = b"<Delete><Object><Key>nothing</Key></Object></Delete>"
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    sha = base64.b64encode(hashlib.sha256(body).digest()).decode()

    def post(**headers) -> str:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return raw(shared, "POST", f"/{BUCKET}?delete", body=body, headers=given).code or "fine"

    assert post() == "InvalidRequest"
    assert post(Content_MD5=md5) == post(x_amz_checksum_sha256=sha) == "fine"
    assert post(Content_MD5=base64.b64encode(b"0" * 16).decode()) == "BadDigest"
    assert post(x_amz_checksum_sha1=base64.b64encode(b"0" * 20).decode()) == "BadDigest"
    assert post(Content_MD5=md5, x_amz_sdk_checksum_algorithm="CRC32") == "InvalidRequest"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<a/>",
        b"<Delete/>",
        b"<Delete><Object/></Delete>",
        b"<Delete><Object><Key></Key></Object></Delete>",
        b"<Delete><Nonsense/></Delete>",
        b"<Delete><Object><Key>a</Key>",
        b'<!DOCTYPE a [<!ENTITY x "y">]><Delete><Object><Key>&x;</Key></Object></Delete>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><Delete/>',
    ],
)
def test_deletions_that_cannot_be_read(shared, body):
    headers = {"Content-MD5": base64.b64encode(hashlib.md5(body).digest()).decode()}
    assert raw(shared, "POST", f"/{BUCKET}?delete", body=body, headers=headers).code == "MalformedXML"


def test_deletions_on_a_condition(server):
    s3 = client(server)
    etag = s3.put_object(Bucket=BUCKET, Key="a", Body=b"12345")["ETag"]
    modified = s3.head_object(Bucket=BUCKET, Key="a")["LastModified"]
    for wrong in ({"ETag": '"other"'}, {"Size": 4}):
        answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "a", **wrong}]})
        assert answer["Errors"][0]["Code"] == "PreconditionFailed"
    assert keys_in(server) == ["a"]
    right = {"Key": "a", "ETag": etag, "Size": 5, "LastModifiedTime": modified}
    assert s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [right]})["Deleted"] == [{"Key": "a"}]
    assert keys_in(server) == []


@pytest.fixture(scope="module")
def busy(shared):
    """Uploads of several keys, two of one."""
    s3 = client(shared)
    s3.create_bucket(Bucket="uploads")
    keys = ["a b", "d/1", "d/2", "e&<", "e&<", "z"]
    return s3, [(key, s3.create_multipart_upload(Bucket="uploads", Key=key)["UploadId"]) for key in keys]


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize("delimiter", ["", "/"])
@pytest.mark.parametrize("prefix", ["", "d/", "e"])
def test_pages_of_uploads(busy, size, delimiter, prefix):
    s3, begun = busy
    found, prefixes = [], []
    for page in s3.get_paginator("list_multipart_uploads").paginate(
        Bucket="uploads", Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}
    ):
        found += [(upload["Key"], upload["UploadId"]) for upload in page.get("Uploads", [])]
        prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        assert len(page.get("Uploads", [])) + len(page.get("CommonPrefixes", [])) <= size
    rolled = delimiter and prefix != "d/"
    wanted = [(key, id_) for key, id_ in begun if key.startswith(prefix) and not (rolled and "/" in key)]
    assert found == wanted
    assert prefixes == (["d/"] if rolled and prefix == "" else [])


def test_uploads_by_their_parameters(shared, busy):
    s3, begun = busy
    page = s3.list_multipart_uploads(Bucket="uploads", KeyMarker="e&<")
    assert [upload["Key"] for upload in page["Uploads"]] == ["z"]
    page = s3.list_multipart_uploads(Bucket="uploads", KeyMarker="e&<", UploadIdMarker=begun[3][1])
    assert [upload["UploadId"] for upload in page["Uploads"]] == [begun[4][1], begun[5][1]]
    none = s3.list_multipart_uploads(Bucket="uploads", MaxUploads=0)
    assert ("Uploads" in none, none["IsTruncated"]) == (False, False)
    assert b"<Key>a%20b</Key>" in raw(shared, "GET", "/uploads?uploads&encoding-type=url").body
    assert raw(shared, "GET", "/uploads?uploads&max-uploads=x").code == "InvalidArgument"
    assert raw(shared, "GET", "/nothere?uploads").code == "NoSuchBucket"
    mine = client(shared, shared.issue("job-7"))
    assert refused(mine.list_multipart_uploads, Bucket=BUCKET) == "AccessDenied 403"
    assert refused(mine.list_multipart_uploads, Bucket="uploads", Prefix="job-7/") == "AccessDenied 403"
    assert "Uploads" not in mine.list_multipart_uploads(Bucket=BUCKET, Prefix="job-7/")


def test_pages_hold_while_others_write(server):
    """Keys that were there all the time are seen once each, whatever comes and goes around them."""
    s3 = client(server)
    steady = [f"k{number:03}" for number in range(40)]
    for key in steady:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            key = f"k{number % 40:03}-{number % 7}"
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
            s3.delete_object(Bucket=BUCKET, Key=key)
            number += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for call in ("list_objects", "list_objects_v2"):
            found = []
            for page in s3.get_paginator(call).paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 3}):
                found += [entry["Key"] for entry in page["Contents"]]
            assert [key for key in found if "-" not in key] == steady
            assert found == sorted(found)
    finally:
        stop.set()
        thread.join()
    assert leftovers(server) == []
