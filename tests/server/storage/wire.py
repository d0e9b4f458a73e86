"""A PUT in every way a payload may travel and every way to sign: signed by botocore, framed here, changed at will."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlsplit

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from simpletuner_lab.server.storage.chunked import (
    STREAMING,
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
)
from simpletuner_lab.server.storage.sigv4 import Seed
from tests.server.storage.kit import BUCKET, Raw, raw, signed_headers

SIGNED = "signed"
UNSIGNED = "UNSIGNED-PAYLOAD"
MODES = (SIGNED, UNSIGNED, STREAMING_SIGNED, STREAMING_UNSIGNED_TRAILER, STREAMING_SIGNED_TRAILER)
TRAILED = frozenset({STREAMING_UNSIGNED_TRAILER, STREAMING_SIGNED_TRAILER})
BODY = b"hello, store"
TRAILER = "x-amz-checksum-crc32"


def crc(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def signed_body(seed: Seed, chunks: list[bytes], trailer: str) -> bytes:
    """Signed framing, with a trailer where there is one, written out from the documentation's description."""
    previous, out = seed.signature, b""
    for chunk in [*chunks, b""]:
        text = "\n".join(
            [
                "AWS4-HMAC-SHA256-PAYLOAD",
                seed.timestamp,
                seed.scope,
                previous,
                hashlib.sha256(b"").hexdigest(),
                hashlib.sha256(chunk).hexdigest(),
            ]
        )
        previous = hmac.new(seed.key, text.encode(), hashlib.sha256).hexdigest()
        out += b"%x;chunk-signature=%s\r\n%s" % (len(chunk), previous.encode(), chunk + b"\r\n" if chunk else b"")
    if not trailer:
        return out + b"\r\n"
    digest = hashlib.sha256(f"{trailer}\n".encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256-TRAILER\n{seed.timestamp}\n{seed.scope}\n{previous}\n{digest}"
    signature = hmac.new(seed.key, text.encode(), hashlib.sha256).hexdigest()
    return out + f"{trailer}\r\nx-amz-trailer-signature:{signature}\r\n\r\n".encode()


class _QueryAuth(S3SigV4QueryAuth):
    def __init__(self, keys: BotoCredentials, payload: str, expires: int) -> None:
        super().__init__(keys, "s3", "us-east-1", expires=expires)
        self._payload = payload

    def payload(self, request) -> str:
        return self._payload


@dataclass(frozen=True)
class Sent:
    """A request as it goes out; every field may be replaced before it does."""

    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    method: str = "PUT"

    def with_headers(self, **changed: str) -> Sent:
        return replace(self, headers=self.headers | {name.replace("_", "-"): value for name, value in changed.items()})

    def send(self, server) -> Raw:
        return raw(server, self.method, self.target, body=self.body, signed=False, extra=self.headers)


def made(
    server,
    mode: str,
    how: str,
    path: str = f"/{BUCKET}/k",
    *,
    keys=None,
    secret="",
    headers=None,
    body: bytes = BODY,
    length: int | None = None,
    expires: int = 60,
) -> Sent:
    """A valid PUT of `body`, unless something else is asked for."""
    keys = keys or server.owner
    given = dict(headers or {})
    if mode in STREAMING:
        given["x-amz-decoded-content-length"] = str(len(body) if length is None else length)
    if mode in TRAILED:
        given["x-amz-trailer"] = TRAILER
    payload = hashlib.sha256(body).hexdigest() if mode == SIGNED else mode
    url, secret_key = server.endpoint_url + path, secret or keys.secret_key.reveal()
    if how == "header":
        final = signed_headers(url, "PUT", keys, headers=given, payload=payload, secret=secret)
        authorization = dict(
            piece.strip().split("=", 1) for piece in final["Authorization"].partition(" ")[2].split(",")
        )
        credential, signature, date = authorization["Credential"], authorization["Signature"], final["X-Amz-Date"]
        target = path
    else:
        request = AWSRequest(method="PUT", url=url, headers=given | {"x-amz-content-sha256": payload})
        _QueryAuth(BotoCredentials(keys.access_key, secret_key), payload, expires).add_auth(request)
        final = dict(request.headers.items())
        query = parse_qs(urlsplit(request.url).query)
        credential, signature, date = (query[f"X-Amz-{name}"][0] for name in ("Credential", "Signature", "Date"))
        target = request.url.removeprefix(server.endpoint_url)
    scope = credential.partition("/")[2]
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    seed = Seed(key=key, timestamp=date, scope=scope, signature=signature)
    return Sent(target=target, headers=final, body=framed(mode, seed, body))


def framed(mode: str, seed: Seed, body: bytes) -> bytes:
    trailer = f"{TRAILER}:{crc(body)}" if mode in TRAILED else ""
    if mode in {STREAMING_SIGNED, STREAMING_SIGNED_TRAILER}:
        return signed_body(seed, [body[:5], body[5:]], trailer)
    if mode == STREAMING_UNSIGNED_TRAILER:
        return b"5\r\n%s\r\n%x\r\n%s\r\n0\r\n%s\r\n\r\n" % (body[:5], len(body) - 5, body[5:], trailer.encode())
    return body


@contextmanager
def connected(server, sent, **headers: str):
    """A connection on which the headers of a request went out."""
    url = urlsplit(server.endpoint_url)
    lines = [f"{sent.method} {url.path}{sent.target} HTTP/1.1", f"Host: {url.netloc}"]
    lines += [f"{name}: {value}" for name, value in sent.headers.items()]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        yield connection


def received(connection) -> bytes:
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer
