"""The way from a kernel to its lab: a client that is found again when its server is gone, and threads that ask it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from IPython import get_ipython
from jupyter_core.paths import jupyter_runtime_dir
from traitlets import HasTraits

from simpletuner_lab.client import Client, LabClient, answering, connect
from simpletuner_lab.core.errors import Forbidden, LabError, ServerUnreachable
from simpletuner_lab.servers import find_servers
from simpletuner_lab.services.home import Home
from simpletuner_lab.widgets.follower import Follower

_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 8.0
"""Between two searches for a lost server, doubled each time."""

_PATIENCE_S: Final = 30.0
"""A server that restarts is waited for so long; then the lab goes on in this process."""

_LOST: Final = (ServerUnreachable, Forbidden, LabError)
"""Errors of a server that is gone, or that came back with another token; those two have no class of their own."""

T = TypeVar("T")


class Line(HasTraits):
    """A client that mends itself. One serves every widget of a kernel (see `line_to`); it may be used by any thread."""

    def __init__(self, given: Client | None = None) -> None:
        super().__init__()
        self._given = given
        self._client = given or connect()
        self.lab_id = self._client.lab_id
        self.follower = Follower(self)
        self._mending = threading.Lock()
        self._lost_at: float | None = None
        self._search_at = 0.0
        self._wait_s = _FIRST_WAIT_S
        self._quick = ThreadPoolExecutor(4, "simpletuner-lab-ask")
        self._slow = ThreadPoolExecutor(2, "simpletuner-lab-plan")

    def leads_to(self, client: Client | None) -> bool:
        """Whether it was made for this client; None: for whichever is found."""
        return self._given is client

    def ask(self, question: Callable[[Client], T]) -> T:
        """What the question gives; asked again at once where a lost server was found elsewhere.

        Raises:
            LabError: as the client's verbs do.
        """
        client = self._client
        try:
            answer = question(client)
        except LabError as error:
            lost = isinstance(client, LabClient) and type(error) in _LOST
            if not lost or not self._mend(client):
                raise
            return question(self._client)
        self._lost_at = None
        return answer

    def later(self, question: Callable[[Client], T], *, slow: bool = False) -> Future[T]:
        """`ask` on another thread. Slow questions (a plan reads every image) have threads of their own."""
        return (self._slow if slow else self._quick).submit(self.ask, question)

    def _mend(self, broken: Client) -> bool:
        """Whether there is another client now."""
        with self._mending:
            if self._client is not broken:
                return True
            now = time.monotonic()
            if self._lost_at is None:
                self._lost_at, self._wait_s = now, _FIRST_WAIT_S
            elif now < self._search_at:
                return False
            found = self._found(in_process=now - self._lost_at >= _PATIENCE_S)
            if found is None:
                self._search_at = now + self._wait_s
                self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
                return False
            self._client = found
            self._lost_at = None
            return True

    def _found(self, *, in_process: bool) -> Client | None:
        """A client of the very same lab: of a server, or in this process."""
        home = Home.find(os.environ)
        if home.id != self.lab_id:
            return None  # it lies on another machine
        if in_process:
            return connect()
        return answering(find_servers(os.environ, Path(jupyter_runtime_dir())), home)


def line_to(client: Client | None) -> Line:
    """The kernel's line to a client, else to the lab that is found; kept with the shell, as ipykernel keeps its comms.

    Without a shell, in a script, it is a new one.

    Raises:
        StoreUnusable, ServerUnreachable: there is no lab to be had.
    """
    shell = get_ipython()
    if shell is None:
        return Line(client)
    for kept in shell.configurables:
        if isinstance(kept, Line) and kept.leads_to(client):
            return kept
    made = Line(client)
    shell.configurables.append(made)
    return made
