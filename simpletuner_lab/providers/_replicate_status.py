"""What Replicate's status page says is wrong: one more reason for which a run may wait. It never stands in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from simpletuner_lab.core.provider import ServiceStatus
from simpletuner_lab.providers._replicate_settings import STATUS_PAGE

_FRESH_S: Final = 60.0
_TIMEOUT_S: Final = 2.0
_OVER: Final = frozenset({"resolved", "postmortem", "completed"})
_BEGUN: Final = frozenset({"in_progress", "verifying", "maintenance_in_progress"})


class StatusPage:
    """Asks without a token, and once a minute at most.

    Args:
        url: of its summary in JSON; empty: it is not asked.
        proxy: through which; empty: the environment's, if any.
        now: the time.
    """

    def __init__(self, url: str, proxy: str, now: Callable[[], float]) -> None:
        self._url = url
        self._proxy = proxy
        self._now = now
        self._lock = threading.Lock()
        self._known: tuple[float, ServiceStatus] | None = None

    def status(self) -> ServiceStatus:
        """What is going on there."""
        if not self._url:
            return ServiceStatus(error="no status page is asked: see the setting status_url")
        with self._lock:
            if self._known is None or not 0 <= self._now() - self._known[0] <= _FRESH_S:
                self._known = (self._now(), self._ask())
            return self._known[1]

    def waiting(self) -> str:
        """Why a run has not begun, as far as that is known."""
        incident = next(iter(self.status().ongoing_incidents), "")
        said = f"; Replicate's status page says: {incident} ({STATUS_PAGE})" if incident else ""
        return f"Replicate has not begun it: it waits for a machine, or the model is being set up{said}"

    def _ask(self) -> ServiceStatus:
        import httpx

        try:
            with httpx.Client(proxy=self._proxy or None, timeout=_TIMEOUT_S) as client:
                told = client.get(self._url).raise_for_status().json()
        except (httpx.HTTPError, ValueError, OSError) as error:
            why = f"the status page did not answer: {error or type(error).__name__}"
            return ServiceStatus(status_page_url=STATUS_PAGE, error=why)
        if not isinstance(told, dict):
            return ServiceStatus(status_page_url=STATUS_PAGE, error="the status page answered with something else")
        return _read(told)


def _read(told: Mapping[str, Any]) -> ServiceStatus:
    """Of either form that such pages have: a list for each kind, or the state of each entry."""
    entries = list(_entries(told, "scheduled_maintenances"))
    begun = {name for name, state in entries if state in _BEGUN}
    now = [*_entries(told, "in_progress_maintenances"), *((name, "") for name in begun)]
    incidents = tuple(name for key in ("ongoing_incidents", "incidents") for name, _ in _entries(told, key))
    maintenances = tuple(dict.fromkeys(name for name, _ in now))
    return ServiceStatus(
        operational=not incidents and not maintenances,
        ongoing_incidents=incidents,
        in_progress_maintenances=maintenances,
        scheduled_maintenances=tuple(name for name, _ in entries if name not in begun),
        status_page_url=STATUS_PAGE,
    )


def _entries(told: Mapping[str, Any], key: str) -> Iterator[tuple[str, object]]:
    """Name and state of those that are not over."""
    listed = told.get(key)
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and isinstance(one.get("name"), str) and one.get("status") not in _OVER:
            yield one["name"][:200], one.get("status")
