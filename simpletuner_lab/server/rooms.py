"""What handlers reach through the application's settings: the lab once it is open, and the named executors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from simpletuner_lab.core.errors import LabError, ProviderUnavailable
from simpletuner_lab.core.redact import Redactor
from simpletuner_lab.server.announcer import Announcer
from simpletuner_lab.server.trials import Trials
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.known import KnownSecrets

if TYPE_CHECKING:  # it brings the store, which loads after the port listens
    from simpletuner_lab.services.front import Front

P = ParamSpec("P")
R = TypeVar("R")

SETTING: Final = "simpletuner_lab"
"""Key of the rooms in tornado's application settings."""


@dataclass(slots=True)
class Executors:
    """Threads by what they wait for, so that an upload starves no status page (DESIGN §1)."""

    db: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, "simpletuner-db"))
    disk: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8, "simpletuner-disk"))
    net: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, "simpletuner-net"))
    hooks: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "simpletuner-hooks"))

    def close(self) -> None:
        """Lets running work end, drops the rest."""
        for executor in (self.db, self.disk, self.net, self.hooks):
            executor.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How one part of the server is, as `/health` tells it: `healthy`, `off` or `unhealthy`."""

    name: str
    status: str
    message: str = ""


class Rooms:
    """The open lab, or the reason why there is none. Requests that come before the store is open wait for it."""

    def __init__(self, version: str, home: Home, announcer: Announcer) -> None:
        self.version = version
        self.home = home
        self.announcer = announcer
        self.executors = Executors()
        self.trials = Trials()
        self.listener = Part(name="public listener", status="off")
        self.listener_host = ""
        """Where a program on this machine reaches the second listener."""
        self.redactor: Callable[[], Redactor] = KnownSecrets(home.secrets, os.environ).redactor
        """Takes the secrets of this lab out of what is logged and answered; it needs no open store."""
        self._front: Future[Front] = Future()

    def opened(self, front: Front) -> None:
        """The lab is open: everything that waits goes on."""
        self.redactor = front.lab.known.redactor
        self._unsettled().set_result(front)

    def failed(self, error: LabError) -> None:
        """The lab cannot be opened now: every request is told why, until it can."""
        self._unsettled().set_exception(error)

    def _unsettled(self) -> Future[Front]:
        if self._front.done():
            self._front = Future()
        return self._front

    @property
    def problem(self) -> str:
        """Why there is no lab; empty while it opens and once it is open."""
        error = self._front.exception() if self._front.done() else None
        return str(error) if error else ""

    @property
    def ready(self) -> bool:
        """Whether the lab is open."""
        return self._front.done() and self._front.exception() is None

    def wait(self, timeout_s: float = 30.0) -> Front:
        """The lab's verbs, for a thread that may wait until it is open.

        Raises:
            LabError: why it could not be opened, or that it takes too long.
        """
        try:
            return self._front.result(timeout_s)
        except TimeoutError as error:
            raise ProviderUnavailable("the lab is still opening", hint="try again in a moment") from error

    async def front(self) -> Front:
        """The lab's verbs.

        Raises:
            LabError: why it could not be opened.
        """
        return await asyncio.shield(asyncio.wrap_future(self._front))

    async def run(self, executor: ThreadPoolExecutor, verb: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls a synchronous verb in one of the executors."""
        return await asyncio.get_running_loop().run_in_executor(executor, lambda: verb(*args, **kwargs))
