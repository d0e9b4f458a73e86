"""What Replicate's status page says is wrong: one more reason for which a run may wait. It never stands in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from simpletuner_lab.providers._replicate_settings import STATUS_PAGE

_FRESH_S: Final = 60.0
_TIMEOUT_S: Final = 2.0
_OVER: Final = frozenset({"resolved", "postmortem", "completed"})


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
        self._known: tuple[float, str] | None = None

    def incident(self) -> str:
        """The name of what is going on; empty where nothing is, or that cannot be told."""
        if not self._url:
            return ""
        with self._lock:
            if self._known is None or not 0 <= self._now() - self._known[0] <= _FRESH_S:
                self._known = (self._now(), self._ask())
            return self._known[1]

    def waiting(self) -> str:
        """Why a run has not begun, as far as that is known."""
        incident = self.incident()
        said = f"; Replicate's status page says: {incident} ({STATUS_PAGE})" if incident else ""
        return f"Replicate has not begun it: it waits for a machine, or the model is being set up{said}"

    def _ask(self) -> str:
        import httpx

        try:
            with httpx.Client(proxy=self._proxy or None, timeout=_TIMEOUT_S) as client:
                told = client.get(self._url).raise_for_status().json()
        except (httpx.HTTPError, ValueError, OSError):
            return ""
        return next(_incidents(told), "")


def _incidents(told: Any) -> Iterator[str]:
    """Of either form that such pages have, the first that is not over."""
    summary: Mapping[str, Any] = told if isinstance(told, dict) else {}
    for key in ("ongoing_incidents", "incidents"):
        listed = summary.get(key)
        for one in listed if isinstance(listed, list) else ():
            if isinstance(one, dict) and isinstance(one.get("name"), str) and one.get("status") not in _OVER:
                yield one["name"][:200]
