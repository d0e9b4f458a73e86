"""One port, several processes: Python answers requests on one core, and a machine that only serves has more.

The port is bound once for each process before the first is started, so the kernel shares the connections out among
them, and those of a process that was killed wait for its successor. Processes of a parent that was killed end.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn

from tornado.netutil import bind_sockets

_log: Final = logging.getLogger(__name__)
MOST: Final = 4
_AT_ONCE_S: Final = 1.0
"""A process that lives no longer than this would fail again: all end, and its exit code is ours."""

ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a server in order: Ctrl-C, `kill`, a terminal that is closed."""


Serve = Callable[[Sequence[socket.socket], int], None]
"""Serves sockets that listen already until the descriptor, the parent's end of a pipe, has news, or a signal comes."""


def usual_number() -> int:
    """How many processes make sense here. Only Linux shares connections out among sockets of one port."""
    return min(MOST, len(os.sched_getaffinity(0))) if sys.platform == "linux" else 1


def bind(host: str, port: int, count: int) -> list[list[socket.socket]]:
    """The sockets of each process, all of one port; port 0 is any that is free.

    It is bound for one alone first: a port that others hold would else be shared with them.

    Raises:
        OSError: the port is taken, the address is not ours.
    """
    alone = bind_sockets(port, host or None, family=socket.AF_UNSPEC)
    if count == 1:
        return [alone]
    port = int(alone[0].getsockname()[1])
    _close(alone)
    bound: list[list[socket.socket]] = []
    try:
        bound.extend(bind_sockets(port, host or None, family=socket.AF_UNSPEC, reuse_port=True) for _ in range(count))
    except OSError:
        for sockets in bound:
            _close(sockets)
        raise
    return bound


def run(bound: Sequence[Sequence[socket.socket]], serve: Serve) -> int:
    """Runs one process for each group of sockets until one of `ENDS`; one that dies is replaced. The exit code.

    Call it before any thread is started.
    """
    crew = _Crew(serve)
    for number in ENDS:
        signal.signal(number, crew.end)
    for sockets in bound:
        crew.start(sockets)
    while crew.living:
        child, status = os.wait()
        sockets, since_s = crew.living.pop(child)
        if crew.ending:
            continue
        if time.monotonic() - since_s < _AT_ONCE_S:
            _log.error("a process ended as soon as it was started (status %s): all end", status)
            crew.end()
            crew.wait()
            return os.waitstatus_to_exitcode(status) or 1
        crew.start(sockets)
    return 0


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()


class _Crew:
    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._ears, self._mouth = os.pipe()
        self.living: dict[int, tuple[Sequence[socket.socket], float]] = {}
        self.ending = False

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Forks; a signal that comes meanwhile waits until it is clear whose it is."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
        child = os.fork()
        if not child:
            self._work(sockets)
        self.living[child] = sockets, time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)

    def end(self, *_: object) -> None:
        """Asks all to end; a handler of signals too."""
        self.ending = True
        for child in tuple(self.living):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    def wait(self) -> None:
        """Until all have ended."""
        while self.living:
            self.living.pop(os.wait()[0])

    def _work(self, sockets: Sequence[socket.socket]) -> NoReturn:
        code = 1
        try:
            os.close(self._mouth)
            for number in ENDS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
            self._serve(sockets, self._ears)
            code = 0
        except BaseException:  # noqa: BLE001 - it is told, and this process ends
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
