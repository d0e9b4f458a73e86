from __future__ import annotations

import base64
import hashlib
import hmac
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simpletuner_lab.server.storage.body import Intake, Memory, read_promise
from simpletuner_lab.server.storage.chunked import (
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    AwsChunked,
)
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.sigv4 import Seed
from tests.server.storage.wire import signed_body


def doc_seed() -> Seed:
    """Key, scope and seed signature of "Transferring Payload in Multiple Chunks" in the S3 documentation."""
    key = b"AWS4wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    scope = "20130524/us-east-1/s3/aws4_request"
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    return Seed(key=key, timestamp="20130524T000000Z", scope=scope, signature=signature)


DOC_BODY = (
    b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
    + b"a" * 65536
    + b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
    + b"a" * 1024
    + b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
)


def decode(decoder: AwsChunked, body: bytes, step: int = 1 << 20) -> tuple[bytes, dict[str, str]]:
    found = bytearray()
    for start in range(0, len(body), step):
        for piece in decoder.feed(memoryview(body)[start : start + step]):
            found += piece
    return bytes(found), dict(decoder.finish())


@pytest.mark.parametrize("step", [1 << 20, 65536, 4097, 91])
def test_the_example_of_the_documentation_decodes(step):
    assert decode(AwsChunked(doc_seed(), trailer=False), DOC_BODY, step) == (b"a" * 66560, {})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\r\naaaa", b"\r\nbaaa"),
        (b"ad80", b"ad81"),
        (b"b6c6", b"b6c7"),
        (b"0055", b"0056"),
    ],
)
def test_a_tampered_chunk_is_refused(old, new):
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        decode(AwsChunked(doc_seed(), trailer=False), DOC_BODY.replace(old, new, 1))


def test_chunks_left_out_or_cut_off_are_refused():
    first = DOC_BODY.index(b"\r\n400;") + 2
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        decode(AwsChunked(doc_seed(), trailer=False), DOC_BODY[first:])
    for end in (first, first + 10, first + 200, len(DOC_BODY) - 90):
        with pytest.raises(S3Error, match="IncompleteBody"):
            decode(AwsChunked(doc_seed(), trailer=False), DOC_BODY[:end])


def test_unsigned_chunks_are_refused_where_signed_ones_are_due_and_the_other_way_round():
    with pytest.raises(S3Error, match="InvalidRequest"):
        decode(AwsChunked(doc_seed(), trailer=False), b"1\r\na\r\n0\r\n\r\n")
    with pytest.raises(S3Error, match="InvalidRequest"):
        decode(AwsChunked(None, trailer=True), DOC_BODY)


@given(data=st.lists(st.binary(min_size=1, max_size=300), max_size=6), step=st.integers(1, 500))
def test_unsigned_framing_gives_back_what_went_in(data, step):
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in data) + b"0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"
    found = decode(AwsChunked(None, trailer=True), body, step)
    assert found == (b"".join(data), {"x-amz-checksum-crc32": "AAAA"})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"zz\r\n", "InvalidRequest"),
        (b"-1\r\n", "InvalidRequest"),
        (b"f" * 13 + b"\r\n", "InvalidRequest"),
        (b"1" * 5000, "InvalidRequest"),
        (b"2\r\nabc\r\n0\r\n\r\n", "InvalidRequest"),
        (b"0\r\n\r\nmore\r\n", "InvalidRequest"),
        (b"0\r\na:1\r\n\r\nmore without an end", "InvalidRequest"),
        (b"0\r\nno colon\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\na:1\r\na:2\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\n" + b"".join(b"a%d:1\r\n" % i for i in range(20)), "MalformedTrailerError"),
        (b"5\r\nabc", "IncompleteBody"),
        (b"0\r\na:1\r\n", "IncompleteBody"),
        (b"", "IncompleteBody"),
    ],
)
def test_framing_that_lies_is_refused(body, expected):
    with pytest.raises(S3Error, match=expected):
        decode(AwsChunked(None, trailer=True), body)


def intake(payload: str, headers: dict[str, str], body: bytes, seed: Seed | None = None) -> bytes:
    sink = Memory()
    taking = Intake(read_promise(headers, payload), seed or doc_seed(), sink)
    taking.feed(body)
    taking.finish()
    return bytes(sink.data)


CRC = base64.b64encode(zlib.crc32(b"hello").to_bytes(4, "big")).decode()


def unsigned(
    trailer: str = f"x-amz-checksum-crc32:{CRC}",
    body: bytes = b"hello",
    announced: str = "x-amz-checksum-crc32",
    length: int = 5,
):
    headers = {"x-amz-trailer": announced, "x-amz-decoded-content-length": str(length)}
    data = b"%x\r\n%s\r\n0\r\n%s\r\n\r\n" % (len(body), body, trailer.encode())
    return intake(STREAMING_UNSIGNED_TRAILER, headers, data)


def test_a_trailing_checksum_is_verified():
    assert unsigned() == b"hello"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"body": b"hellO"}, "BadDigest"),
        ({"trailer": "x-amz-checksum-crc32:AAAAAA=="}, "BadDigest"),
        ({"trailer": "x-amz-checksum-crc32:AAAA"}, "InvalidRequest"),
        ({"trailer": "x-amz-checksum-sha256:AAAA"}, "MalformedTrailerError"),
        ({"trailer": ""}, "IncompleteBody|MalformedTrailerError|InvalidRequest"),
        ({"length": 4}, "IncompleteBody"),
        ({"length": 6}, "IncompleteBody"),
        ({"announced": "x-amz-checksum-sha512"}, "NotImplemented"),
        ({"announced": "x-amz-checksum-nonsense"}, "InvalidRequest"),
        ({"announced": "x-other"}, "NotImplemented"),
        ({"announced": ""}, "MalformedTrailerError"),
    ],
)
def test_a_trailer_that_does_not_fit_is_refused(changes, expected):
    with pytest.raises(S3Error, match=expected):
        unsigned(**changes)


def test_signed_chunks_with_a_signed_trailer():
    headers = {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": "5"}
    body = signed_body(doc_seed(), [b"he", b"llo"], f"x-amz-checksum-crc32:{CRC}")
    assert intake(STREAMING_SIGNED_TRAILER, headers, body) == b"hello"
    for bad in (body.replace(CRC.encode(), b"AAAAAA=="), body.replace(b"trailer-signature:", b"trailer-signature:0")):
        with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
            intake(STREAMING_SIGNED_TRAILER, headers, bad)
    without = body[: body.index(b"x-amz-trailer-signature")] + b"\r\n"
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        intake(STREAMING_SIGNED_TRAILER, headers, without)


@pytest.mark.parametrize(
    ("headers", "payload", "expected"),
    [
        ({}, "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "NotImplemented"),
        ({}, "abc", "InvalidArgument"),
        ({"content-length": "-1"}, "UNSIGNED-PAYLOAD", "InvalidArgument"),
        ({"content-md5": "abc"}, "UNSIGNED-PAYLOAD", "InvalidDigest"),
        ({"x-amz-checksum-crc32": "AAAA"}, "UNSIGNED-PAYLOAD", "InvalidRequest"),
        ({"x-amz-checksum-crc32": CRC, "x-amz-checksum-sha1": CRC}, "UNSIGNED-PAYLOAD", "InvalidRequest"),
        ({"x-amz-checksum-sha512": "AAAA"}, "UNSIGNED-PAYLOAD", "NotImplemented: .*sha512"),
        ({"x-amz-checksum-xxhash3": "AAAA"}, "UNSIGNED-PAYLOAD", "NotImplemented: .*xxhash3"),
        ({"x-amz-trailer": "x-amz-checksum-crc32"}, "UNSIGNED-PAYLOAD", "InvalidRequest"),
        ({"x-amz-trailer": "x-amz-checksum-crc32"}, STREAMING_SIGNED, "InvalidRequest"),
    ],
)
def test_headers_that_contradict_each_other_are_refused(headers, payload, expected):
    with pytest.raises(S3Error, match=expected):
        read_promise(headers, payload)
