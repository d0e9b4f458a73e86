"""The queue, through whichever way to the lab: `services.queue_front` has its words on each verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from simpletuner_lab.rest_setup import segment
from simpletuner_lab.services.codec import decode, encode
from simpletuner_lab.services.queue_views import (
    CleanedUp,
    Concurrency,
    ConcurrencyChange,
    Dispatched,
    OwnQueue,
    QueuePage,
    QueuePosition,
    QueueStats,
    Reprioritised,
)
from simpletuner_lab.services.views import JobView


class Queue(Protocol):
    """The verbs."""

    def entries(
        self, *, status: str = "", limit: int = 50, offset: int = 0, include_completed: bool = False
    ) -> QueuePage:
        """Who holds a slot, and who waits for one."""

    def stats(self) -> QueueStats:
        """The queue in numbers."""

    def mine(self) -> OwnQueue:
        """The jobs of the user who asks."""

    def position(self, job_id: str) -> QueuePosition:
        """Where one job stands."""

    def cancel(self, job_id: str) -> JobView:
        """Ends a job."""

    def prioritise(self, job_id: str, priority: int | None, *, entry: str = "python") -> Reprioritised:
        """Sets the priority of a job that waits."""

    def concurrency(self) -> Concurrency:
        """How many jobs may hold a slot at once."""

    def set_concurrency(self, change: ConcurrencyChange) -> Concurrency:
        """Changes that."""

    def process(self) -> Dispatched:
        """Gives free slots away now."""

    def cleanup(self, days: int = 30) -> CleanedUp:
        """Removes jobs that ended long ago."""


class RestQueue:
    """The verbs over REST. `call` takes method, address and body, and gives the answer's members."""

    def __init__(self, call: Callable[..., dict[str, Any]], url: str) -> None:
        self._ask = call
        self._url = url.rstrip("/") + "/api/queue"

    def entries(
        self, *, status: str = "", limit: int = 50, offset: int = 0, include_completed: bool = False
    ) -> QueuePage:
        """Who holds a slot, and who waits for one."""
        query = {"limit": limit, "offset": offset} | ({"status": status} if status else {})
        query |= {"include_completed": "1"} if include_completed else {}
        return decode(QueuePage, self._call("GET", "", params=query), what="answer")

    def stats(self) -> QueueStats:
        """The queue in numbers."""
        return decode(QueueStats, self._call("GET", "/stats"), what="answer")

    def mine(self) -> OwnQueue:
        """The jobs of the user who asks."""
        return decode(OwnQueue, self._call("GET", "/me"), what="answer")

    def position(self, job_id: str) -> QueuePosition:
        """Where one job stands."""
        return decode(QueuePosition, self._call("GET", f"/position/{segment(job_id)}"), what="answer")

    def cancel(self, job_id: str) -> JobView:
        """Ends a job."""
        return decode(JobView, self._call("POST", f"/{segment(job_id)}/cancel")["job"], what="answer.job")

    def prioritise(self, job_id: str, priority: int | None, *, entry: str = "python") -> Reprioritised:
        """Sets the priority of a job that waits."""
        body = {"priority": priority, "entry": entry}
        return decode(Reprioritised, self._call("POST", f"/{segment(job_id)}/priority", json=body), what="answer")

    def concurrency(self) -> Concurrency:
        """How many jobs may hold a slot at once."""
        return decode(Concurrency, self._call("GET", "/concurrency"), what="answer")

    def set_concurrency(self, change: ConcurrencyChange) -> Concurrency:
        """Changes that."""
        return decode(Concurrency, self._call("POST", "/concurrency", json=encode(change)), what="answer")

    def process(self) -> Dispatched:
        """Gives free slots away now."""
        return decode(Dispatched, self._call("POST", "/process"), what="answer")

    def cleanup(self, days: int = 30) -> CleanedUp:
        """Removes jobs that ended long ago."""
        return decode(CleanedUp, self._call("POST", "/cleanup", params={"days": days}), what="answer")

    def _call(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        answer = self._ask(method, self._url + path, **how)
        return {name: value for name, value in answer.items() if name != "success"}
