"""How a payload travels: as it is, or in aws-chunked framing, signed or not, with or without a trailer.

Formats: the S3 API reference, "Transferring Payload in Multiple Chunks" and "... with trailing headers".
Decoders are fed whatever arrived and give the decoded bytes piece by piece, so a chunk of any size is never held.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.sigv4 import EMPTY_SHA256, Seed, sign

STREAMING_UNSIGNED_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING_SIGNED: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING: Final = frozenset({STREAMING_UNSIGNED_TRAILER, STREAMING_SIGNED, STREAMING_SIGNED_TRAILER})

_MAX_LINE: Final = 4096
_MAX_TRAILERS: Final = 16
_SIZE_LINE: Final = re.compile(rb"([0-9a-fA-F]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?")


class Decoder(Protocol):
    """Takes what the client sent and gives the object's own bytes."""

    def feed(self, data: memoryview) -> Iterator[memoryview]:
        """Decodes the next bytes."""

    def finish(self) -> Mapping[str, str]:
        """Checks that the payload ended where it should; gives its trailing headers, names in lower case."""


class Plain:
    """The bytes as they are."""

    def feed(self, data: memoryview) -> Iterator[memoryview]:
        """Gives back what came."""
        yield data

    def finish(self) -> Mapping[str, str]:
        """There is no trailer, and the end is the connection's business."""
        return {}


class AwsChunked:
    """aws-chunked framing: `SIZE[;chunk-signature=HEX]` and the data, until a chunk of size 0, then the trailer."""

    def __init__(self, seed: Seed | None, *, trailer: bool) -> None:
        """`seed`: the verified request that the chunks' signatures continue from; None where they are not signed."""
        self._seed = seed
        self._trailer = trailer
        self._previous = seed.signature if seed else ""
        self._claimed = b""
        self._hash = hashlib.sha256()
        self._line = bytearray()
        self._left = 0
        self._state = "size"
        self._headers: dict[str, str] = {}

    def feed(self, data: memoryview) -> Iterator[memoryview]:
        """Decodes the next bytes; raises S3Error where framing or signature are wrong."""
        while data:
            if self._state == "data":
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                if self._seed:
                    self._hash.update(piece)
                if not self._left:
                    self._state = "data end"
                yield piece
            else:
                data = self._collect_line(data)

    def finish(self) -> Mapping[str, str]:
        """The trailer's headers; raises IncompleteBody before the end of the framing."""
        if self._state == "trailer" and not self._headers and not self._trailer and not self._line:
            self._state = "end"
        if self._state != "end":
            raise S3Error("IncompleteBody", "the payload ends inside its framing")
        if self._line:
            raise S3Error("InvalidRequest", "there is more after the end of the payload")
        return self._headers

    def _collect_line(self, data: memoryview) -> memoryview:
        window = bytes(data[: _MAX_LINE + 1])
        at = window.find(b"\n")
        self._line += window if at < 0 else window[: at + 1]
        if len(self._line) > _MAX_LINE:
            raise S3Error("InvalidRequest", "a line of the chunk framing is too long")
        if at < 0:
            return data[len(window) :]
        line = bytes(self._line.removesuffix(b"\n").removesuffix(b"\r"))
        self._line.clear()
        self._on_line(line)
        return data[at + 1 :]

    def _on_line(self, line: bytes) -> None:
        if self._state == "size":
            self._start_chunk(line)
        elif self._state == "data end":
            if line:
                raise S3Error("InvalidRequest", "a chunk is longer than it says")
            self._check_chunk()
            self._state = "size"
        elif self._state == "trailer" and line:
            self._add_trailer(line)
        elif self._state == "trailer":
            self._check_trailer()
            self._state = "end"
        elif line:
            raise S3Error("InvalidRequest", "there is more after the end of the payload")

    def _start_chunk(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None or (match[2] is None) != (self._seed is None):
            raise S3Error("InvalidRequest", "a chunk does not begin with its size and, where signed, its signature")
        self._left = int(match[1], 16)
        self._claimed = match[2] or b""
        self._state = "data" if self._left else "trailer"
        if not self._left:
            self._check_chunk()

    def _check_chunk(self) -> None:
        if self._seed:
            self._check("AWS4-HMAC-SHA256-PAYLOAD", f"{EMPTY_SHA256}\n{self._hash.hexdigest()}", self._claimed)
            self._hash = hashlib.sha256()

    def _add_trailer(self, line: bytes) -> None:
        name, colon, value = line.decode("latin-1").partition(":")
        name = name.strip().lower()
        if not colon or name in self._headers or len(self._headers) >= _MAX_TRAILERS:
            raise S3Error("MalformedTrailerError", "the trailer is not a list of headers")
        self._headers[name] = value.strip()

    def _check_trailer(self) -> None:
        if not self._trailer and self._headers:
            raise S3Error("MalformedTrailerError", "there is a trailer that was not announced")
        claimed = self._headers.pop("x-amz-trailer-signature", "")
        if self._seed and self._trailer:
            text = "".join(f"{name}:{value}\n" for name, value in self._headers.items())
            digest = hashlib.sha256(text.encode("latin-1")).hexdigest()
            self._check("AWS4-HMAC-SHA256-TRAILER", digest, claimed.encode("latin-1"))

    def _check(self, kind: str, rest: str, claimed: bytes) -> None:
        assert self._seed is not None
        text = f"{kind}\n{self._seed.timestamp}\n{self._seed.scope}\n{self._previous}\n{rest}"
        signature = sign(self._seed.key, text)
        if not hmac.compare_digest(signature.encode(), claimed):
            raise S3Error("SignatureDoesNotMatch", "the signature of a chunk or of the trailer is wrong")
        self._previous = signature
