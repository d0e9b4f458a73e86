"""Presigned URLs, and what the endpoint refuses by name."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from tests.server.storage.kit import BUCKET, client, raw


def test_presigned_urls(shared):
    s3 = client(shared)
    put = s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "pre/ü b"}, ExpiresIn=60)
    with urllib.request.urlopen(urllib.request.Request(put, data=b"hello", method="PUT")) as answer:
        assert answer.status == 200
    get = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "pre/ü b"}, ExpiresIn=60)
    with urllib.request.urlopen(get) as answer:
        assert answer.read() == b"hello"
    for bad in (
        get.replace("pre", "prf"),
        get.replace("Expires=60", "Expires=61"),
        get[:-1] + "0" * (get[-1] != "0") + "1" * (get[-1] == "0"),
    ):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(bad)


def test_sigv2_urls_are_refused_with_what_to_do(shared):
    import boto3

    keys = shared.owner
    old = boto3.client(
        "s3",
        endpoint_url=shared.endpoint_url,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key.reveal(),
        region_name="us-east-1",
    )
    url = old.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "k"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url)
    assert b"s3v4" in caught.value.read()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/outputs?acl"),
        ("PUT", "/outputs?policy"),
        ("GET", "/outputs?versioning"),
        ("GET", "/outputs?lifecycle"),
        ("POST", "/outputs"),
        ("POST", "/outputs/k"),
        ("GET", "/outputs/k?tagging"),
        ("GET", "/outputs/k?versionId=1"),
        ("PUT", "/outputs/k?acl"),
        ("POST", "/outputs/k?restore"),
    ],
)
def test_what_is_out_of_scope_is_refused_by_name(shared, method, path):
    answer = raw(shared, method, path)
    assert (answer.status, answer.code) == (501, "NotImplemented")


@pytest.mark.parametrize(
    "header",
    [
        {"x-amz-copy-source-if-match": "x"},
        {"x-amz-metadata-directive": "COPY"},
        {"x-amz-object-attributes": "ETag"},
        {"if-modified-since": "Tue, 01 Jan 2030 00:00:00 GMT"},
        {"x-amz-acl": "public-read"},
        {"x-amz-storage-class": "GLACIER"},
        {"x-amz-server-side-encryption": "AES256"},
        {"x-amz-tagging": "a=b"},
        {"x-amz-checksum-sha512": "AAAA"},
        {"x-amz-checksum-xxhash64": "AAAAAAAAAAA="},
        {"x-amz-nonsense": "1"},
    ],
)
def test_headers_that_would_be_dropped_are_refused_by_name(shared, header):
    answer = raw(shared, "PUT", f"/{BUCKET}/header", headers=header)
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert (
        raw(
            shared, "PUT", f"/{BUCKET}/header", headers={"x-amz-acl": "private", "x-amz-storage-class": "STANDARD"}
        ).status
        == 200
    )
