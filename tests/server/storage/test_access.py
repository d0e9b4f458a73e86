"""Who gets in, how the payload may travel, and what a grant sees."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
import subprocess
import time
import zlib
from urllib.parse import urlsplit

import pytest

from simpletuner_lab.core.grant import grant_id
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.server.storage import uploading
from simpletuner_lab.server.storage.chunked import STREAMING, STREAMING_UNSIGNED_TRAILER
from simpletuner_lab.server.storage.parts import MIN_PART_BYTES
from simpletuner_lab.services.grants import Credentials
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.storage_server import storage_server
from tests.server.storage.kit import BUCKET, client, keys_in, leftovers, raw, refused, signed_headers
from tests.server.storage.wire import Sent, connected, received

MIB = 1 << 20
UNKNOWN = Credentials(access_key=grant_id(b"\0" * 10), secret_key=Secret("x" * 40))
CRC = base64.b64encode(zlib.crc32(b"hello").to_bytes(4, "big")).decode()


def test_without_good_credentials_nothing_is_written(server):
    put = {"Bucket": BUCKET, "Key": "k", "Body": b"hello"}
    assert refused(client(server, secret="wrong").put_object, **put) == "SignatureDoesNotMatch 403"
    assert refused(client(server, UNKNOWN).put_object, **put) == "InvalidAccessKeyId 403"
    assert raw(server, "PUT", f"/{BUCKET}/k", body=b"hello", signed=False).code == "AccessDenied"
    bearer = raw(server, "PUT", f"/{BUCKET}/k", signed=False, extra={"Authorization": "token abc"})
    assert bearer.code == "AuthorizationHeaderMalformed"
    assert raw(server, "GET", "/", signed=False).status == 403
    assert keys_in(server) == leftovers(server) == []


@pytest.mark.parametrize("payload", [*sorted(STREAMING), "UNSIGNED-PAYLOAD", None])
@pytest.mark.parametrize("how", ["wrong secret", "nobody", "unsigned"])
def test_no_payload_mode_is_a_way_in(shared, payload, how):
    """The class of MinIO's CVE-2025-31489 and its successors."""
    body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n" % CRC.encode()
    headers = {"x-amz-decoded-content-length": "5", "x-amz-trailer": "x-amz-checksum-crc32"}
    if how == "unsigned":
        extra = headers | {"x-amz-content-sha256": payload or hashlib.sha256(body).hexdigest()}
        answer = raw(shared, "PUT", f"/{BUCKET}/way-in", body=body, signed=False, extra=extra)
    else:
        keys = UNKNOWN if how == "nobody" else shared.owner
        answer = raw(
            shared, "PUT", f"/{BUCKET}/way-in", keys=keys, body=body, headers=headers, payload=payload, secret="x"
        )
    assert answer.status == 403
    assert "way-in" not in keys_in(shared)


@pytest.mark.parametrize("payload", [*sorted(STREAMING), "UNSIGNED-PAYLOAD"])
def test_nor_with_a_presigned_url_that_is_wrong(shared, payload):
    url = client(shared, secret="wrong").generate_presigned_url(
        "put_object", Params={"Bucket": BUCKET, "Key": "way-in"}
    )
    target = url.removeprefix(shared.endpoint_url)
    answer = raw(shared, "PUT", target, signed=False, body=b"hello", extra={"x-amz-content-sha256": payload})
    assert (answer.status, answer.code) == (403, "AccessDenied")  # the added header is not signed
    assert raw(shared, "PUT", target, signed=False, body=b"hello").code == "SignatureDoesNotMatch"
    assert "way-in" not in keys_in(shared)


def test_a_tampered_body_is_not_stored(server):
    good = hashlib.sha256(b"hello").hexdigest()
    assert raw(server, "PUT", f"/{BUCKET}/k", body=b"hellO", payload=good).code == "XAmzContentSHA256Mismatch"
    for name, value, code in [
        ("Content-MD5", base64.b64encode(hashlib.md5(b"hello").digest()).decode(), "BadDigest"),
        ("Content-MD5", "nonsense", "InvalidDigest"),
        ("x-amz-checksum-crc32", CRC, "BadDigest"),
        ("x-amz-checksum-sha256", base64.b64encode(hashlib.sha256(b"hello").digest()).decode(), "BadDigest"),
        ("x-amz-checksum-sha1", "nonsense", "InvalidRequest"),
        ("x-amz-sdk-checksum-algorithm", "CRC32", "InvalidRequest"),
    ]:
        answer = raw(server, "PUT", f"/{BUCKET}/k", body=b"hellO", headers={name: value}, payload="UNSIGNED-PAYLOAD")
        assert (answer.status, answer.code) == (400, code)
    assert keys_in(server) == leftovers(server) == []


def test_aws_chunked_framing_is_not_stored(shared):
    body = b"3\r\nhel\r\n2\r\nlo\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n" % CRC.encode()
    headers = {
        "x-amz-decoded-content-length": "5",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-sdk-checksum-algorithm": "CRC32",
        "Content-Encoding": "gzip,aws-chunked",
    }
    put = raw(shared, "PUT", f"/{BUCKET}/chunked", body=body, headers=headers, payload=STREAMING_UNSIGNED_TRAILER)
    assert put.status == 200
    got = client(shared).get_object(Bucket=BUCKET, Key="chunked")
    assert (got["Body"].read(), got["ContentEncoding"], got["ChecksumCRC32"]) == (b"hello", "gzip", CRC)
    bad = body.replace(b"lo", b"l0")
    put = raw(shared, "PUT", f"/{BUCKET}/chunked", body=bad, headers=headers, payload=STREAMING_UNSIGNED_TRAILER)
    assert put.code == "BadDigest"
    assert client(shared).get_object(Bucket=BUCKET, Key="chunked")["Body"].read() == b"hello"


def test_boto3_over_https(tmp_path):
    """There boto3 sends aws-chunked framing inside HTTP chunks, and its checksum as a trailer."""
    made = subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ],
        cwd=tmp_path,
        capture_output=True,
    )
    assert made.returncode == 0, made.stderr
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with storage_server(tmp_path, tls=tls) as server:
        s3 = client(server, verify=str(tmp_path / "cert.pem"))
        data = os.urandom(3 << 20)
        s3.put_object(Bucket=BUCKET, Key="k", Body=data)
        answer = s3.get_object(Bucket=BUCKET, Key="k")
        assert answer["Body"].read() == data
        assert (answer.get("ContentEncoding"), "ChecksumCRC32" in answer) == (None, True)
        assert (
            refused(
                client(server, verify=str(tmp_path / "cert.pem"), secret="x").put_object,
                Bucket=BUCKET,
                Key="l",
                Body=data,
            )
            == "SignatureDoesNotMatch 403"
        )
        assert keys_in(server) == ["k"]


def test_a_length_must_be_given_and_may_not_be_too_large(tmp_path):
    with storage_server(tmp_path, max_object_bytes=10) as server:
        assert raw(server, "PUT", f"/{BUCKET}/k", body=b"x" * 11).code == "EntityTooLarge"
        assert raw(server, "PUT", f"/{BUCKET}/k", body=b"x" * 10).status == 200
        chunked = raw(
            server,
            "PUT",
            f"/{BUCKET}/l",
            headers={"Transfer-Encoding": "chunked"},
            body=b"0\r\n\r\n",
            payload="UNSIGNED-PAYLOAD",
        )
        assert (chunked.status, chunked.code) == (411, "MissingContentLength")


def test_a_clock_that_is_off(shared, clock):
    try:
        clock.shift_s = 16 * 60
        assert refused(client(shared).head_bucket, Bucket=BUCKET) == "403 403"
        assert raw(shared, "GET", f"/{BUCKET}").code == "RequestTimeTooSkewed"
        clock.shift_s = 14 * 60
        client(shared).head_bucket(Bucket=BUCKET)
    finally:
        clock.shift_s = 0


def test_refused_before_the_body_is_sent(shared):
    """With Expect: 100-continue a client that is refused sends nothing, at any size."""
    url = urlsplit(shared.endpoint_url)
    headers = signed_headers(
        f"{shared.endpoint_url}/{BUCKET}/big", "PUT", shared.owner, payload="UNSIGNED-PAYLOAD", secret="x"
    )
    lines = [
        f"PUT {url.path}/{BUCKET}/big HTTP/1.1",
        f"Host: {url.netloc}",
        "Expect: 100-continue",
        f"Content-Length: {4 << 30}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"SignatureDoesNotMatch" in answer


def test_a_refused_client_that_does_not_wait_sees_why_and_goes_on(shared):
    answer = raw(shared, "PUT", f"/{BUCKET}/k", body=b"x" * 900_000, secret="wrong")
    assert answer.code == "SignatureDoesNotMatch"


def test_a_grant_sees_its_own_prefix_and_nothing_else(server):
    mine, theirs = server.issue("job-1"), server.issue("job-2")
    owner, other, s3 = client(server), client(server, theirs), client(server, mine)
    other.put_object(Bucket=BUCKET, Key="job-2/secret", Body=b"x")
    owner.create_bucket(Bucket="photos")
    upload = other.create_multipart_upload(Bucket=BUCKET, Key="job-2/up")["UploadId"]
    s3.put_object(Bucket=BUCKET, Key="job-1/a", Body=b"x")
    for bucket, key in [
        (BUCKET, "job-2/secret"),
        (BUCKET, "job-2/nothing"),
        (BUCKET, "job-10/a"),
        (BUCKET, "job-1"),
        ("photos", "job-1/a"),
        ("nothere", "job-1/a"),
    ]:
        here = {"Bucket": bucket, "Key": key}
        assert refused(s3.get_object, **here) == "AccessDenied 403"
        assert refused(s3.head_object, **here) == "403 403"
        assert refused(s3.put_object, **here, Body=b"y") == "AccessDenied 403"
        assert refused(s3.delete_object, **here) == "AccessDenied 403"
        assert refused(s3.create_multipart_upload, **here) == "AccessDenied 403"
        for upload_id in (upload, "0" * 32):
            up = here | {"UploadId": upload_id}
            assert refused(s3.upload_part, **up, PartNumber=1, Body=b"y") == "AccessDenied 403"
            assert refused(s3.list_parts, **up) == "AccessDenied 403"
            assert refused(s3.abort_multipart_upload, **up) == "AccessDenied 403"
            assert refused(s3.complete_multipart_upload, **up, MultipartUpload={"Parts": []}) == "AccessDenied 403"
    for prefix in ("", "job", "job-", "job-1", "job-2/", "job-10/"):
        assert refused(s3.list_objects_v2, Bucket=BUCKET, Prefix=prefix) == "AccessDenied 403"
        assert refused(s3.list_objects, Bucket=BUCKET, Prefix=prefix) == "AccessDenied 403"
    assert refused(s3.list_objects_v2, Bucket="photos", Prefix="job-1/") == "AccessDenied 403"
    assert refused(s3.list_buckets) == "AccessDenied 403"
    assert refused(s3.create_bucket, Bucket="another") == "AccessDenied 403"
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=BUCKET, Prefix="job-1/")["Contents"]] == ["job-1/a"]
    assert owner.get_object(Bucket=BUCKET, Key="job-2/secret")["Body"].read() == b"x"
    # the id of another's upload under a key of one's own is as unknown as one that never was
    for upload_id in (upload, "0" * 32, "../" + upload, "x"):
        assert refused(s3.list_parts, Bucket=BUCKET, Key="job-1/up", UploadId=upload_id) == "NoSuchUpload 404"
    other.abort_multipart_upload(Bucket=BUCKET, Key="job-2/up", UploadId=upload)


def test_a_grant_ends_with_its_time_with_a_revocation_and_with_the_next_attempt(tmp_path):
    shift = [0.0]
    with storage_server(tmp_path, clock=lambda: time.time() + shift[0]) as server:
        first = server.issue("job-1", life_s=60)
        url = client(server, first).generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "job-1/a"})
        client(server, first).put_object(Bucket=BUCKET, Key="job-1/a", Body=b"x")
        assert raw(server, "GET", url.removeprefix(server.endpoint_url), signed=False).status == 200
        second = server.issue("job-1", attempt=2, life_s=60)
        assert refused(client(server, first).get_object, Bucket=BUCKET, Key="job-1/a") == "AccessDenied 403"
        assert raw(server, "GET", url.removeprefix(server.endpoint_url), signed=False).code == "AccessDenied"
        client(server, second).get_object(Bucket=BUCKET, Key="job-1/a")
        shift[0] = 61
        assert refused(client(server, second).get_object, Bucket=BUCKET, Key="job-1/a") == "AccessDenied 403"
        shift[0] = 0
        server.grants.revoke_job("job-1")
        assert refused(client(server, second).get_object, Bucket=BUCKET, Key="job-1/a") == "AccessDenied 403"


@pytest.mark.parametrize(
    "path",
    [
        "/outputs/../server.key",
        "/outputs/%2e%2e/server.key",
        "/outputs/%2E%2E%2Fserver.key",
        "/outputs/..%2fserver.key",
        "/outputs/a/%2e%2e/%2e%2e/%2e%2e/server.key",
        "/outputs/..%5cserver.key",
        "/outputs/a%00b",
        "/outputs/a%0ab",
        "/outputs//etc/passwd",
        "/outputs/%2fetc%2fpasswd",
        "/outputs/./a",
        "/../server.key",
        "/%2e%2e/server.key",
        "/..%2fserver.key/x",
        "/.stlab/uploads",
        "/.stlab/drafts/x",
        "/%2estlab/drafts",
        "/outputs/%ff",
        "/outputs/%c0%ae%c0%ae/server.key",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_keys_that_would_lead_elsewhere(shared, method, path):
    before = keys_in(shared), leftovers(shared)
    answer = raw(shared, method, path, body=b"x" if method == "PUT" else b"")
    assert answer.status == 400
    assert answer.code in {"InvalidArgument", "InvalidBucketName", "InvalidURI"}
    assert (keys_in(shared), leftovers(shared)) == before


def test_a_percent_that_is_encoded_twice_is_only_a_name(shared):
    assert raw(shared, "PUT", f"/{BUCKET}/%252e%252e/x", body=b"x").status == 200
    assert "%2e%2e/x" in keys_in(shared)


def test_public_address(tmp_path):
    with storage_server(tmp_path, public_url="https://tunnel.example/lab") as server:
        url = f"https://tunnel.example/lab/api/cloud/storage/{BUCKET}/k"
        headers = signed_headers(url, "PUT", server.owner, body=b"x")
        assert raw(server, "PUT", f"/{BUCKET}/k", body=b"x", signed=False, extra=headers).status == 200
        assert client(server).get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"x"


def test_the_quota_of_a_grant(server):
    keys = server.issue("job-1", quota_bytes=2 * MIN_PART_BYTES)
    s3 = client(server, keys)
    s3.put_object(Bucket=BUCKET, Key="job-1/a", Body=b"x" * MIN_PART_BYTES)
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="job-1/b")["UploadId"]
    here = {"Bucket": BUCKET, "Key": "job-1/b", "UploadId": upload}
    s3.upload_part(**here, PartNumber=1, Body=b"x" * (MIN_PART_BYTES - 10))
    assert refused(s3.upload_part, **here, PartNumber=2, Body=b"x" * 11) == "InsufficientStorage 507"
    assert refused(s3.put_object, Bucket=BUCKET, Key="job-1/c", Body=b"x" * 11) == "InsufficientStorage 507"
    s3.put_object(Bucket=BUCKET, Key="job-1/c", Body=b"x" * 10)
    s3.put_object(Bucket=BUCKET, Key="job-1/a", Body=b"y" * MIN_PART_BYTES)  # over itself: full stays full
    s3.upload_part(**here, PartNumber=1, Body=b"y" * (MIN_PART_BYTES - 10))  # as after an answer that was lost
    assert refused(s3.put_object, Bucket=BUCKET, Key="job-1/c", Body=b"x" * 11) == "InsufficientStorage 507"
    s3.abort_multipart_upload(**here)
    s3.put_object(Bucket=BUCKET, Key="job-1/d", Body=b"x" * 11)
    eventually(lambda: leftovers(server), lambda left: left == [])


def test_uploads_that_are_only_begun_are_limited(server, monkeypatch):
    monkeypatch.setattr(uploading, "MOST_UPLOADS", 3)
    s3 = client(server, server.issue("job-1", quota_bytes=100))
    begun = [s3.create_multipart_upload(Bucket=BUCKET, Key=f"job-1/{index}")["UploadId"] for index in range(3)]
    assert refused(s3.create_multipart_upload, Bucket=BUCKET, Key="job-1/3") == "InsufficientStorage 507"
    s3.abort_multipart_upload(Bucket=BUCKET, Key="job-1/0", UploadId=begun[0])
    s3.create_multipart_upload(Bucket=BUCKET, Key="job-1/3")


def test_a_grant_that_is_revoked_while_it_sends_stores_nothing(server):
    """Attempt 1 hangs in the middle of a body; attempt 2 begins, which revokes it, and writes the same key."""
    body, first = b"OLD!" * (MIB // 4), server.issue("job-1", 1)
    url = f"{server.endpoint_url}/{BUCKET}/job-1/model"
    headers = signed_headers(url, "PUT", first, body=body)
    sent = Sent(target=f"/{BUCKET}/job-1/model", headers=headers)
    with connected(server, sent, Content_Length=str(len(body)), Connection="close") as slow:
        slow.sendall(body[: MIB // 4])
        time.sleep(0.3)
        client(server, server.issue("job-1", 2)).put_object(Bucket=BUCKET, Key="job-1/model", Body=b"NEW")
        slow.sendall(body[MIB // 4 :])
        answer = received(slow)
    assert answer.startswith(b"HTTP/1.1 403")
    assert client(server).get_object(Bucket=BUCKET, Key="job-1/model")["Body"].read() == b"NEW"
    eventually(lambda: leftovers(server), lambda left: left == [])


@pytest.mark.parametrize("date", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 1 00:00:00 +9999", "x"])
def test_dates_that_are_none(shared, date):
    extra = {"Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request,SignedHeaders=host,"
             "Signature=" + "0" * 64, "Date": date}  # fmt: skip
    assert raw(shared, "GET", f"/{BUCKET}/k", signed=False, extra=extra).status == 403
    client(shared).put_object(Bucket=BUCKET, Key="dated", Body=b"x")
    assert raw(shared, "GET", f"/{BUCKET}/dated", extra={"If-Modified-Since": date}).status == 200
    document = f"<Delete><Object><Key>dated</Key><LastModifiedTime>{date}</LastModifiedTime></Object></Delete>".encode()
    checked = {"Content-MD5": base64.b64encode(hashlib.md5(document).digest()).decode()}
    assert raw(shared, "POST", f"/{BUCKET}?delete=", headers=checked, body=document).status == 400


def test_a_path_that_is_no_text_is_no_trace(shared, caplog):
    assert raw(shared, "GET", f"/{BUCKET}/%ff").status == 400
    assert not [one for one in caplog.records if one.exc_info]


def test_a_range_of_an_object_that_has_changed_is_the_whole(shared):
    s3 = client(shared)
    tag = s3.put_object(Bucket=BUCKET, Key="changing", Body=b"0123456789")["ETag"]
    dated = s3.head_object(Bucket=BUCKET, Key="changing")["ResponseMetadata"]["HTTPHeaders"]["last-modified"]
    old = {"Range": "bytes=2-4", "If-Range": '"another"'}
    for same in (tag, dated):
        found = raw(shared, "GET", f"/{BUCKET}/changing", extra={"Range": "bytes=2-4", "If-Range": same})
        assert (found.status, found.body) == (206, b"234")
    found = raw(shared, "GET", f"/{BUCKET}/changing", extra=old)
    assert (found.status, found.body) == (200, b"0123456789")
    weak = raw(shared, "GET", f"/{BUCKET}/changing", extra=old | {"If-Range": f"W/{tag}"})
    assert weak.status == 200, "a weak tag never fits"
