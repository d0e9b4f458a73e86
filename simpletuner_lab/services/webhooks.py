"""What providers call back with. A webhook is a nudge (SPEC W2): verified, it makes the watcher look at one job now.

It carries nothing that is believed, so a forged, late, double or missing one changes nothing. What is remembered here
is gone with the process, which does no harm: the worst that a replay does is one poll more.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from simpletuner_lab.core.errors import Forbidden, LabError, NotFound
from simpletuner_lab.services.provider_settings import ProviderSettings
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store

WEBHOOKS_PATH: Final = "/api/webhooks"
"""What the URL for webhooks has below the URL of its server; the provider's id follows."""

REMEMBERED_S: Final = 601.0
"""A signature is good from 5 minutes before to 5 minutes after its time, both ends included."""

MOST_REMEMBERED: Final = 4096
_LONGEST_ID: Final = 256
_READ_AGAIN_S: Final = 2.0


class Taken:
    """Ids that were taken before, for `REMEMBERED_S`: the newest of them, at most so many. Threads may share it."""

    def __init__(self, clock: Callable[[], float], most: int = MOST_REMEMBERED) -> None:
        self._clock = clock
        self._most = most
        self._until: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, message_id: str) -> bool:
        with self._lock:
            return self._until.get(message_id, 0.0) > self._clock()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, message_id: str) -> bool:
        """Remembers an id; False where it was known."""
        now = self._clock()
        with self._lock:
            if self._until.get(message_id, 0.0) > now:
                return False
            self._until[message_id] = now + REMEMBERED_S
            self._until.move_to_end(message_id)
            while len(self._until) > self._most:
                self._until.popitem(last=False)
            return True


class AllowedIps:
    """From where each provider's webhooks may come: `webhook_allowed_ips` of its settings, where they have that."""

    def __init__(self, registry: Registry, settings: ProviderSettings, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}

    def of(self, provider_id: str) -> tuple[str, ...]:
        """Addresses and networks; none: from anywhere. A changed file counts within two seconds.

        Raises:
            Forbidden: its settings cannot be read, so nothing is let in.
        """
        if provider_id not in self._registry:
            return ()
        until, allowed = self._known.get(provider_id, (0.0, ()))
        now = self._clock()
        if now < until:
            return allowed
        try:
            found = self._settings.read(provider_id, self._registry.get(provider_id).Settings)
        except (LabError, OSError, ValueError) as error:
            raise Forbidden("no webhook is taken: the provider's settings cannot be read") from error
        allowed = tuple(getattr(found, "webhook_allowed_ips", ()))
        self._known[provider_id] = (now + _READ_AGAIN_S, allowed)
        return allowed


class Webhooks:
    """Takes webhooks in. `nudge` is told the id of the job to look at."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        nudge: Callable[[str], None],
        *,
        settings: ProviderSettings,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._registry = registry
        self._nudge = nudge
        self._clock = clock
        self._taken: dict[str, Taken] = {}
        self.allowed_ips = AllowedIps(registry, settings, clock)

    def receive(self, provider_id: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Has the provider verify a webhook, and nudges the job whose run it speaks of; False where there is none.

        One whose `webhook-id` was taken before is taken again and nudges nothing: it is a retry, or a replay.

        Args:
            provider_id: whose it claims to be.
            headers: names in lower case.
            body: the raw bytes.

        Raises:
            NotFound: no such provider is in use here, or it has no webhooks.
            Forbidden: the signature is not right, or too old.
            LabError: the provider cannot verify it now.
        """
        if provider_id not in self._registry:
            raise NotFound("no provider of this name takes webhooks here")
        ref = self._registry.get(provider_id).webhook(headers, body)
        if ref is None:
            raise NotFound("no provider of this name takes webhooks here")
        taken = self._taken.setdefault(provider_id, Taken(self._clock))
        message_id = headers.get("webhook-id", "")
        if message_id in taken:
            return False
        meant = self._store.jobs.of_run(provider_id, ref)
        for job_id in meant:
            self._nudge(job_id)
        if 0 < len(message_id) <= _LONGEST_ID:
            taken.add(message_id)
        return bool(meant)
