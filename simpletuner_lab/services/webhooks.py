"""What providers call back with. A webhook is a nudge (SPEC W2): verified, it makes the watcher look at one job now.

It carries nothing that is believed, so a forged, late, double or missing one changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simpletuner_lab.core.errors import NotFound
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store


class Webhooks:
    """Takes webhooks in. `nudge` is told the id of the job to look at."""

    def __init__(self, store: Store, registry: Registry, nudge: Callable[[str], None]) -> None:
        self._store = store
        self._registry = registry
        self._nudge = nudge

    def receive(self, provider_id: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Has the provider verify a webhook, and nudges the job whose run it speaks of; False where there is none.

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
        meant = [job.id for job in self._store.jobs.unsettled() if (job.provider, job.run.ref) == (provider_id, ref)]
        for job_id in meant:
            self._nudge(job_id)
        return bool(meant)
