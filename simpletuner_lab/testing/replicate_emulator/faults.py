"""What is to go wrong, where, and how often."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from simpletuner_lab.testing.replicate_emulator.records import Shape

WEBHOOK: Final = "webhook"
"""The name of the way out, among those of the routes."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """What goes wrong at a route, `times` times.

    Instead of an answer, and nothing is done: `status` (a 429 has `ratelimit-*` headers unless `ratelimit` is off, and
    `Retry-After` if `retry_after_s` is set), with a page of HTML if `html` is set; `held`: the request waits until
    `release()`, `reached` is set when one does.
    It is done, and the answer is spoiled: `lost` (the connection is reset), `truncated` (half of the JSON), `html` with
    no status (200 and a page of HTML), `shown_status` (a status that is not the true one, known or not), `logs_tail`
    (only the last so many characters of the log), `shape`.
    """

    times: int = 1
    status: int = 0
    retry_after_s: int | None = None
    ratelimit: bool = True
    html: bool = False
    held: bool = False
    lost: bool = False
    truncated: bool = False
    shown_status: str | None = None
    logs_tail: int | None = None
    shape: Shape | None = None
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Lets a held request go on."""
        self.released.set()


@dataclass(slots=True, kw_only=True)
class WebhookFault:
    """What goes wrong with a webhook, `times` times, if it is one of `words` (none named: any).

    `dropped`: it is never sent. `duplicate`: twice, with one id. `reordered`: after the next one of its prediction.
    `late_s`: so many seconds late. `bad_signature`; `old_timestamp`: signed ten minutes ago. `rotated`: signed with a
    new secret, which the API gives from then on.
    """

    times: int = 1
    words: tuple[str, ...] = ()
    dropped: bool = False
    duplicate: bool = False
    reordered: bool = False
    late_s: float = 0.0
    bad_signature: bool = False
    old_timestamp: bool = False
    rotated: bool = False


class Faults:
    """Those to come, by route; each waits for those that were asked for before it."""

    def __init__(self, routes: tuple[str, ...]) -> None:
        self.routes = routes
        self._answers: dict[str, deque[Fault]] = {}
        self._webhooks: deque[WebhookFault] = deque()
        self._given: list[Fault] = []

    def add(self, route: str, fault: Fault | WebhookFault) -> None:
        """Lets something go wrong at a route.

        Raises:
            ValueError: there is no such route, or nothing of the kind goes wrong there.
        """
        if isinstance(fault, WebhookFault):
            if route != WEBHOOK:
                raise ValueError(f"a webhook's fault is one of {WEBHOOK!r}, not of {route!r}")
            self._webhooks.append(fault)
            return
        if route not in self.routes:
            raise ValueError(f"there is no route {route!r}: {', '.join(self.routes)}")
        self._answers.setdefault(route, deque()).append(fault)
        self._given.append(fault)

    def take(self, route: str) -> Fault | None:
        """What goes wrong with the request that has just come."""
        waiting = self._answers.get(route)
        if not waiting:
            return None
        fault = waiting[0]
        fault.times -= 1
        if fault.times <= 0:
            waiting.popleft()
        return fault

    def take_webhook(self, word: str) -> WebhookFault:
        """What goes wrong with the webhook that is about to be sent; nothing, mostly."""
        for fault in self._webhooks:
            if not fault.words or word in fault.words:
                fault.times -= 1
                if fault.times <= 0:
                    self._webhooks.remove(fault)
                return fault
        return WebhookFault()

    def clear(self) -> None:
        """Nothing goes wrong any more, and no request is held."""
        self._answers.clear()
        self._webhooks.clear()
        for fault in self._given:
            fault.release()


def fault_of(route: str, members: Mapping[str, Any]) -> Fault | WebhookFault:
    """A fault from its members, as JSON has them.

    Raises:
        ValueError: it has a member that there is not.
    """
    made: type[Fault | WebhookFault] = WebhookFault if route == WEBHOOK else Fault
    known = {one.name for one in fields(made)} - {"reached", "released"}
    if set(members) - known:
        raise ValueError(f"no fault has {sorted(set(members) - known)}: {', '.join(sorted(known))}")
    given = dict(members)
    if given.get("shape") is not None:
        given["shape"] = Shape(given["shape"])
    return made(**given)
