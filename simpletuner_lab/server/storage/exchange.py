"""One request from its first header to its answer: admitted, its body taken in, its operation done.

Nothing of the body is accepted before signature, grant and room are checked. All hashing and all files are on the
`disk` executor, one batch of at least a mebibyte at a time, so memory stays constant and the sender waits for us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeVar

from simpletuner_lab.core.grant import ENDPOINT_PATH, Grant
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.server.storage.answers import Answer, Work, quota_of
from simpletuner_lab.server.storage.body import MAX_DOCUMENT_BYTES, Intake, Memory, Promise, read_promise
from simpletuner_lab.server.storage.calls import Call, authorise, read_call
from simpletuner_lab.server.storage.chunked import STREAMING
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.objects import ObjectStore, Writer
from simpletuner_lab.server.storage.operations import body_headers, open_writer, perform
from simpletuner_lab.server.storage.sigv4 import Place, Request, Seed, places, read_claim, verify
from simpletuner_lab.server.storage.table import SLOW

BATCH_BYTES: Final = 1 << 20
_SLACK_BYTES: Final = 1 << 16
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageContext:
    """What the endpoint is given by whoever builds the server.

    Attributes:
        objects: the store; its methods run on `disk`.
        resolve: the grant and secret behind an access key id; runs on `db`, since it may ask a database.
        clock: seconds since the epoch.
        public_url: how clients outside see `base_url`, None when they see it as it is here (DESIGN §2.8).
        max_object_bytes: limit of one PUT or part; S3's own is 5 GiB.
        body_timeout_s: a body that brings less than a kibibyte in so many seconds is given up.
        patience_s: an answer that takes longer is kept alive with white space, again and again, until it is there.
        on_object_stored: told on the event loop of each new object: bucket, key, bytes.
    """

    objects: ObjectStore
    resolve: Callable[[str], tuple[Grant, Secret] | None]
    disk: Executor
    db: Executor
    clock: Callable[[], float]
    base_url: str = "/"
    public_url: str | None = None
    max_object_bytes: int = 5 << 30
    body_timeout_s: float = 60.0
    patience_s: float = 10.0
    on_object_stored: Callable[[str, str, int], None] | None = None


class Exchange:
    """A request that was let in."""

    def __init__(
        self,
        context: StorageContext,
        *,
        call: Call,
        grant: Grant,
        promise: Promise,
        seed: Seed,
        writer: Writer | None,
    ) -> None:
        self._context = context
        self._call = call
        self._grant = grant
        self._promise = promise
        self._writer = writer
        self._memory = Memory()
        self._intake = Intake(promise, seed, writer or self._memory, writer.algorithm if writer else "")
        self._buffer = bytearray()
        self._concluding = False

    @property
    def is_slow(self) -> bool:
        """Whether the answer may take longer than a client waits for its first byte."""
        return self._call.operation in SLOW

    @property
    def access_key(self) -> str:
        """Whose request it is."""
        return self._grant.id

    @property
    def max_wire_bytes(self) -> int:
        """How long the body may be as it travels, framing included."""
        if self._writer is None or self._promise.size is None:
            return MAX_DOCUMENT_BYTES + _SLACK_BYTES
        framing = self._promise.size // 32 + _SLACK_BYTES if self._promise.payload in STREAMING else 0
        return self._promise.size + framing

    async def receive(self, chunk: bytes) -> None:
        """Takes a piece of the body; returns when more may come. Raises S3Error."""
        self._buffer += chunk
        if len(self._buffer) >= BATCH_BYTES:
            batch, self._buffer = self._buffer, bytearray()
            await _on(self._context.disk, lambda: self._intake.feed(batch))

    async def conclude(self) -> Answer:
        """Does what the request asks for, once its body is in. Raises S3Error, and then nothing has changed."""
        self._concluding = True
        answer = await _on(self._context.disk, self._perform)
        if answer.stored_bytes is not None and self._context.on_object_stored is not None:
            self._context.on_object_stored(self._call.bucket, self._call.key, answer.stored_bytes)
        return answer

    def abandon(self) -> None:
        """The sender is gone or was refused: what came is removed, unless it is being concluded just now."""
        if self._writer is not None and not self._concluding:
            self._concluding = True
            self._context.disk.submit(self._writer.discard)

    async def read(self, answer: Answer, done: int) -> bytes:
        """The next piece of an object that is sent, behind the `done` bytes that were."""
        assert answer.reader is not None
        assert answer.extent is not None
        reader, offset = answer.reader, answer.extent.offset + done
        size = min(BATCH_BYTES, answer.extent.size - done)
        return await _on(self._context.disk, lambda: reader.read(offset, size))

    def _perform(self) -> Answer:
        try:
            self._intake.feed(self._buffer)
            received = self._intake.finish()
            return perform(
                Work(
                    objects=self._context.objects,
                    grant=self._grant,
                    call=self._call,
                    promise=self._promise,
                    received=received,
                    body=bytes(self._memory.data),
                    writer=self._writer,
                    now=self._context.clock(),
                )
            )
        finally:
            if self._writer is not None:
                self._writer.discard()


async def admit(context: StorageContext, request: Request, bucket: str, key: str) -> Exchange:
    """Lets a request in: signature first, then what it asks for, then the grant, then whether there is room.

    Raises:
        S3Error: it is refused.
    """
    now = context.clock()
    claim = read_claim(request, now)
    found = await _on(context.db, lambda: context.resolve(claim.access_key))
    if found is None:
        raise S3Error("InvalidAccessKeyId", "there is no such access key here")
    grant, secret = found
    try:
        seed = verify(request, claim, secret.reveal(), _places(context, request, grant))
        call = read_call(request, bucket, key)
        authorise(call, grant, now)
        promise = read_promise(body_headers(call), claim.payload, context.max_object_bytes)
        writer = await _on(context.disk, lambda: open_writer(context.objects, call, promise, quota_of(grant)))
    except S3Error as error:
        error.access_key = grant.id
        raise
    exchange = Exchange(context, call=call, grant=grant, promise=promise, seed=seed, writer=writer)
    try:
        _check_framing(request, exchange.max_wire_bytes)
    except S3Error as error:
        error.access_key = grant.id
        exchange.abandon()
        raise
    return exchange


def _check_framing(request: Request, max_bytes: int) -> None:
    """Refuses in our own words what tornado would answer with a bare line and a closed connection."""
    length = request.header("content-length")
    if length is not None and request.header("transfer-encoding") is not None:
        raise S3Error("InvalidRequest", "Content-Length and Transfer-Encoding exclude each other")
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 16):
        raise S3Error("InvalidArgument", "the length of the body cannot be read")
    if length is not None and int(length) > max_bytes:
        raise S3Error("EntityTooLarge", "the body is longer than this call may have, or than it says itself")


def _places(context: StorageContext, request: Request, grant: Grant) -> tuple[Place, ...]:
    """Where the request may have been sent: as received, to the public URL, to where the grant's holder was told."""
    told = grant.endpoint_url.removesuffix(ENDPOINT_PATH) if grant.endpoint_url else None
    seen = (places(request, context.base_url, url) for url in dict.fromkeys((context.public_url, told)))
    return tuple(dict.fromkeys(place for found in seen for place in found))


async def _on(executor: Executor, work: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(executor, work)
