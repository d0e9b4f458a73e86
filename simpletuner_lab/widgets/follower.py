"""One thread that looks after the widgets of a kernel, for as long as one of them has something to follow."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from simpletuner_lab.core.errors import LabError
from simpletuner_lab.core.job import ALL_JOBS, JobFilter
from simpletuner_lab.services.money_views import SpendView
from simpletuner_lab.services.views import JobPage, JobView, MetricsView

if TYPE_CHECKING:
    from simpletuner_lab.client import Client

_AFTER_TROUBLE_S: Final = 1.0
_RECENT: Final = 20
_CURVE_POINTS: Final = 400

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Asking(Protocol):
    """What the follower needs of a line."""

    def ask(self, question: Callable[[Client], T]) -> T:
        """Asks a client."""


class Watched(Protocol):
    """Something that has to be looked after."""

    def look(self, glance: Glance) -> float | None:
        """Looks once. Returns the seconds until the next look; None: nothing is left to follow."""

    def complain(self, error: LabError | None) -> None:
        """Takes note that a look failed; None: the last one did not."""


@dataclass(frozen=True, slots=True)
class Glance:
    """One round of looks: widgets with the same question share the answer."""

    _line: Asking
    _answers: dict[tuple[str, str], Any] = field(default_factory=dict)

    def job(self, job_id: str) -> JobView:
        """One job."""
        return self._once("job", job_id, lambda client: client.job(job_id))

    def by_key(self, key: str) -> JobView | None:
        """The job that was submitted under a key."""
        page = self._once("key", key, lambda client: client.jobs(JobFilter(key=key), limit=1))
        return page.jobs[0] if page.jobs else None

    def recent(self) -> JobPage:
        """The jobs that changed last."""
        return self._once("recent", "", lambda client: client.jobs(ALL_JOBS, sort="-updated_at", limit=_RECENT))

    def spend(self) -> SpendView:
        """What was spent lately."""
        return self._once("spend", "", lambda client: client.money.spend())

    def curve(self, job_id: str) -> MetricsView:
        """A job's curve, thinned."""
        return self._once("curve", job_id, lambda client: client.metrics(job_id, points=_CURVE_POINTS))

    def settle(self, job_id: str) -> None:
        """One more look at a job that has ended: without a server, that is what clears up after it."""
        self._line.ask(lambda client: client.job(job_id))

    def _once(self, kind: str, key: str, question: Callable[[Client], T]) -> T:
        if (kind, key) not in self._answers:
            self._answers[kind, key] = self._line.ask(question)
        answer: T = self._answers[kind, key]
        return answer


class Follower:
    """Looks at each widget when it is due. The thread is a daemon, starts with the first and ends with the last one.

    Widgets are held weakly: one that is gone is followed no more.
    """

    def __init__(self, line: Asking) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._due: dict[int, tuple[weakref.ref[Any], float]] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, watched: Watched) -> None:
        """Looks at once, and then as often as the looks ask for."""
        with self._lock:
            self._due[id(watched)] = (weakref.ref(watched), 0.0)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="simpletuner-lab-follower", daemon=True)
                self._thread.start()
        self._wake.set()

    def forget(self, watched: Watched) -> None:
        """Follows it no more."""
        with self._lock:
            self._due.pop(id(watched), None)
        self._wake.set()

    def _run(self) -> None:
        while (pause_s := self._round()) is not None:
            self._wake.wait(pause_s)
            self._wake.clear()

    def _round(self) -> float | None:
        """Looks at all that are due. Returns the time until the next is; None: the thread ends."""
        glance = Glance(self._line)
        for watched in self._taken():
            pause_s = self._look(watched, glance)
            self._put_back(watched, pause_s)
        with self._lock:
            self._due = {key: entry for key, entry in self._due.items() if entry[0]() is not None}
            if not self._due:
                self._thread = None
                return None
            return max(0.0, min(at for _, at in self._due.values()) - time.monotonic())

    def _taken(self) -> list[Watched]:
        """Those that are due; each is marked, so that a new `follow` during its look is seen."""
        now, found = time.monotonic(), []
        with self._lock:
            for key, (reference, at) in self._due.items():
                watched = reference()
                if watched is not None and at <= now:
                    self._due[key] = (reference, float("inf"))
                    found.append(watched)
        return found

    def _put_back(self, watched: Watched, pause_s: float | None) -> None:
        with self._lock:
            entry = self._due.get(id(watched))
            if entry is None or entry[1] != float("inf"):
                return  # forgotten, or asked for anew, while it was looked at
            if pause_s is None:
                del self._due[id(watched)]
            else:
                self._due[id(watched)] = (entry[0], time.monotonic() + pause_s)

    def _look(self, watched: Watched, glance: Glance) -> float | None:
        try:
            pause_s = watched.look(glance)
            watched.complain(None)
        except LabError as error:
            watched.complain(error)
            return _AFTER_TROUBLE_S
        except Exception:  # noqa: BLE001 - a user's observer may raise anything; the others are followed on
            _log.exception("a widget could not be brought up to date")
            return _AFTER_TROUBLE_S
        return pause_s
