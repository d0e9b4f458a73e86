"""A real websocket on Jupyter's event bus, read in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass
from typing import Any, Self

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from simpletuner_lab.server.announcer import JOB_EVENT
from tests.server.server_kit import TOKEN, Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One of our events: its data, and when it came in seconds of the monotonic clock."""

    at: float
    data: dict[str, Any]


class Subscriber:
    """Everything that a server says on `api/events/subscribe` while the context lasts."""

    def __init__(self, server: Server) -> None:
        self._url = server.url.replace("http://", "ws://") + "api/events/subscribe"
        self._heard: list[Heard] = []
        self._open = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._open.wait(20), "no websocket"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._socket.close)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def of(self, job_id: str) -> list[dict[str, Any]]:
        """The data of a job's events so far."""
        return [heard.data for heard in self.heard(job_id)]

    def heard(self, job_id: str) -> list[Heard]:
        """A job's events so far, with their times."""
        return [heard for heard in self._heard if heard.data["job_id"] == job_id]

    def _listen(self) -> None:
        self._loop.run_until_complete(self._read())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _read(self) -> None:
        request = HTTPRequest(self._url, headers={"Authorization": f"token {TOKEN}"})
        self._socket: WebSocketClientConnection = await websocket_connect(request)
        self._open.set()
        while (message := await self._socket.read_message()) is not None:
            event = json.loads(message)
            if event.pop("schema_id") == JOB_EVENT:
                own = {name: value for name, value in event.items() if not name.startswith("__")}
                self._heard.append(Heard(at=time.monotonic(), data=own))
