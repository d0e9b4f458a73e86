"""A list of providers asks all of them side by side, and waits for none for long: one that hangs is told as that."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from simpletuner_lab.core.provider import Provider
from simpletuner_lab.services.provider_views import ProviderView, provider_view, unusable_view

LIST_S: Final = 10.0
"""So long a list waits for its providers, all together."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Look:
    """One question to one provider, asked in a thread of its own."""

    provider: Provider
    done: threading.Event = field(default_factory=threading.Event)
    view: ProviderView | None = None

    def ask(self) -> None:
        provider = self.provider
        try:
            self.view = provider_view(provider)
        except Exception as error:  # noqa: BLE001 - a stranger's code; it must not take the others down
            _log.warning("provider %s cannot be shown", provider.id, exc_info=True)
            self.view = _unusable(provider, str(error) or type(error).__name__)
        finally:
            self.done.set()


class ProviderLooks:
    """Asks. Of a provider that has not answered a question no other one is asked: its answer is waited for again."""

    def __init__(self, limit_s: float = LIST_S) -> None:
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._asked: dict[str, _Look] = {}

    def views(self, providers: Iterable[Provider]) -> list[ProviderView]:
        """Each as it is now, in this order, within the limit."""
        until = time.monotonic() + self._limit_s
        looks = [self._look(provider) for provider in providers]
        return [self._seen(look, until) for look in looks]

    def _look(self, provider: Provider) -> _Look:
        with self._lock:
            known = self._asked.get(provider.id)
            if known is not None and known.provider is provider and not known.done.is_set():
                return known
            look = self._asked[provider.id] = _Look(provider)
        threading.Thread(
            target=look.ask, name=f"look-{provider.id}", daemon=True
        ).start()  # no end of ours waits for it
        return look

    def _seen(self, look: _Look, until: float) -> ProviderView:
        look.done.wait(max(0.0, until - time.monotonic()))
        if look.view is not None:
            return look.view
        provider = look.provider
        view = _unusable(provider, f"{provider.label} does not answer within {self._limit_s:g} s")
        return dataclasses.replace(view, hint="ask again later")


def _unusable(provider: Provider, reason: str) -> ProviderView:
    known = provider.capabilities
    view = unusable_view(provider.id, provider.label, reason=reason)
    return dataclasses.replace(view, remote=known.remote, status_page=known.status_page)
