"""The tornado side of the object endpoint: a request in, an answer or an XML error out.

Plain tornado handlers: hosts, origins and cookies of browsers have no part here. Each request is authenticated by
its own signature in `prepare`, before a byte of its body is accepted (reference of the recipe: docs of jupyter_server,
`allow_unauthenticated`).
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Iterable
from contextlib import aclosing, suppress
from copy import copy
from typing import Any, Final
from urllib.parse import quote, unquote

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado import httputil, iostream, web

from simpletuner_lab.server.storage import sending, xml
from simpletuner_lab.server.storage.answers import Answer
from simpletuner_lab.server.storage.errors import STATUS, S3Error
from simpletuner_lab.server.storage.exchange import Exchange, StorageContext, admit
from simpletuner_lab.server.storage.sigv4 import Request

DRAIN_BYTES: Final = 1 << 20
"""So much of a refused body is read and dropped, that a client which does not wait for leave sees the answer."""

PIECE_BYTES: Final = 1 << 16
LARGE_PIECE_BYTES: Final = 1 << 18

DRAIN_ADMITTED_BYTES: Final = 64 << 20
"""The same for one that was let in and cannot be stored after all: a part is read to its end."""

MIN_PROGRESS_BYTES: Final = 1024
"""A body that brings less within the context's time-out is given up."""

_ORDINARY: Final = frozenset({404, 409, 412, 416})
_log: Final = logging.getLogger(__name__)
_CODES: Final = {400: "InvalidURI", 405: "MethodNotAllowed", 411: "MissingContentLength"}

Route = tuple[str, type[web.RequestHandler], dict[str, StorageContext]]


def storage_routes(context: StorageContext, prefix: str = "/api/cloud/storage") -> list[Route]:
    """Routes of the endpoint under a prefix (empty: at the root); with the base URL in it for `web_app.add_handlers`.

    A base URL such as `/user/ann%40example/` is met in both spellings: boto3 quotes the path of its endpoint when a
    bucket follows, and leaves it as it is when none does.
    """
    start, settings = either_spelling(prefix.rstrip("/")), {"context": context}
    service = rf"{start}/?" if start else "/"
    return [
        (service, StorageHandler, settings),
        (rf"{start}/(?P<bucket>[^/]+)", StorageHandler, settings),
        (rf"{start}/(?P<bucket>[^/]+)/(?P<key>.*)", StorageHandler, settings),
    ]


def _take_pieces(connection: Any, size: int) -> None:
    """Has tornado hand over this request's body in pieces of up to so many bytes: each costs a turn of the loop."""
    connection.params = copy(connection.params)
    connection.params.chunk_size = connection.stream.read_chunk_size = size


def either_spelling(path: str) -> str:
    """A pattern for a path with its characters quoted, not quoted, or quoted twice, as boto3 does with `%23`."""
    return "".join(map(_spellings, unquote(path)))


def _spellings(character: str) -> str:
    quoted = quote(character, safe="")
    if character in {"/", quoted}:
        return re.escape(character)
    return f"(?:{re.escape(character)}|(?i:{quoted}|{quote(quoted)}))"


class LowerCaseHeaders(httputil.HTTPHeaders):
    """Header names go out in lower case: boto3 gives the keys of user metadata as they are on the wire."""

    def get_all(self) -> Iterable[tuple[str, str]]:
        """What is written to the connection."""
        return ((name.lower(), value) for name, value in super().get_all())


@web.stream_request_body
class StorageHandler(web.RequestHandler):
    """Every verb goes the same way; which operation it is stands in `calls`."""

    def initialize(self, context: StorageContext) -> None:
        """Called by tornado with the settings of the route."""
        self._context = context
        self._exchange: Exchange | None = None
        self._failure: S3Error | None = None
        self._refusal: S3Error | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._received_bytes = 0
        self._dropped = 0

    def set_default_headers(self) -> None:
        """Every answer has a request id, and none says it is HTML."""
        self._headers = LowerCaseHeaders(self._headers)
        self.clear_header("Content-Type")
        self.set_header("Server", "simpletuner-lab")
        self.set_header("x-amz-request-id", secrets.token_hex(8).upper())

    def check_xsrf_cookie(self) -> None:
        """These callers are no browsers; their requests are signed."""

    def compute_etag(self) -> None:
        """An object has its own, and a listing none."""

    async def prepare(self) -> None:
        """Authenticates and authorises, before tornado tells the client to go on with the body."""
        bucket = self.path_kwargs.get("bucket") or ""
        key = self.path_kwargs.get("key") or ""
        try:
            self._exchange = await admit(self._context, self._received(), bucket, key)
        except S3Error as error:
            self._refuse(error)
            return
        connection = self.request.connection
        assert connection is not None
        connection.set_max_body_size(self._exchange.max_wire_bytes)  # type: ignore[attr-defined]
        connection.set_body_timeout(None)  # type: ignore[attr-defined] # large ones take long; each is watched
        _take_pieces(connection, LARGE_PIECE_BYTES if self._exchange.expects_much else PIECE_BYTES)
        self._watch_body(0)

    async def data_received(self, chunk: bytes) -> None:
        """Takes a piece of the body; tornado reads on when this returns."""
        self._received_bytes += len(chunk)
        if self._exchange is not None and self._failure is None:
            try:
                await self._exchange.receive(chunk)
            except S3Error as error:
                self._exchange.abandon()
                self._failure = error
            return
        if self._finished:
            return
        self._dropped += len(chunk)
        limit = DRAIN_BYTES if self._exchange is None else DRAIN_ADMITTED_BYTES
        if self._dropped > limit and self._failure is not None:
            self._close_with(self._failure)

    def on_connection_close(self) -> None:
        """The client went away before its body was in: nothing of it stays."""
        self._stop_watching()
        if self._exchange is not None:
            self._exchange.abandon()
        super().on_connection_close()

    def log_exception(self, typ: type[BaseException] | None, value: BaseException | None, tb: object) -> None:
        """Without the query: a presigned URL in a log would be a key in a log."""
        self.request.uri = self.request.path
        super().log_exception(typ, value, tb)  # type: ignore[arg-type]

    def _watch_body(self, before: int) -> None:
        """Looks again and again whether the body goes on; a sender that only holds the connection is sent away."""

        def look() -> None:
            if self._received_bytes - before >= MIN_PROGRESS_BYTES:
                self._watch_body(self._received_bytes)
            elif not self._finished:
                if self._exchange is not None:
                    self._exchange.abandon()
                self._close_with(S3Error("RequestTimeout", "the body did not go on; nothing of it was kept"))

        self._watch = asyncio.get_running_loop().call_later(self._context.body_timeout_s, look)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    def write_error(self, status_code: int, **_: object) -> None:
        """What tornado refuses or what failed unforeseen, in the words of S3."""
        code = _CODES.get(status_code, "InternalError")
        self._send_error(S3Error(code, "the request cannot be answered"))

    @allow_unauthenticated
    async def _answer(self, **_: str) -> None:
        """What the request asks for, once its body is in."""
        self._stop_watching()
        if self._finished:  # the body was given up, and ended nevertheless
            return
        if self._failure is not None or self._exchange is None:
            self._send_error(self._failure or S3Error("InternalError", "the request was not admitted"))
            return
        begun = False
        conclusion = self._exchange.conclude(by_kernel=sending.is_plain(self.request.connection))
        try:
            if self._exchange.is_slow:
                running = asyncio.ensure_future(conclusion)
                begun = await self._keep_alive(running)
                answer = await running
            else:
                answer = await conclusion
        except S3Error as error:
            self._send_error(error)
            return
        if begun:
            self.write(answer.document.removeprefix(xml.DECLARATION))
            return
        self.set_status(answer.status)
        for name, value in answer.headers.items():
            self.set_header(name, value)
        if answer.document:
            self.set_header("Content-Type", "application/xml")
            self.write(answer.document)
        if answer.reader is not None:
            await self._send_object(self._exchange, answer)

    async def _keep_alive(self, conclusion: asyncio.Future[Answer]) -> bool:
        """Waits for a slow answer; after a while it begins as a success, whose document may yet be an error."""
        begun = False
        while not (await asyncio.wait({conclusion}, timeout=self._context.patience_s))[0]:
            if not begun:
                self.set_header("Content-Type", "application/xml")
            self.write(b" " if begun else xml.DECLARATION)
            begun = True
            with suppress(iostream.StreamClosedError):
                await self.flush()
        return begun

    get = head = put = post = delete = _answer

    async def _send_object(self, exchange: Exchange, answer: Answer) -> None:
        """Each block goes out when the next one is there, and the last with the end: a short object in one piece."""
        waiting = False
        with suppress(iostream.StreamClosedError):
            if exchange.goes_by_kernel(answer):
                await self.flush()
                await exchange.send(answer, self.request.connection)
                return
            async with aclosing(exchange.blocks(answer)) as blocks:
                async for block in blocks:
                    if waiting:
                        await self.flush()
                    self.write(block)
                    waiting = True

    def _refuse(self, error: S3Error) -> None:
        """Answers before the body when the client waits for leave or sends much; else lets what comes, come first.

        Tornado closes a connection whose request was not read to its end.
        """
        headers = self.request.headers
        length = headers.get("Content-Length", "0")
        waits = headers.get("Expect", "").lower() == "100-continue"
        contradicts = "Content-Length" in headers and "Transfer-Encoding" in headers
        if waits or contradicts or not length.isdigit() or int(length) > DRAIN_BYTES:
            self._close_with(error)
        else:
            self._failure = error
            self._watch_body(0)

    def _close_with(self, error: S3Error) -> None:
        """Answers although the body is not in: what still comes is not read, so the connection ends."""
        self.set_header("Connection", "close")
        self._failure = error
        self._send_error(error)

    def _send_error(self, error: S3Error) -> None:
        self._refusal = error
        request_id = self._headers["x-amz-request-id"]
        document = xml.error(error.code, error.message, self.request.path, request_id, error.details)
        if self._headers_written:
            self.finish(document.removeprefix(xml.DECLARATION))
            return
        self.set_status(STATUS[error.code])
        if error.code == "InvalidRange":
            self.set_header("Content-Range", f"bytes */{error.details.get('ActualObjectSize', '*')}")
        self.clear_header("Content-Length")
        if self.request.method != "HEAD":
            self.set_header("Content-Type", "application/xml")
            self.write(document)
        self.finish()

    def _log(self) -> None:
        """Refusals, and nothing of what would let a request be repeated: no signature, no query, no token."""
        error = self._refusal
        if error is None:
            return
        level = logging.INFO if error.status in _ORDINARY else logging.WARNING
        access_key = error.access_key or (self._exchange.access_key if self._exchange else "-")
        place = getattr(self, "path_kwargs", {})  # there is none where tornado could not read the path
        bucket, key = (ascii(place.get(name) or "")[1:-1] or "-" for name in ("bucket", "key"))
        _log.log(level, "refused: %s %s %s %s %s", self.request.method, bucket, key, access_key, error.code)

    def _received(self) -> Request:
        return Request(
            method=self.request.method or "",
            path=self.request.path,
            query=self.request.query,
            headers=tuple((name.lower(), value) for name, value in self.request.headers.get_all()),
        )
