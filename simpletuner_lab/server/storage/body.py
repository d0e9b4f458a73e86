"""Receiving a body: decoded, counted, hashed and handed on piece by piece, then compared with what was promised."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from simpletuner_lab.server.storage.checksums import (
    HEADER,
    algorithm_named,
    checked_value,
    declared,
    decoded,
    encoded,
    new_hash,
)
from simpletuner_lab.server.storage.chunked import (
    STREAMING,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    AwsChunked,
    Decoder,
    Plain,
)
from simpletuner_lab.server.storage.errors import S3Error, not_implemented
from simpletuner_lab.server.storage.sigv4 import UNSIGNED, Seed

MAX_DOCUMENT_BYTES: Final = 2 << 20
"""An XML body is never longer: a completion of 10,000 parts has about 1.5 MB."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Sink(Protocol):
    """Where decoded bytes go."""

    def write(self, data: memoryview) -> None:
        """Takes the next bytes."""


class Memory:
    """Keeps a short body, such as an XML document."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: memoryview) -> None:
        """Takes the next bytes; raises S3Error EntityTooLarge beyond `MAX_DOCUMENT_BYTES`."""
        if len(self.data) + len(data) > MAX_DOCUMENT_BYTES:
            raise S3Error("EntityTooLarge", f"the body of this call has at most {MAX_DOCUMENT_BYTES} bytes")
        self.data += data


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What the headers say of the body. `size` is of the object's own bytes, None where no length is given."""

    payload: str
    size: int | None
    md5: bytes | None
    checksum: tuple[str, str] | None
    trailer: str

    @property
    def algorithm(self) -> str:
        """The checksum algorithm that header or trailer declare, empty for none."""
        return self.checksum[0] if self.checksum else self.trailer


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A body that came whole and as promised; `checksums` in base64 by algorithm."""

    size: int
    md5_hex: str
    checksums: Mapping[str, str]


def read_promise(headers: Mapping[str, str], payload: str, max_bytes: int = 5 << 30) -> Promise:
    """Reads what the headers say of the body.

    Raises:
        S3Error: they contradict each other, name what is not spoken here, or promise more than `max_bytes`.
    """
    if payload not in STREAMING | {UNSIGNED} and not _SHA256.fullmatch(payload):
        if payload.startswith("STREAMING-"):
            raise not_implemented(f"the payload mode {payload}")
        raise S3Error("InvalidArgument", "x-amz-content-sha256 is neither a payload mode nor a SHA-256")
    length = headers.get("x-amz-decoded-content-length" if payload in STREAMING else "content-length")
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 16):
        raise S3Error("InvalidArgument", "the length of the body cannot be read")
    if length is not None and int(length) > max_bytes:
        raise S3Error("EntityTooLarge", f"one request carries at most {max_bytes} bytes")
    md5 = decoded(headers["content-md5"]) if "content-md5" in headers else None
    if "content-md5" in headers and len(md5 or b"") != 16:
        raise S3Error("InvalidDigest", "Content-MD5 is not base64 of 16 bytes")
    checksum = declared(headers)
    trailer = headers.get("x-amz-trailer", "").strip().lower()
    if trailer:
        _check_trailer(trailer, payload, checksum)
    return Promise(
        payload=payload,
        size=None if length is None else int(length),
        md5=md5,
        checksum=checksum,
        trailer=trailer.removeprefix(HEADER),
    )


def _check_trailer(trailer: str, payload: str, checksum: tuple[str, str] | None) -> None:
    if payload not in {STREAMING_UNSIGNED_TRAILER, STREAMING_SIGNED_TRAILER}:
        raise S3Error("InvalidRequest", "x-amz-trailer is given, and the payload has no trailer")
    if checksum is not None:
        raise S3Error("InvalidRequest", "a request carries one checksum, in a header or in the trailer")
    if not trailer.startswith(HEADER):
        raise not_implemented(f"the trailer {trailer}")
    algorithm_named(trailer)


class Intake:
    """Takes a body in. Not for the event loop: it hashes, and its sink may write to a disk."""

    def __init__(self, promise: Promise, seed: Seed, sink: Sink, also: str = "") -> None:
        """`also` is a checksum that is wanted whatever the client sends, empty for none."""
        self._promise = promise
        self._sink = sink
        self._decoder = _decoder(promise.payload, seed)
        self._size = 0
        self._also = also
        names = {"md5", promise.algorithm, also} - {""}
        if _SHA256.fullmatch(promise.payload):
            names.add("sha256")
        self._hashes = {name: new_hash(name) for name in names}

    def feed(self, data: bytes | bytearray) -> None:
        """Takes what arrived.

        Raises:
            S3Error: the framing is wrong, there is more than promised, or there is no room.
        """
        for piece in self._decoder.feed(memoryview(data)):
            self._size += len(piece)
            if self._promise.size is not None and self._size > self._promise.size:
                raise S3Error("IncompleteBody", "the body is longer than its length says")
            for hash_ in self._hashes.values():
                hash_.update(piece)
            self._sink.write(piece)

    def finish(self) -> Received:
        """Compares everything that was promised with what came.

        Raises:
            S3Error: IncompleteBody, BadDigest, XAmzContentSHA256Mismatch, MalformedTrailerError.
        """
        promise = self._promise
        trailers = self._decoder.finish()
        if promise.size is not None and self._size != promise.size:
            raise S3Error("IncompleteBody", f"{promise.size} bytes were promised, {self._size} came")
        digests = {name: hash_.digest() for name, hash_ in self._hashes.items()}
        if _SHA256.fullmatch(promise.payload) and digests["sha256"].hex() != promise.payload:
            raise S3Error("XAmzContentSHA256Mismatch", "the body is not the one that x-amz-content-sha256 was made of")
        if promise.md5 is not None and digests["md5"] != promise.md5:
            raise S3Error("BadDigest", "the body is not the one that Content-MD5 was made of")
        checksums = {}
        if self._also:
            checksums[self._also] = encoded(digests[self._also])
        if promise.algorithm:
            value = promise.checksum[1] if promise.checksum else _trailing(trailers, promise.trailer)
            if decoded(value) != digests[promise.algorithm]:
                raise S3Error("BadDigest", f"the {promise.algorithm} of the body is not the one that was sent with it")
            checksums[promise.algorithm] = encoded(digests[promise.algorithm])
        elif trailers:
            raise S3Error("MalformedTrailerError", "there is a trailer that x-amz-trailer does not announce")
        return Received(size=self._size, md5_hex=digests["md5"].hex(), checksums=checksums)


def _trailing(trailers: Mapping[str, str], algorithm: str) -> str:
    if set(trailers) != {HEADER + algorithm}:
        raise S3Error("MalformedTrailerError", "the trailer is not the one that x-amz-trailer announces")
    return checked_value(algorithm, trailers[HEADER + algorithm])


def _decoder(payload: str, seed: Seed) -> Decoder:
    if payload not in STREAMING:
        return Plain()
    signed = payload != STREAMING_UNSIGNED_TRAILER
    return AwsChunked(
        seed if signed else None, trailer=payload in {STREAMING_UNSIGNED_TRAILER, STREAMING_SIGNED_TRAILER}
    )
