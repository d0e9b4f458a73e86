"""Large objects go from the kernel to the socket: whole, past slow readers, and never more or less than announced."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import trustme

from simpletuner_lab.server.storage import sending
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.storage_server import StorageServer, storage_server
from tests.server.storage.kit import BUCKET, client, signed_headers

SIZE = 12 << 20


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what really went this way."""
    seen: list[int] = []
    send = sending.send

    async def noted(connection, disk, descriptor, offset, size):
        seen.append(size)
        await send(connection, disk, descriptor, offset, size)

    monkeypatch.setattr(sending, "send", noted)
    return seen


@pytest.fixture
def data(server: StorageServer) -> bytes:
    made = os.urandom(SIZE)
    client(server).put_object(Bucket=BUCKET, Key="big", Body=made)
    return made


def opened(server: StorageServer, key: str = "big", method: str = "GET", buffer: int = 0) -> socket.socket:
    """A connection over which a request has been sent."""
    url = urlsplit(f"{server.endpoint_url}/{BUCKET}/{key}")
    headers = signed_headers(url.geturl(), method, server.owner)
    lines = [f"{method} {url.path} HTTP/1.1", f"Host: {url.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() != "host"]
    connection = socket.socket()
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.connect((url.hostname, url.port))
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """The body of an answer, up to where the server closes."""
    received = b""
    connection.settimeout(20)
    while piece := connection.recv(1 << 16):
        received += piece
    return received.partition(b"\r\n\r\n")[2]


def test_ranges_and_wholes_one_after_the_other_on_one_connection(server, data, sent) -> None:
    s3 = client(server)
    for span in (slice(0, SIZE), slice(5, SIZE - 7), slice(1000, 2000), slice(SIZE - 300_000, SIZE)):
        asked = f"bytes={span.start}-{span.stop - 1}"
        assert s3.get_object(Bucket=BUCKET, Key="big", Range=asked)["Body"].read() == data[span]
    assert s3.get_object(Bucket=BUCKET, Key="big")["Body"].read() == data
    assert sent == [SIZE, SIZE - 12, 300_000, SIZE], "the installed tornado keeps the number that is needed"


def test_a_reader_that_is_slow_gets_everything_and_holds_up_no_thread(server, data, sent) -> None:
    with ThreadPoolExecutor(12) as readers:
        slow = [opened(server, buffer=4096) for _ in range(12)]  # more than the server has threads for files
        client(server).put_object(Bucket=BUCKET, Key="meanwhile", Body=b"x" * 300_000)
        assert client(server).get_object(Bucket=BUCKET, Key="meanwhile")["Body"].read() == b"x" * 300_000
        for connection in slow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        bodies = list(readers.map(exactly, slow))
    assert {hashlib.sha256(body).digest() for body in bodies} == {hashlib.sha256(data).digest()}
    assert len(sent) == 13


def exactly(connection: socket.socket) -> bytes:
    """The body of an answer, as long as the object."""
    with connection:
        connection.settimeout(60)
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(1 << 16)
        body = bytearray(received.partition(b"\r\n\r\n")[2])
        while len(body) < SIZE:
            body += connection.recv(1 << 20)
        return bytes(body)


def test_a_client_that_goes_away_leaves_nothing_open(server, data, sent) -> None:
    def descriptors() -> int:
        return psutil.Process().num_fds()

    client(server).head_object(Bucket=BUCKET, Key="big")
    before = descriptors()
    for _ in range(5):
        with opened(server, buffer=4096) as connection:
            connection.recv(1000)
    eventually(lambda: descriptors() <= before)
    assert len(sent) == 5
    assert client(server).get_object(Bucket=BUCKET, Key="big")["Body"].read() == data


def test_a_file_that_is_cut_short_meanwhile_ends_the_connection(server, data, sent, tmp_path: Path) -> None:
    connection = opened(server, buffer=4096)
    eventually(lambda: sent == [SIZE])
    (path,) = tmp_path.rglob("big")
    os.truncate(path, SIZE - 1)
    with connection:
        got = read_to_end(connection)
    assert got == data[: SIZE - 1], "what was there, and then the end: fewer bytes than were announced"


def test_over_tls_it_goes_the_other_way(tmp_path: Path, sent) -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with storage_server(tmp_path, tls=context) as server:
        s3, made = client(server, verify=str(tmp_path / "ca.pem")), os.urandom(SIZE)
        s3.put_object(Bucket=BUCKET, Key="big", Body=made)
        assert s3.get_object(Bucket=BUCKET, Key="big")["Body"].read() == made
    assert sent == []
