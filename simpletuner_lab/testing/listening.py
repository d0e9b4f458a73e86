"""A tornado application on a port of this machine, in a thread with its own loop: what the servers for tests stand on."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

HOST: Final = "127.0.0.1"
_PATIENCE_S: Final = 30


@contextmanager
def listening(
    application: Application,
    *,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    max_body_bytes: int | None = None,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> Iterator[int]:
    """Serves until the block ends; gives the port, 0 being any that is free.

    Args:
        application: what is served.
        port: where.
        tls: with this it is https.
        max_body_bytes: larger requests are refused; by default tornado's own limit.
        beside: runs on the same loop until the end.

    Raises:
        OSError: the port is taken.
    """
    ready: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        try:
            server = HTTPServer(application, ssl_options=tls, max_body_size=max_body_bytes)
            sockets = bind_sockets(port, HOST)
        except OSError as error:
            ready.set_exception(error)
            return
        server.add_sockets(sockets)
        stop = asyncio.Event()
        other = None if beside is None else asyncio.create_task(beside())
        ready.set_result((sockets[0].getsockname()[1], asyncio.get_running_loop(), stop))
        await stop.wait()
        if other is not None:
            other.cancel()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="listening", daemon=True)
    thread.start()
    bound, loop, stop = ready.result(_PATIENCE_S)
    try:
        yield bound
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(_PATIENCE_S)
