"""The client of bench_storage: requests presigned beforehand and sent over plain sockets; boto3 where users meet it."""

from __future__ import annotations

import html
import http.client
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from tests.bench.storage_peers import ACCESS_KEY, BUCKET, SECRET_KEY, Peer

_MIB: Final = 1 << 20
_TOKEN: Final = re.compile(rb"<NextContinuationToken>([^<]+)<")


class Client:
    """Speaks to one peer; nginx gets the same requests without a signature."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        url = urlsplit(peer.url)
        self._address = (url.hostname or "", url.port or 0)
        self._s3: Any = boto3.client(
            "s3", endpoint_url=peer.url, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, max_pool_connections=16),
        )  # fmt: skip
        if peer.speaks_s3:
            self._s3.create_bucket(Bucket=BUCKET)

    def put_big(self, key: str, megabytes: int) -> None:
        """One PUT of so many MiB."""
        block = memoryview(bytes(range(256)) * (_MIB // 256))
        with socket.create_connection(self._address) as connection:
            connection.sendall(self._head("PUT", key, megabytes * _MIB))
            for _ in range(megabytes):
                connection.sendall(block)
            _read_answer(connection, bytearray())

    def get_big(self, key: str, megabytes: int) -> None:
        """One GET; what comes is counted and dropped."""
        buffer = bytearray(_MIB)
        with socket.create_connection(self._address) as connection:
            connection.sendall(self._head("GET", key, None))
            assert _read_answer(connection, buffer) == megabytes * _MIB

    def boto3_upload(self, key: str, source: Path) -> None:
        """`upload_file` in 16 MiB parts, four at a time."""
        parts = TransferConfig(multipart_threshold=16 * _MIB, multipart_chunksize=16 * _MIB, max_concurrency=4)
        self._s3.upload_file(str(source), BUCKET, key, Config=parts)

    def boto3_puts(self, keys: Sequence[str], body: bytes) -> None:
        """One PUT for each key, as users' programs send it: hashed, with a checksum in a header."""
        for key in keys:
            self._s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    def boto3_gets(self, keys: Sequence[str]) -> None:
        """One GET for each key."""
        for key in keys:
            self._s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def boto3_list(self, prefix: str) -> int:
        """How many keys all pages hold, read by boto3, whose parsing takes longer than any server."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return sum(len(page.get("Contents", ())) for page in pages)

    def list_all(self, prefix: str) -> int:
        """The same, where the documents are only searched for what is needed."""
        found, token = 0, dict[str, str]()
        with socket.create_connection(self._address) as connection:
            while True:
                asked = {"Bucket": BUCKET, "Prefix": prefix, **token}
                url = self._s3.generate_presigned_url("list_objects_v2", Params=asked, ExpiresIn=3600)
                connection.sendall(self._lines("GET", url.removeprefix(self._peer.url)))
                page = _read_document(connection)
                found += page.count(b"<Key>")
                match = _TOKEN.search(page)
                if match is None:
                    return found
                token = {"ContinuationToken": html.unescape(match[1].decode())}

    def puts(self, folder: str, number: int, body: bytes) -> list[bytes]:
        """Whole requests, ready to be sent."""
        return [self._head("PUT", f"{folder}/{index:05}", len(body)) + body for index in range(number)]

    def gets(self, folder: str, number: int) -> list[bytes]:
        """The same for reading them."""
        return [self._head("GET", f"{folder}/{index:05}", None) for index in range(number)]

    def send_all(self, requests: Sequence[bytes]) -> None:
        """One after the other over one connection, opened again where the server closed it."""
        buffer = bytearray(_MIB)
        connection = socket.create_connection(self._address)
        for request in requests:
            connection.sendall(request)
            _read_answer(connection, buffer)
        connection.close()

    def _head(self, method: str, key: str, length: int | None) -> bytes:
        if self._peer.speaks_s3:
            operation = "put_object" if method == "PUT" else "get_object"
            url = self._s3.generate_presigned_url(operation, Params={"Bucket": BUCKET, "Key": key}, ExpiresIn=3600)
            target = url.removeprefix(f"http://{self._address[0]}:{self._address[1]}")
        else:
            target = f"/{BUCKET}/{key}"
        return self._lines(method, target, *([] if length is None else [f"Content-Length: {length}"]))

    def _lines(self, method: str, target: str, *headers: str) -> bytes:
        lines = (f"{method} {target} HTTP/1.1", f"Host: {self._address[0]}:{self._address[1]}", *headers, "", "")
        return "\r\n".join(lines).encode()


def _read_document(connection: socket.socket) -> bytes:
    """One answer whole, of a length that is told or in chunks."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    document = answer.read()
    assert answer.status == 200, document
    return document


def _read_answer(connection: socket.socket, buffer: bytearray) -> int:
    """Reads one answer; the number of bytes in its body."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        assert piece, "the server closed the connection"
        head += piece
    head, _, rest = head.partition(b"\r\n\r\n")
    assert head.split()[1] in {b"200", b"201", b"204"}, (head, rest)
    lengths = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    length = int(lengths[0]) if lengths else 0
    left = length - len(rest)
    view = memoryview(buffer)
    while left > 0:
        count = connection.recv_into(view) if view else len(connection.recv(65536))
        assert count, "the server closed the connection"
        left -= count
    return length
