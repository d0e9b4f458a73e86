"""From worker threads to the event loop: wakes those who wait for news of a job, holding no thread meanwhile."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from simpletuner_lab.core.event import Event
from simpletuner_lab.core.job import Job


class Bus:
    """News of jobs on one event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def publish(self, job: Job, _events: Sequence[Event]) -> None:
        """A listener for `services.recorder`: may be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, job.id)

    async def news(self, job_id: str, timeout_s: float) -> None:
        """Returns at the next record of this job, or after the time-out: another process may have written it."""
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting[job_id].add(future)
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            pass
        finally:
            self._waiting[job_id].discard(future)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def _wake(self, job_id: str) -> None:
        for future in self._waiting.get(job_id, ()):
            if not future.done():
                future.set_result(None)
