"""`multipart/form-data`, read as it arrives: no part is ever held as a whole by this reader."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tornado.httputil import HTTPHeaders, HTTPInputError

_LONGEST_HEAD: Final = 16 << 10
_BOUNDARY: Final = re.compile(r'multipart/form-data\s*;.*?\bboundary=(?:"([^"]+)"|([^;,\s]+))', re.IGNORECASE)
_PARAMETER: Final = re.compile(r';\s*([a-z]+)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


class MalformedForm(ValueError):
    """The body is no form of parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHead:
    """What a part is called; `filename` is empty for one that is no file."""

    name: str
    filename: str
    content_type: str


class Sink(Protocol):
    """Where the bytes of one part go."""

    def write(self, data: bytes) -> None:
        """Takes the next of them."""

    def close(self) -> None:
        """There are no more."""


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names.

    Raises:
        MalformedForm: it names none.
    """
    found = _BOUNDARY.match(content_type)
    if found is None:
        raise MalformedForm("Content-Type is not multipart/form-data with a boundary")
    return (found[1] or found[2]).encode()


class Multipart:
    """A reader that is fed.

    Args:
        boundary: as `boundary_of` finds it.
        part: gives the sink of a part that begins.
    """

    def __init__(self, boundary: bytes, part: Callable[[PartHead], Sink]) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._part = part
        self._buffer = bytearray(b"\r\n")  # the first boundary has no line before it
        self._sink: Sink | None = None
        self._step: Callable[[], bool] = self._body
        self._ended = False

    def feed(self, data: bytes) -> None:
        """The next bytes of the body.

        Raises:
            MalformedForm: they are out of form.
        """
        self._buffer += data
        while self._step():
            pass

    def end(self) -> None:
        """The body is complete.

        Raises:
            MalformedForm: it is not.
        """
        if not self._ended:
            raise MalformedForm("the last boundary is missing")

    def _body(self) -> bool:
        found = self._buffer.find(self._delimiter)
        keep = len(self._delimiter) - 1
        whole = found if found >= 0 else max(0, len(self._buffer) - keep)
        if self._sink is not None and whole:
            self._sink.write(bytes(self._buffer[:whole]))
        del self._buffer[:whole]
        if found < 0:
            return False
        del self._buffer[: len(self._delimiter)]
        if self._sink is not None:
            self._sink.close()
            self._sink = None
        self._step = self._after_boundary
        return True

    def _after_boundary(self) -> bool:
        if len(self._buffer) < 2:
            return False
        mark = bytes(self._buffer[:2])
        if mark == b"--":
            self._ended = True
            self._step = self._epilogue
        elif mark == b"\r\n":
            self._step = self._head
        else:
            raise MalformedForm("a boundary is followed by neither a line's end nor the form's")
        return True

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, _LONGEST_HEAD)
        if end < 0:
            if len(self._buffer) >= _LONGEST_HEAD:
                raise MalformedForm("a part's head is too long")
            return False
        self._sink = self._part(_head_of(bytes(self._buffer[2:end])))
        del self._buffer[: end + 4]
        self._step = self._body
        return True

    def _epilogue(self) -> bool:
        self._buffer.clear()
        return False


def _head_of(raw: bytes) -> PartHead:
    try:
        headers = HTTPHeaders.parse(raw.decode("utf-8", "replace"))
    except (HTTPInputError, ValueError) as error:
        raise MalformedForm(f"a part's head: {error}") from error
    disposition = headers.get("Content-Disposition", "")
    parameters = {key.lower(): re.sub(r"\\(.)", r"\1", value) for key, value in _PARAMETER.findall(disposition)}
    if not disposition.startswith("form-data") or "name" not in parameters:
        raise MalformedForm("a part has no name")
    return PartHead(
        name=parameters["name"],
        filename=parameters.get("filename", ""),
        content_type=headers.get("Content-Type", ""),
    )
