"""An emulated Hub as a test sees it: what it holds, what was asked, and what is to go wrong."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from simpletuner_lab.testing.hub_repositories import Repositories, Repository


@dataclass(slots=True, kw_only=True)
class Fault:
    """What goes wrong at a route, `times` times. Of the members one is set.

    `status` (with `retry_after_s`): that answer, and nothing is done. `lost`: it is done, and the connection is closed
    without an answer. `cut_after`: the connection is closed after so many bytes of the body, sent or received.
    `held`: the request waits, before anything is done, until `release()`; `reached` is set when one does.
    """

    times: int = 1
    status: int = 0
    retry_after_s: int | None = None
    lost: bool = False
    cut_after: int | None = None
    held: bool = False
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Lets a held request go on."""
        self.released.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request that was answered: the route's name, the method, the path, the status (0: no answer)."""

    route: str
    method: str
    path: str
    status: int


@dataclass(slots=True, kw_only=True)
class HubEmulator:
    """A running emulator."""

    url: str
    holds: Repositories
    part_bytes: int
    routes: tuple[str, ...]
    """Names of all routes."""
    seen: list[Seen] = field(default_factory=list)
    faults: dict[str, deque[Fault]] = field(default_factory=dict)
    """Those to come, by route."""
    set_faults: list[Fault] = field(default_factory=list)
    tickets: set[str] = field(default_factory=set)
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)

    @property
    def repositories(self) -> dict[str, Repository]:
        """By their ids."""
        return self.holds.repositories

    def fail(self, route: str, fault: Fault) -> Fault:
        """Lets something go wrong at a route, after what was asked for before: names as in `routes`."""
        if route not in self.routes:
            raise ValueError(f"there is no route {route!r}: {', '.join(self.routes)}")
        self.faults.setdefault(route, deque()).append(fault)
        self.set_faults.append(fault)
        return fault

    def revoke(self, token: str) -> None:
        """From now on nobody knows this token."""
        self.holds.accounts.pop(token, None)

    def count(self, route: str) -> int:
        """How many requests came to a route."""
        return sum(seen.route == route for seen in self.seen)
