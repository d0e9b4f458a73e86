"""`POST /api/webhooks/<provider>`: verified by the provider it names, never by a login (SPEC W1, W2)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Final

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado import web

from simpletuner_lab.core.errors import LabError, ProviderUnavailable, TooLarge
from simpletuner_lab.server.base import OutsideHandler
from simpletuner_lab.server.rooms import Rooms

MAX_BODY_BYTES: Final = 1 << 20
MAX_UNDER_WAY: Final = 32
"""Webhooks that are being verified; more are asked to come again, so that a flood costs little."""

ANSWER_WITHIN_S: Final = 0.8
"""A provider gives up on a slow answer; verifying one may have to fetch the secret it is signed with."""

_log = logging.getLogger(__name__)


class Hooks:
    """Webhooks that are being verified, on a thread of their own."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._under_way: set[asyncio.Task[None]] = set()

    async def take(self, provider_id: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether it is verified already; it goes on being verified where that takes long.

        Raises:
            LabError: it is refused, or too many are under way.
        """
        if len(self._under_way) >= MAX_UNDER_WAY:
            raise ProviderUnavailable("too many webhooks at once", hint="send it again")
        task = asyncio.ensure_future(self._receive(provider_id, headers, body))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        done, _ = await asyncio.wait({task}, timeout=ANSWER_WITHIN_S)
        if not done:
            task.add_done_callback(_tell)
            return False
        task.result()
        return True

    async def _receive(self, provider_id: str, headers: Mapping[str, str], body: bytes) -> None:
        front = await self._rooms.front()
        await self._rooms.run(self._rooms.executors.hooks, front.lab.webhooks.receive, provider_id, headers, body)


def _tell(task: asyncio.Task[None]) -> None:
    """The end of one whose sender was answered before."""
    with contextlib.suppress(asyncio.CancelledError):
        if (error := task.exception()) is not None:
            _log.warning("a webhook was not taken: %s", error if isinstance(error, LabError) else type(error).__name__)


@web.stream_request_body
class WebhookHandler(OutsideHandler):
    """Takes a body of 1 MiB at most, and answers within a second."""

    def initialize(self, hooks: Hooks) -> None:
        """Called by tornado with the settings of the route."""
        self._hooks = hooks
        self._body = bytearray()

    def prepare(self) -> None:
        """Refuses by the announced length, before a byte is read."""
        connection = self.request.connection
        assert connection is not None
        connection.set_max_body_size(MAX_BODY_BYTES)  # type: ignore[attr-defined]
        length = self.request.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            raise TooLarge(f"a webhook has at most {MAX_BODY_BYTES} bytes")

    def data_received(self, chunk: bytes) -> None:
        """Takes a piece of the body; tornado ends a longer one."""
        self._body += chunk

    @allow_unauthenticated
    async def post(self, provider_id: str) -> None:
        """Answers `{received: true}`: 200 once verified, 202 where that takes longer."""
        headers = {name.lower(): value for name, value in self.request.headers.items()}
        verified = await self._hooks.take(provider_id, headers, bytes(self._body))
        self.set_status(200 if verified else 202)
        self.finish({"received": True})
