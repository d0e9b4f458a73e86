"""Sending a file from the kernel to the socket, past Python's memory, where the connection is neither TLS nor a proxy's.

Tornado has no such call. The headers go out through it; then, while it has nothing to write, the bytes are sent on a
second descriptor of its socket, and it is told how many those were. That one number is not part of its interface: where
it is not found as expected, nothing is sent this way.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
from concurrent.futures import Executor
from functools import partial
from typing import Any, Final

from tornado.iostream import IOStream, StreamClosedError

from simpletuner_lab.server.storage.errors import S3Error

LEAST_BYTES: Final = 1 << 18
"""Below this a read and a write are as quick."""

_TURN_BYTES: Final = 64 << 20
_PATIENCE_MS: Final = 2
"""So long a thread waits for a full socket: one that is read as fast as memory is ready sooner than a thread changes."""

_LEFT: Final = "_expected_content_remaining"


def is_plain(connection: Any) -> bool:
    """Whether files may go out over this connection of tornado's in this way."""
    stream = getattr(connection, "stream", None)
    return sys.platform == "linux" and type(stream) is IOStream and hasattr(connection, _LEFT)


async def send(connection: Any, disk: Executor, descriptor: int, offset: int, size: int) -> None:
    """Sends bytes of a file as the body of an answer whose headers are out, with this Content-Length.

    Raises:
        S3Error: the file was cut short meanwhile.
        StreamClosedError: the client is gone.
    """
    if getattr(connection, _LEFT) != size:
        raise S3Error("InternalError", "the length that was announced is another")
    stream = connection.stream
    loop = asyncio.get_running_loop()
    turn = partial(_send_some, descriptor)
    socket, turning = os.dup(stream.socket.fileno()), None
    try:
        end = offset + size
        while offset < end:
            turning = loop.run_in_executor(disk, turn, socket, offset, end)
            sent, full = await asyncio.shield(turning)
            offset += sent
            if stream.closed():
                raise StreamClosedError
            if full:
                await _writable(loop, socket)
    except (ConnectionError, TimeoutError) as error:
        raise StreamClosedError(error) from error
    finally:
        if turning is not None:
            await asyncio.wait({turning})  # a thread that still sends must not meet another file by these numbers
        os.close(socket)
    setattr(connection, _LEFT, 0)


def _send_some(descriptor: int, socket: int, offset: int, end: int) -> tuple[int, bool]:
    """Sends until the socket stays full, or for one turn; how much that was, and whether the socket was full."""
    sent, room = 0, select.poll()
    room.register(socket, select.POLLOUT)
    while sent < _TURN_BYTES and offset + sent < end:
        try:
            count = os.sendfile(socket, descriptor, offset + sent, min(end - offset - sent, _TURN_BYTES))
        except BlockingIOError:
            if room.poll(_PATIENCE_MS):
                continue
            return sent, True
        if not count:
            raise S3Error("InternalError", "the file was cut short while it was read")
        sent += count
    return sent, False


async def _writable(loop: asyncio.AbstractEventLoop, socket: int) -> None:
    """Until the socket takes more, or fails."""
    ready = loop.create_future()
    loop.add_writer(socket, _done, ready)
    try:
        await ready
    finally:
        loop.remove_writer(socket)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
