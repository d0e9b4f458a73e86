"""`POST /api/webhooks/<provider>`: verified by the provider it names, never by a login (SPEC W1, W2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Sequence
from typing import Any, Final

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado import web
from tornado.httputil import HTTPServerRequest

from simpletuner_lab.core.errors import Forbidden, LabError, NotFound, ProviderUnavailable, TooLarge
from simpletuner_lab.server.answers import Received
from simpletuner_lab.server.base import OutsideHandler, told_of
from simpletuner_lab.server.callers import Network, Refusals, caller, is_among, networks, peer_of
from simpletuner_lab.server.operations import Operation, Operations
from simpletuner_lab.server.rooms import Rooms
from simpletuner_lab.server.trials import Arrival
from simpletuner_lab.services.codec import encode
from simpletuner_lab.services.webhook_proof import HEADER as TEST_HEADER
from simpletuner_lab.services.webhook_proof import MAX_BODY_BYTES as MAX_TEST_BYTES

MAX_BODY_BYTES: Final = 1 << 20
MAX_UNDER_WAY: Final = 32
"""Webhooks that are being verified; more are asked to come again, so that a flood costs little."""

MAX_ARRIVING: Final = 64
"""Bodies that are being read."""

ANSWER_WITHIN_S: Final = 0.8
"""A provider gives up on a slow answer; verifying one may have to fetch the secret it is signed with."""

BODY_WITHIN_S: Final = 10.0
"""A body comes within so long, or the connection ends."""

UNWANTED_BYTES: Final = 256 << 20
"""So much of a body that was refused is read past: a sender that is cut off might not read the answer."""

_log = logging.getLogger(__name__)


class Hooks:
    """Webhooks that are being verified, on threads of their own; and who may send them."""

    def __init__(self, rooms: Rooms, trusted_proxies: Sequence[Network] = ()) -> None:
        self._rooms = rooms
        self._trusted = tuple(trusted_proxies)
        self._under_way: set[asyncio.Task[None]] = set()
        self.arriving: set[object] = set()
        self.refusals = Refusals()

    async def admit(self, provider_id: str, request: HTTPServerRequest) -> None:
        """Whether a caller may send webhooks for this provider.

        Raises:
            Forbidden: the provider's settings name who may, and it is somebody else.
            ProviderUnavailable: the lab is still opening.
        """
        try:
            front = await asyncio.wait_for(self._rooms.front(), ANSWER_WITHIN_S)
        except TimeoutError as error:
            raise ProviderUnavailable("the lab is still opening", hint="send it again") from error
        if self.is_allowed(front.lab.webhooks.allowed_ips.of(provider_id), request) is False:
            raise Forbidden("webhooks are not taken from this address")

    def is_allowed(self, allowed: Sequence[str], request: HTTPServerRequest) -> bool | None:
        """Whether the caller is on a list; None where there is none.

        Raises:
            Forbidden: it cannot be told, because of the caller or of the list.
        """
        if not allowed:
            return None
        try:
            places = networks(allowed)
        except ValueError as error:
            raise Forbidden("no webhook is taken: webhook_allowed_ips names what is no address") from error
        return is_among(self._caller(request), places)

    def caller_of(self, request: HTTPServerRequest) -> str:
        """Who called, for people; empty where it cannot be told."""
        try:
            return str(self._caller(request))
        except Forbidden:
            return ""

    def _caller(self, request: HTTPServerRequest) -> Any:
        return caller(peer_of(request), request.headers.get("X-Forwarded-For", ""), self._trusted)

    async def take(self, provider_id: str, request: HTTPServerRequest, body: bytes, nonce: str) -> bool:
        """Whether it is verified already; it goes on being verified where that takes long.

        Whoever waits for one with this nonce is told how it ended.

        Raises:
            LabError: it is refused, or too many are under way.
        """
        if len(self._under_way) >= MAX_UNDER_WAY:
            raise ProviderUnavailable("too many webhooks at once", hint="send it again")
        task = asyncio.ensure_future(self._receive(provider_id, request, body, nonce))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        done, _ = await asyncio.wait({task}, timeout=ANSWER_WITHIN_S)
        if not done:
            task.add_done_callback(_tell)
            return False
        task.result()
        return True

    async def test(self, provider_id: str, request: HTTPServerRequest, body: bytes) -> dict[str, Any]:
        """The answer to a webhook that this lab sent to itself. No provider sees it.

        Raises:
            Forbidden: it is none.
        """
        front = await self._rooms.front()
        answer = front.lab.prover.take(provider_id, request.headers[TEST_HEADER], body)
        try:
            allowed = self.is_allowed(front.lab.webhooks.allowed_ips.of(provider_id), request)
        except Forbidden:
            allowed = False
        return {"received": True, "test": answer, "caller": self.caller_of(request), "allowed": allowed}

    def report(self, nonce: str, request: HTTPServerRequest, problem: str = "") -> None:
        """Tells whoever waits for the webhook with this nonce."""
        if nonce:
            self._rooms.trials.tell(nonce, Arrival(caller=self.caller_of(request), problem=problem))

    async def _receive(self, provider_id: str, request: HTTPServerRequest, body: bytes, nonce: str) -> None:
        front = await self._rooms.front()
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            await self._rooms.run(self._rooms.executors.hooks, front.lab.webhooks.receive, provider_id, headers, body)
        except NotFound:
            raise
        except LabError as error:
            self.refusals.note(f"webhooks for {provider_id} ({error.code})", f"one was not taken: {error.message}")
            self.report(nonce, request, error.message)
            raise _bare(error) from error
        self.report(nonce, request)


def _bare(error: LabError) -> LabError:
    """What an outsider may know: that it is refused, or to come again. The reason is in the log."""
    if isinstance(error, Forbidden):
        return Forbidden("the webhook is refused")
    return ProviderUnavailable("the webhook cannot be verified now")


def _tell(task: asyncio.Task[None]) -> None:
    """The end of one whose sender was answered before; what was refused is in the log by now."""
    with contextlib.suppress(asyncio.CancelledError):
        error = task.exception()
        if error is not None and not isinstance(error, LabError):
            _log.warning("a webhook was not taken: %s", type(error).__name__)


@web.stream_request_body
class WebhookHandler(OutsideHandler):
    """Takes a body of 1 MiB at most, from whom the provider's settings let, and answers within a second."""

    def initialize(self, hooks: Hooks) -> None:
        """Called by tornado with the settings of the route."""
        self._hooks = hooks
        self._body = bytearray()
        self._most = MAX_TEST_BYTES if TEST_HEADER in self.request.headers else MAX_BODY_BYTES
        self._refused = False

    async def prepare(self) -> None:
        """Refuses by the announced length and by the caller, before a byte is read."""
        connection: Any = self.request.connection
        connection.set_max_body_size(UNWANTED_BYTES)
        connection.set_body_timeout(BODY_WITHIN_S)
        try:
            await self._begin()
        except LabError as error:
            self._refuse(error)

    async def _begin(self) -> None:
        length = self.request.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > self._most:
            raise self._too_large
        if self.request.method != "POST":
            return
        if len(self._hooks.arriving) >= MAX_ARRIVING:
            raise ProviderUnavailable("too many webhooks at once", hint="send it again")
        if TEST_HEADER not in self.request.headers:
            await self._admit(self.path_args[0])
        self._hooks.arriving.add(self)

    async def _admit(self, provider_id: str) -> None:
        try:
            await self._hooks.admit(provider_id, self.request)
        except Forbidden as error:
            caller = self._hooks.caller_of(self.request) or "an address that cannot be told"
            self._hooks.refusals.note(f"webhooks for {provider_id}", f"refused from {caller}: {error.message}")
            self._hooks.report(self._nonce, self.request, error.message)
            raise Forbidden("webhooks are not taken from this address") from error

    def data_received(self, chunk: bytes) -> None:
        """Takes a piece of the body, and refuses at once what turns out to be too much of it."""
        if self._refused:
            return
        self._body += chunk
        if len(self._body) > self._most:
            self._body.clear()
            self._refuse(self._too_large)

    @allow_unauthenticated
    async def post(self, provider_id: str) -> None:
        """Answers `{received: true}`: 200 once verified, 202 where that takes longer."""
        if self._refused:
            self.finish()
            return
        if TEST_HEADER in self.request.headers:
            self.finish(await self._hooks.test(provider_id, self.request, bytes(self._body)))
            return
        verified = await self._hooks.take(provider_id, self.request, bytes(self._body), self._nonce)
        self.set_status(200 if verified else 202)
        self.finish(encode(Received()))

    def on_finish(self) -> None:
        """Called by tornado after the answer."""
        self._hooks.arriving.discard(self)

    def on_connection_close(self) -> None:
        """Called by tornado where the sender went, or was too slow."""
        self._hooks.arriving.discard(self)
        super().on_connection_close()

    @property
    def _nonce(self) -> str:
        return self.get_query_argument("test", "")

    @property
    def _too_large(self) -> TooLarge:
        return TooLarge(f"a webhook has at most {self._most} bytes")

    def _refuse(self, error: LabError) -> None:
        """Answers at once, and ends once the body is past: tornado would cut the sender off, who then reads nothing."""
        told = json.dumps(told_of(error))
        self.set_status(error.status)
        self.set_header("Content-Length", str(len(told)))
        self.set_header("Connection", "close")
        self._refused = True
        if "Expect" in self.request.headers:  # its sender waits with the body
            self.finish(told)
        else:
            self.write(told)
            self.flush()


OPERATIONS: Final[Operations] = {
    WebhookHandler.post: Operation(
        answer=Received,
        body=object,
        others={202: Received},
        errors=(NotFound, TooLarge, Forbidden, ProviderUnavailable),
        open=True,
    ),
}
