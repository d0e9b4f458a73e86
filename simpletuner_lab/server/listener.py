"""The second listener (DESIGN §2.8): webhooks and the object endpoint, nothing of Jupyter. This is what may be exposed.

It shares the notebook server's event loop and nothing else: an application of its own, so no cookie, login, page or
route of Jupyter can be reached through it.
"""

from __future__ import annotations

import logging
import socket
from typing import Any, Final

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from simpletuner_lab.core.errors import NotFound
from simpletuner_lab.server.base import OutsideHandler

IDLE_S: Final = 75
"""A connection may say nothing for so long, between requests and in the middle of headers."""

BODY_S: Final = 60
"""A body comes within so long. Those of objects have a watch of their own, which asks whether they go on."""

MAX_HEADER_BYTES: Final = 64 << 10
READ_BYTES: Final = 1 << 18

_log = logging.getLogger(__name__)


class NowhereHandler(OutsideHandler):
    """404 for all else, with the path as it arrived: that tells what a proxy made of it."""

    def prepare(self) -> None:
        """Whatever the method."""
        raise NotFound(f"nothing is served at {self.request.path}")

    @allow_unauthenticated
    def get(self) -> None:
        """Never reached."""

    head = post = put = patch = delete = options = get


class Listener:
    """Listens from `open` to `close`."""

    def __init__(self, rules: list[Any]) -> None:
        application = web.Application(
            rules, default_handler_class=NowhereHandler, log_function=log_answer, serve_traceback=False
        )
        self._server = HTTPServer(
            application,
            chunk_size=READ_BYTES,
            max_header_size=MAX_HEADER_BYTES,
            idle_connection_timeout=IDLE_S,
            body_timeout=BODY_S,
            xheaders=False,
        )
        self.port = 0

    def open(self, ip: str, port: int) -> None:
        """Begins to listen, at all addresses that the name has.

        Raises:
            OSError: the port is taken, or the address is not one of this machine.
        """
        sockets = bind_sockets(port, ip or None, family=socket.AF_UNSPEC)
        self._server.add_sockets(sockets)
        self.port = sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Ends it, with the connections that are open."""
        self._server.stop()
        await self._server.close_all_connections()


def log_answer(handler: web.RequestHandler) -> None:
    """One line, without the query: a presigned URL in a log would be a key in a log."""
    request = handler.request
    line = "%d %s %s (%s) %.0f ms"
    told = (handler.get_status(), request.method, request.path, request.remote_ip, 1000 * request.request_time())
    if handler.get_status() >= 500:
        _log.error(line, *told)
    else:
        _log.debug(line, *told)
