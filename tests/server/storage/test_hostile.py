"""Bodies that lie, stop, drip or never end, and connections that are used again after a refusal."""

from __future__ import annotations

import base64
import hashlib
import http.client
import socket
from urllib.parse import urlsplit

import pytest

from simpletuner_lab.server.storage.chunked import STREAMING_SIGNED, STREAMING_UNSIGNED_TRAILER
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.storage_server import storage_server
from tests.server.storage.kit import BUCKET, client, keys_in, leftovers, raw, signed_headers
from tests.server.storage.wire import BODY, UNSIGNED, connected, made, received

MIB = 1 << 20
UNSIGNED_TRAILER = STREAMING_UNSIGNED_TRAILER


@pytest.fixture
def unchanged(server):
    client(server).put_object(Bucket=BUCKET, Key="k", Body=b"old")
    yield
    eventually(lambda: leftovers(server), lambda left: left == [])
    assert keys_in(server) == ["k"]
    assert client(server).get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"old"


def test_two_lengths(server, unchanged):
    """The start of request smuggling: a proxy in front may believe the one and we the other."""
    sent = made(server, UNSIGNED, "header")
    with connected(server, sent, Content_Length="5", Transfer_Encoding="chunked") as connection:
        connection.sendall(b"5\r\nhello\r\n0\r\n\r\n")
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"InvalidRequest" in answer


@pytest.mark.parametrize("length", ["-1", "+5", "5_0", "0x5", "99999999999999999999", "5, 6", ""])
def test_lengths_that_are_none(server, unchanged, length):
    with connected(server, made(server, UNSIGNED, "header"), Content_Length=length) as connection:
        answer = received(connection)
    assert answer[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 411"}


def test_a_body_that_is_cut_off(server, unchanged):
    for size, part in ((len(BODY), BODY[:4]), (3 * MIB, b"x" * MIB)):
        with connected(server, made(server, UNSIGNED, "header"), Content_Length=str(size)) as connection:
            connection.sendall(part)


def test_a_stranger_holds_no_connection_open(tmp_path):
    with storage_server(tmp_path, body_timeout_s=0.2) as server:
        url = urlsplit(server.endpoint_url)
        with socket.create_connection((url.hostname, url.port), timeout=20) as connection:
            head = f"PUT {url.path}/{BUCKET}/x HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: 1000\r\n\r\n"
            connection.sendall(head.encode())
            assert b"RequestTimeout" in received(connection)
            assert connection.recv(1) == b"", "and it is closed"


@pytest.mark.parametrize("drip", [b"", b"x"])
def test_a_body_that_does_not_go_on(tmp_path, drip):
    with storage_server(tmp_path, body_timeout_s=0.2) as server:
        with connected(server, made(server, UNSIGNED, "header"), Content_Length=str(MIB)) as connection:
            connection.sendall(b"x" * 100_000)
            connection.settimeout(0.05)
            answer = b""
            while not answer:
                try:
                    answer = connection.recv(65536)
                except TimeoutError:
                    connection.sendall(drip)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"RequestTimeout" in answer
        eventually(lambda: leftovers(server), lambda left: left == [])
        assert keys_in(server) == []
        client(server).put_object(Bucket=BUCKET, Key="k", Body=b"x" * MIB)


@pytest.mark.parametrize(
    ("mode", "body"),
    [
        (UNSIGNED_TRAILER, b"5" * 5000),
        (UNSIGNED_TRAILER, b"5;" + b"x" * 100_000),
        (UNSIGNED_TRAILER, b"0" * 4000 + b"5\r\nhello"),
        (UNSIGNED_TRAILER, b"-5\r\nhello\r\n"),
        (UNSIGNED_TRAILER, b"5\r\nhello, store\r\n0\r\n\r\n"),
        (UNSIGNED_TRAILER, b"ffffffffffff\r\nhello"),
        (UNSIGNED_TRAILER, b"fffffffffffffffff\r\nhello"),
        (UNSIGNED_TRAILER, b"5;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n"),
        (UNSIGNED_TRAILER, b"1\r\nx\r\n" * 20_000),
        (UNSIGNED_TRAILER, b"0\r\n" + b"a:b\r\n" * 50_000),
        (UNSIGNED_TRAILER, b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n" * 2),
        (STREAMING_SIGNED, b"5\r\nhello\r\n0\r\n\r\n"),
        (STREAMING_SIGNED, b"5;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n"),
    ],
)
def test_chunks_that_lie_or_never_end(server, unchanged, mode, body):
    sent = made(server, mode, "header")
    answer = type(sent)(target=sent.target, headers=sent.headers, body=body).send(server)
    assert answer.status in {400, 403}
    assert answer.code


def test_more_framing_than_payload_is_cut_short(server, unchanged):
    """Each byte in a chunk of its own is allowed; framing without end is not read to it."""
    sent = made(server, UNSIGNED_TRAILER, "header")
    with connected(server, sent, Content_Length=str(1 << 40)) as connection:
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"EntityTooLarge" in answer


@pytest.mark.parametrize("path", [f"/{BUCKET}/k?uploads", f"/{BUCKET}/k?uploadId={'0' * 32}", f"/{BUCKET}?delete"])
def test_documents_beyond_two_mebibytes(server, unchanged, path):
    for size in ((2 << 20) + 1, 64 << 20):
        headers = signed_headers(server.endpoint_url + path, "POST", server.owner, payload=UNSIGNED)
        sent = type(made(server, UNSIGNED, "header"))(target=path, headers=headers, method="POST")
        with connected(server, sent, Content_Length=str(size)) as connection:
            if size < 3 << 20:
                connection.sendall(b" " * size)
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"EntityTooLarge" in answer


def test_entities_are_never_expanded(server, unchanged):
    bomb = b"<!DOCTYPE l [<!ENTITY a 'ha'>" + b"".join(
        b"<!ENTITY a%d '&a%s;&a%s;'>" % (n, b"" if n == 1 else b"%d" % (n - 1), b"" if n == 1 else b"%d" % (n - 1))
        for n in range(1, 40)
    )
    for document in (
        bomb + b"]><Delete><Object><Key>&a39;</Key></Object></Delete>",
        b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&x;</Key></Object></Delete>',
        b'<!DOCTYPE d SYSTEM "http://127.0.0.1:9/x.dtd"><Delete/>',
        b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY % p SYSTEM "file:///etc/hosts">%p;]><Delete/>',
        b"<Delete>" * 20_000,
    ):
        headers = {"Content-MD5": base64.b64encode(hashlib.md5(document).digest()).decode()}
        assert raw(server, "POST", f"/{BUCKET}?delete", body=document, headers=headers).code == "MalformedXML"


@pytest.mark.parametrize(("good", "first"), [(True, b"HTTP/1.1 100"), (False, b"HTTP/1.1 403")])
def test_leave_to_go_on_is_given_to_those_who_may(server, good, first):
    sent = made(server, UNSIGNED, "header", secret="" if good else "wrong", path=f"/{BUCKET}/new")
    with connected(server, sent, Content_Length=str(len(BODY)), Expect="100-continue") as connection:
        assert connection.recv(12) == first
        if good:
            connection.sendall(BODY)
            eventually(lambda: keys_in(server), lambda keys: keys == ["new"])


@pytest.mark.parametrize("how", ["refused", "bad digest", "missing", "bad part"])
def test_a_connection_is_good_for_more_after_an_error(server, how):
    url = urlsplit(server.endpoint_url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    used = set()

    def ask(method: str, path: str, body: bytes = b"", **more) -> int:
        headers = signed_headers(server.endpoint_url + path, method, server.owner, body=body, **more)
        connection.request(method, url.path + path, body=body, headers=headers)
        answer = connection.getresponse()
        answer.read()
        used.add(connection.sock.getsockname() if connection.sock else None)
        return answer.status

    for _ in range(3):
        if how == "refused":
            assert ask("PUT", f"/{BUCKET}/k", b"x" * 200_000, secret="wrong") == 403
        elif how == "bad digest":
            assert ask("PUT", f"/{BUCKET}/k", b"x" * 200_000, headers={"Content-MD5": "A" * 22 + "=="}) == 400
        elif how == "missing":
            assert ask("GET", f"/{BUCKET}/nothing") == 404
        else:
            assert ask("PUT", f"/{BUCKET}/k?partNumber=1&uploadId={'0' * 32}", b"x" * 200_000) == 404
        assert ask("PUT", f"/{BUCKET}/k", b"fine") == 200
        assert ask("GET", f"/{BUCKET}/k") == 200
    assert len(used) == 1
    assert None not in used
    connection.close()
