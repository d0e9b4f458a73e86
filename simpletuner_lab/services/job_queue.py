"""The queue of one lab: gives free slots away, and tells those that wait where they stand (SPEC J10, X3).

Every process over the store may give slots away; the watcher does at each pass, and at once when it is nudged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Final

from simpletuner_lab.core.canonical import Json
from simpletuner_lab.core.errors import Conflict, JobNotFound, StaleRecord
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.job_queue import Limits, Standing, Turn, forecast, standing
from simpletuner_lab.services.codec import decode, encode
from simpletuner_lab.services.queue_table import turn_of
from simpletuner_lab.services.recorder import Recorder
from simpletuner_lab.services.store import Store

_LIMITS: Final = "concurrency"
_DAY_S: Final = 24 * 3600.0
_FORESEEN: Final = 500
"""Of so many at the head of the queue the wait is estimated."""


class JobQueue:
    """Gives slots away. Safe in several threads and processes."""

    def __init__(self, store: Store, recorder: Recorder, clock: Callable[[], float]) -> None:
        self._store = store
        self._recorder = recorder
        self._clock = clock

    def limits(self) -> Limits:
        """How many jobs may be under way at once; every process over the store has the same."""
        return _limits_of(self._store.settings.get(_LIMITS))

    def set_limits(self, limits: Limits) -> None:
        """Changes that. Jobs under way go on, also where there are more of them now than may be."""
        self.change_limits(lambda _: limits)

    def change_limits(self, change: Callable[[Limits], Limits]) -> None:
        """Sets them from what they are, whoever else does so at the same time; nothing changes where `change` raises."""
        self._store.settings.change(_LIMITS, lambda found: encode(change(_limits_of(found))))

    def process(self) -> tuple[Job, ...]:
        """Gives every free slot away; returns the jobs that have one now."""
        claimed = self._store.queue.claim(self.limits(), now=self._clock())
        for job, event in claimed:
            self._recorder.announce(job, (event,))
        return tuple(job for job, _ in claimed)

    def hasten(self) -> tuple[str, ...]:
        """Has every job that waits for money ask the limits at once, whichever process steps it; returns their ids."""
        blocked = self._store.queue.blocked()
        for job in blocked:
            with contextlib.suppress(JobNotFound, StaleRecord):
                self._recorder.decide(job.id, self._hastened)
        return tuple(job.id for job in blocked)

    def _hastened(self, job: Job) -> Job:
        now = self._clock()
        if not job.waits_for_money or job.retry_at is None or job.retry_at <= now:
            return job
        return self._recorder.note(job, dataclasses.replace(job, retry_at=now), at=now)

    def prioritise(self, job_id: str, priority: int | None, *, entry: str) -> Job:
        """Sets the priority of a job that waits; None: that of its submit counts again.

        Raises:
            JobNotFound: there is no such job.
            Conflict: it does not wait any more.
        """
        return self._recorder.decide(job_id, lambda job: self._prioritised(job, priority, entry))

    def _prioritised(self, job: Job, priority: int | None, entry: str) -> Job:
        if not job.waits_for_slot:
            how = job.state if job.terminal else "waiting for money" if job.waits_for_money else "under way"
            raise Conflict(f"job {job.id} is {how}: it waits for no slot", hint="stcloud queue lists those that do")
        if job.priority_override == priority:
            return job
        now = self._clock()
        after = dataclasses.replace(job, priority_override=priority, updated_at=now)
        was, is_now = job.effective_priority, after.effective_priority
        return self._recorder.note(
            job, after, EventKind.PRIORITISED, at=now, priority=is_now, previous=was, entry=entry
        )

    def standings(self, jobs: Sequence[Job]) -> dict[str, Standing]:
        """Where those of the jobs that wait stand, and why they wait. Asks the store only where one does."""
        waiting = [job for job in jobs if job.waits_for_slot]
        if not waiting:
            return {}
        places = self._store.queue.places([job.id for job in waiting])
        limits, held = self.limits(), self._store.queue.slots()
        return {job.id: standing(places[job.id], held.bar(limits, turn_of(job))) for job in waiting if job.id in places}

    def expected_s(self) -> dict[str, float | None]:
        """Seconds until each waiting job has a slot, by how long runs took so far; None where no run tells it."""
        held, waiting = self._store.queue.held(), self._store.queue.waiting(limit=_FORESEEN)
        runs_s = self._runs_s((*held, *waiting))
        now = self._clock()
        before = [_turn(job, _left_s(job, runs_s[job.id], now)) for job in held]
        found = forecast(self.limits(), before, [_turn(job, runs_s[job.id]) for job in waiting])
        return {job.id: wait_s for job, wait_s in zip(waiting, found, strict=True)}

    def past(self, days: float) -> tuple[str, ...]:
        """Ids of jobs that are done with and ended longer ago than that."""
        return self._store.queue.ended_before(self._clock() - days * _DAY_S)

    def _runs_s(self, jobs: Sequence[Job]) -> dict[str, float | None]:
        """How long the run of each job may take: as those of its class, else as those of its provider."""
        queue = self._store.queue
        classes = queue.run_classes([job.id for job in jobs])
        by_class = {name: _median(queue.past_runs_s(run_class=name)) for name in set(classes.values()) if name}
        providers = {job.provider for job in jobs if by_class.get(classes.get(job.id, "")) is None}
        by_provider = {name: _median(queue.past_runs_s(provider=name)) for name in providers}
        return {
            job.id: found if (found := by_class.get(classes.get(job.id, ""))) is not None else by_provider[job.provider]
            for job in jobs
        }


def _limits_of(stored: Json) -> Limits:
    return Limits() if stored is None else decode(Limits, stored, what="the stored limits")


def _median(seconds: Sequence[float]) -> float | None:
    return statistics.median(seconds) if seconds else None


def _left_s(job: Job, run_s: float | None, now: float) -> float | None:
    """How long a job will keep its slot: as its trainer says, else what its run usually takes."""
    if job.state is JobState.RUNNING and job.progress.eta_s is not None:
        return job.progress.eta_s
    if run_s is None or job.started_at is None:
        return run_s
    return max(0.0, run_s - (now - job.started_at))


def _turn(job: Job, seconds: float | None) -> Turn:
    return dataclasses.replace(turn_of(job), seconds=seconds)
