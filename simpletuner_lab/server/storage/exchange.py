"""One request from its first header to its answer: admitted, its body taken in, its operation done.

Nothing of a body is accepted before signature and grant are checked, and nothing of a long one before there is room
for it. All hashing and all files are on the `disk` executor, one batch of at least a mebibyte at a time, so memory
stays constant and the sender waits for us. A short body is kept until it is whole, and then costs one turn there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from simpletuner_lab.core.grant import ENDPOINT_PATH, Grant
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.server.storage import sending
from simpletuner_lab.server.storage.answers import Answer, Work, quota_of
from simpletuner_lab.server.storage.body import MAX_DOCUMENT_BYTES, Intake, Memory, Promise, read_promise
from simpletuner_lab.server.storage.calls import Call, authorise, denied, read_call
from simpletuner_lab.server.storage.chunked import STREAMING
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.objects import ObjectReader, ObjectStore, Writer
from simpletuner_lab.server.storage.operations import body_headers, open_writer, perform
from simpletuner_lab.server.storage.reading import Extent
from simpletuner_lab.server.storage.sigv4 import Place, Request, Seed, places, read_claim, verify
from simpletuner_lab.server.storage.table import SLOW, STORES_BODY

BATCH_BYTES: Final = 1 << 20
RECHECK_S: Final = 0.1
"""A body that took longer to come is stored only if its grant has not been revoked meanwhile."""

SHORT_BYTES: Final = 1 << 16
"""A body up to this length waits in memory; room is looked for, and its file opened, when it is whole."""

_SLACK_BYTES: Final = 1 << 16
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageContext:
    """What the endpoint is given by whoever builds the server.

    Attributes:
        objects: the store; its methods run on `disk`.
        resolve: the grant and secret behind an access key id; runs on `db`, since it may ask a database.
        known: the same for the keys that it can tell without asking, None for all others; runs on the event loop.
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
    known: Callable[[str], tuple[Grant, Secret] | None] = lambda _: None
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
    ) -> None:
        self._context = context
        self._call = call
        self._grant = grant
        self._promise = promise
        self._seed = seed
        self._stores = call.operation in STORES_BODY
        self._writer: Writer | None = None
        self._memory = Memory()
        self._intake: Intake | None = None
        self._buffer = bytearray()
        self._feeding: asyncio.Future[None] | None = None
        self._concluding = False
        self._admitted_at = asyncio.get_running_loop().time()
        self._first = b""
        self._by_kernel = False

    @property
    def is_slow(self) -> bool:
        """Whether the answer may take longer than a client waits for its first byte."""
        return self._call.operation in SLOW

    @property
    def access_key(self) -> str:
        """Whose request it is."""
        return self._grant.id

    @property
    def expects_much(self) -> bool:
        """Whether the body is long enough for what each piece of it costs to matter."""
        return self._promise.size is not None and self._promise.size > BATCH_BYTES

    @property
    def max_wire_bytes(self) -> int:
        """How long the body may be as it travels, framing included."""
        if not self._stores or self._promise.size is None:
            return MAX_DOCUMENT_BYTES + _SLACK_BYTES
        framing = self._promise.size // 32 + _SLACK_BYTES if self._promise.payload in STREAMING else 0
        return self._promise.size + framing

    async def open(self) -> None:
        """Looks whether the call can be done, and finds a long body its place; a short one waits. Raises S3Error."""
        size = self._promise.size
        if not self._stores:
            self._open()
        elif size is None or size > SHORT_BYTES:
            await _on(self._context.disk, self._open)

    async def receive(self, chunk: bytes) -> None:
        """Takes a piece of the body; returns when more may come. Raises S3Error.

        One batch is hashed and written while the next one arrives: neither waits for the other, and no third is held.
        """
        self._buffer += chunk
        if len(self._buffer) >= BATCH_BYTES:
            batch, self._buffer = self._buffer, bytearray()
            await self._fed()
            self._feeding = _on(self._context.disk, lambda: self._open().feed(batch))

    async def conclude(self, *, by_kernel: bool) -> Answer:
        """Does what the request asks for, once its body is in. Raises S3Error, and then nothing has changed.

        `by_kernel` says that a file may go past us, from the kernel to the connection.
        """
        self._by_kernel = by_kernel
        try:
            await self._fed()
        except (S3Error, OSError):
            self.abandon()
            raise
        if self._stores and asyncio.get_running_loop().time() - self._admitted_at > RECHECK_S:
            await self._authorise_again()
        self._concluding = True
        answer = await _on(self._context.disk, self._perform)
        if answer.stored_bytes is not None and self._context.on_object_stored is not None:
            self._context.on_object_stored(self._call.bucket, self._call.key, answer.stored_bytes)
        return answer

    async def _authorise_again(self) -> None:
        """A grant that was revoked while the body came stores nothing: another attempt may have the key by now.

        One whose time ran out meanwhile does: it was good when the request came.
        """
        found = self._context.known(self._grant.id) or await _on(
            self._context.db, partial(self._context.resolve, self._grant.id)
        )
        revoked_at = None if found is None else found[0].revoked_at
        if found is None or (revoked_at is not None and revoked_at <= self._context.clock()):
            self.abandon()
            raise denied()

    def abandon(self) -> None:
        """The sender is gone or was refused: what came is removed, unless it is being concluded just now."""
        if self._writer is None or self._concluding:
            return
        self._concluding = True
        if self._feeding is None:
            self._context.disk.submit(self._writer.discard)
        else:  # not while a thread still writes into it
            self._feeding.add_done_callback(self._discard_after)

    def _discard_after(self, feeding: asyncio.Future[None]) -> None:
        assert self._writer is not None
        if not feeding.cancelled():
            feeding.exception()  # it was refused already
        self._context.disk.submit(self._writer.discard)

    async def _fed(self) -> None:
        if self._feeding is not None:
            await self._feeding

    def goes_by_kernel(self, answer: Answer) -> bool:
        """Whether `send` sends it, and not `blocks`."""
        return self._by_kernel and answer.extent is not None and answer.extent.size >= sending.LEAST_BYTES

    async def send(self, answer: Answer, connection: object) -> None:
        """The bytes of an object, from the kernel to a connection whose headers are out. Ends by closing the object.

        Raises:
            S3Error: the file was cut short meanwhile.
            StreamClosedError: the client is gone.
        """
        assert answer.reader is not None
        assert answer.extent is not None
        offset, size = answer.extent.offset, answer.extent.size
        try:
            await sending.send(connection, self._context.disk, answer.reader.descriptor, offset, size)
        finally:
            answer.reader.close()

    async def blocks(self, answer: Answer) -> AsyncGenerator[bytes, None]:
        """The bytes of an object that is sent: a block is read while the one before it travels. Ends by closing it.

        Raises:
            S3Error: the file was cut short meanwhile.
        """
        assert answer.reader is not None
        assert answer.extent is not None
        reader, at = answer.reader, answer.extent.offset
        end, block = at + answer.extent.size, self._first
        coming: asyncio.Future[bytes] | None = None
        try:
            while at < end:
                if not block:
                    raise S3Error("InternalError", "the file was cut short while it was read")
                at += len(block)
                if at < end:
                    coming = _on(self._context.disk, partial(reader.read, at, min(BATCH_BYTES, end - at)))
                yield block
                block = await coming if coming is not None else b""
        finally:
            if coming is not None:
                await asyncio.wait({coming})
            reader.close()

    def _open(self) -> Intake:
        """Where the body goes, opened the first time; not for the event loop where the call stores its body."""
        if self._intake is None:
            quota = quota_of(self._grant)
            self._writer = open_writer(self._context.objects, self._call, self._promise, quota)
            also = self._writer.algorithm if self._writer else ""
            self._intake = Intake(self._promise, self._seed, self._writer or self._memory, also)
        return self._intake

    def _perform(self) -> Answer:
        try:
            intake = self._open()
            intake.feed(self._buffer)
            received = intake.finish()
            answer = perform(
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
            if answer.reader is not None and answer.extent is not None and not self.goes_by_kernel(answer):
                self._first = _first_block(answer.reader, answer.extent)
            return answer
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
    found = context.known(claim.access_key) or await _on(context.db, partial(context.resolve, claim.access_key))
    if found is None:
        raise S3Error("InvalidAccessKeyId", "there is no such access key here")
    grant, secret = found
    try:
        seed = verify(request, claim, secret.reveal(), _places(context, request, grant))
        call = read_call(request, bucket, key)
        authorise(call, grant, now)
        promise = read_promise(body_headers(call), claim.payload, context.max_object_bytes)
        exchange = Exchange(context, call=call, grant=grant, promise=promise, seed=seed)
        await exchange.open()
    except S3Error as error:
        error.access_key = grant.id
        raise
    try:
        _check_framing(request, exchange.max_wire_bytes)
    except S3Error as error:
        error.access_key = grant.id
        exchange.abandon()
        raise
    return exchange


def _places(context: StorageContext, request: Request, grant: Grant) -> tuple[Place, ...]:
    """Where the request may have been sent: as received, to the public URL, to where the grant's holder was told."""
    told = grant.endpoint_url.removesuffix(ENDPOINT_PATH) if grant.endpoint_url else None
    seen = (places(request, context.base_url, url) for url in dict.fromkeys((context.public_url, told)))
    return tuple(dict.fromkeys(place for found in seen for place in found))


def _check_framing(request: Request, max_bytes: int) -> None:
    """Refuses in our own words what tornado would answer with a bare line and a closed connection."""
    length = request.header("content-length")
    if length is not None and request.header("transfer-encoding") is not None:
        raise S3Error("InvalidRequest", "Content-Length and Transfer-Encoding exclude each other")
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 16):
        raise S3Error("InvalidArgument", "the length of the body cannot be read")
    if length is not None and int(length) > max_bytes:
        raise S3Error("EntityTooLarge", "the body is longer than this call may have, or than it says itself")


def _first_block(reader: ObjectReader, wanted: Extent) -> bytes:
    try:
        return reader.read(wanted.offset, min(BATCH_BYTES, wanted.size))
    except OSError:
        reader.close()
        raise


def _on(executor: Executor, work: Callable[[], _T]) -> asyncio.Future[_T]:
    return asyncio.get_running_loop().run_in_executor(executor, work)
