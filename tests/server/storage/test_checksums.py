"""Checksums of every kind: sent, trailed, computed, kept, shown. boto3 itself verifies what it gets."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib

import pytest
from awscrt import checksums as crt
from hypothesis import given
from hypothesis import strategies as st

from simpletuner_lab.server.storage.checksums import CYCLES, composite, encoded, full_object, new_hash, type_of
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.parts import MIN_PART_BYTES
from tests.server.storage.kit import BUCKET, client, keys_in, leftovers, raw, refused

VALUES = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: crt.crc32c(data).to_bytes(4, "big"),
    "CRC64NVME": lambda data: crt.crc64nvme(data).to_bytes(8, "big"),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("algorithm", "check"),
    [("crc32", "cbf43926"), ("crc32c", "e3069283"), ("crc64nvme", "ae8b14860a799888")],
)
def test_the_published_check_values(algorithm, check):
    """Of the catalogue of parametrised CRC algorithms: the value over 123456789."""
    value = new_hash(algorithm)
    for digit in b"123456789":
        value.update(bytes([digit]))
    assert value.digest().hex() == check


@given(pieces=st.lists(st.binary(max_size=300), max_size=6), algorithm=st.sampled_from(sorted(CYCLES)))
def test_the_checksum_of_the_whole_follows_from_those_of_the_parts(pieces, algorithm):
    def digest(data: bytes) -> bytes:
        value = new_hash(algorithm)
        value.update(data)
        return value.digest()

    made = full_object(algorithm, [(digest(piece), len(piece)) for piece in pieces])
    assert made == encoded(digest(b"".join(pieces)))


@pytest.mark.parametrize("name", VALUES)
def test_an_object_with_a_checksum(shared, name):
    s3, data = client(shared), os.urandom(1000)
    value, member, key = b64(VALUES[name](data)), f"Checksum{name}", f"sum/{name}"
    put = s3.put_object(Bucket=BUCKET, Key=key, Body=data, ChecksumAlgorithm=name)
    assert (put[member], put["ChecksumType"]) == (value, "FULL_OBJECT")
    s3.put_object(Bucket=BUCKET, Key=key, Body=data, **{member: value})
    wrong = b64(bytes(len(VALUES[name](b""))))
    assert refused(s3.put_object, Bucket=BUCKET, Key=key, Body=data, **{member: wrong}) == "BadDigest 400"
    for answer in (
        s3.get_object(Bucket=BUCKET, Key=key),
        s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED"),
    ):
        assert (answer[member], answer["ChecksumType"]) == (value, "FULL_OBJECT")
    assert member not in s3.get_object(Bucket=BUCKET, Key=key, Range="bytes=0-9")
    assert member not in s3.head_object(Bucket=BUCKET, Key=key)
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=key)["Contents"][0]
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == ([name], "FULL_OBJECT")
    attributes = s3.get_object_attributes(Bucket=BUCKET, Key=key, ObjectAttributes=["Checksum"])
    assert attributes["Checksum"] == {member: value, "ChecksumType": "FULL_OBJECT"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "COMPOSITE") for name in VALUES if name != "CRC64NVME"]
    + [(name, "FULL_OBJECT") for name in VALUES if name.startswith("CRC")],
)
def test_an_upload_with_checksums(server, name, kind):
    s3 = client(server, request_checksum_calculation="when_required")
    member, value = f"Checksum{name}", VALUES[name]
    parts = [os.urandom(MIN_PART_BYTES), os.urandom(MIN_PART_BYTES), b"end"]
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="m", ChecksumAlgorithm=name, ChecksumType=kind)
    assert (begun["ChecksumAlgorithm"], begun["ChecksumType"]) == (name, kind)
    here = {"Bucket": BUCKET, "Key": "m", "UploadId": begun["UploadId"]}
    chosen = []
    for number, data in enumerate(parts, 1):
        # the second comes without: it is computed all the same
        more = {} if number == 2 else {member: b64(value(data))}
        answer = s3.upload_part(**here, PartNumber=number, Body=data, **more)
        assert answer[member] == b64(value(data))
        chosen.append({"PartNumber": number, "ETag": answer["ETag"], member: answer[member]})
    page = s3.list_parts(**here)
    assert (page["ChecksumAlgorithm"], page["ChecksumType"]) == (name, kind)
    assert [part[member] for part in page["Parts"]] == [b64(value(data)) for data in parts]
    whole = value(b"".join(parts))
    expected = b64(whole)
    if kind == "COMPOSITE":
        expected = composite(name.lower(), [value(data) for data in parts])
    wrong = [dict(one) for one in chosen]
    wrong[0][member] = wrong[2][member]
    call = s3.complete_multipart_upload
    assert refused(call, **here, MultipartUpload={"Parts": wrong}) == "InvalidPart 400"
    bad = b64(bytes(len(whole)))
    assert refused(call, **here, MultipartUpload={"Parts": chosen}, **{member: bad}) == "BadDigest 400"
    other = "FULL_OBJECT" if kind == "COMPOSITE" else "COMPOSITE"
    assert refused(call, **here, MultipartUpload={"Parts": chosen}, ChecksumType=other) == "InvalidRequest 400"
    done = call(**here, MultipartUpload={"Parts": chosen}, ChecksumType=kind, **{member: expected})
    assert (done[member], done["ChecksumType"]) == (expected, kind)
    got = s3.get_object(Bucket=BUCKET, Key="m")
    assert (got["Body"].read(), got[member], got["ChecksumType"]) == (b"".join(parts), expected, kind)
    attributes = s3.get_object_attributes(
        Bucket=BUCKET, Key="m", ObjectAttributes=["ETag", "Checksum", "ObjectParts", "ObjectSize", "StorageClass"]
    )
    assert [part[member] for part in attributes["ObjectParts"]["Parts"]] == [b64(value(data)) for data in parts]
    assert attributes["ETag"] == done["ETag"].strip('"')
    assert leftovers(server) == []


def test_crc64nvme_is_of_the_whole_unless_told_otherwise(shared):
    begun = client(shared).create_multipart_upload(Bucket=BUCKET, Key="nvme", ChecksumAlgorithm="CRC64NVME")
    assert begun["ChecksumType"] == "FULL_OBJECT"


@pytest.mark.parametrize(
    ("algorithm", "kind", "expected"),
    [
        ("crc32", "", "COMPOSITE"),
        ("crc64nvme", "", "FULL_OBJECT"),
        ("sha1", "", "COMPOSITE"),
        ("", "", ""),
        ("crc32c", "FULL_OBJECT", "FULL_OBJECT"),
        ("sha256", "FULL_OBJECT", S3Error),
        ("sha1", "FULL_OBJECT", S3Error),
        ("crc64nvme", "COMPOSITE", S3Error),
        ("", "COMPOSITE", S3Error),
        ("crc32", "OTHER", S3Error),
    ],
)
def test_types_of_checksums(algorithm, kind, expected):
    if expected is S3Error:
        with pytest.raises(S3Error, match="InvalidRequest"):
            type_of(algorithm, kind)
    else:
        assert type_of(algorithm, kind) == expected


@pytest.mark.parametrize("name", ["sha512", "md5", "xxhash64", "xxhash3", "xxhash128"])
def test_what_is_not_spoken_is_refused_by_name(shared, name):
    calls = [
        ("PUT", f"/{BUCKET}/unspoken", {f"x-amz-checksum-{name}": "AAAA"}),
        ("PUT", f"/{BUCKET}/unspoken", {"x-amz-sdk-checksum-algorithm": name.upper()}),
        ("POST", f"/{BUCKET}/unspoken?uploads", {"x-amz-checksum-algorithm": name.upper()}),
    ]
    for method, path, headers in calls:
        answer = raw(shared, method, path, headers=headers)
        assert (answer.status, answer.code) == (501, "NotImplemented")
        assert name in answer.body.decode()
    assert "unspoken" not in keys_in(shared)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-sdk-checksum-algorithm": "CRC32"}, "InvalidRequest"),
        ({"x-amz-sdk-checksum-algorithm": "SHA1", "x-amz-checksum-crc32": b64(bytes(4))}, "InvalidRequest"),
        ({"x-amz-checksum-crc32": b64(bytes(4)), "x-amz-checksum-crc32c": b64(bytes(4))}, "InvalidRequest"),
        ({"x-amz-checksum-crc64nvme": b64(bytes(4))}, "InvalidRequest"),
        ({"x-amz-checksum-crc32": b64(bytes(4)), "Content-MD5": b64(bytes(15))}, "InvalidDigest"),
        ({"Content-MD5": "***"}, "InvalidDigest"),
        ({"Content-MD5": b64(bytes(16))}, "BadDigest"),
        ({"x-amz-checksum-sha256": b64(bytes(32))}, "BadDigest"),
    ],
)
def test_checksums_that_contradict_the_body_or_each_other(shared, headers, code):
    answer = raw(shared, "PUT", f"/{BUCKET}/contradicted", headers=headers, body=b"hello")
    assert (answer.status, answer.code) == (400, code)
    assert "contradicted" not in keys_in(shared)


def test_a_part_with_another_checksum_than_the_upload_is_refused(shared):
    s3 = client(shared, request_checksum_calculation="when_required")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="mixed", ChecksumAlgorithm="CRC32")["UploadId"]
    here = {"Bucket": BUCKET, "Key": "mixed", "UploadId": upload, "PartNumber": 1, "Body": b"x"}
    assert refused(s3.upload_part, **here, ChecksumSHA1=b64(VALUES["SHA1"](b"x"))) == "InvalidRequest 400"
