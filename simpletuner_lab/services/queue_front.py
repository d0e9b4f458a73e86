"""The queue's verbs for front-ends: `client.queue` in every way to the lab, and `/api/queue`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

from simpletuner_lab.core.errors import InvalidRequest, JobActive, JobNotFound, NotFound, StaleRecord
from simpletuner_lab.core.job import TERMINAL, Job, JobFilter, JobState
from simpletuner_lab.core.job_queue import Limits
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.queue_views import (
    BLOCKED,
    CleanedUp,
    Concurrency,
    ConcurrencyChange,
    Dispatched,
    LocalSlots,
    OwnQueue,
    QueueEntry,
    QueuePage,
    QueuePosition,
    QueueStats,
    Reprioritised,
    queue_status,
)
from simpletuner_lab.services.times import iso
from simpletuner_lab.services.views import JobView

MAX_ENTRIES: Final = 200
STATUSES: Final = ("pending", "ready", "running", "completed", "failed", "cancelled", BLOCKED)


class QueueFront:
    """The queue of a lab as front-ends see it. `look` brings the jobs up to date first, where nobody watches them."""

    def __init__(self, lab: Lab, look: Callable[[], None] = lambda: None) -> None:
        self._lab = lab
        self._look = look

    def entries(
        self, *, status: str = "", limit: int = 50, offset: int = 0, include_completed: bool = False
    ) -> QueuePage:
        """Who holds a slot, who waits for money, who waits for a slot, in that order, and, if asked for, who has ended.

        Raises:
            InvalidRequest: there is no such status, or `limit` is not 1 to 200.
        """
        if status and status not in STATUSES:
            raise InvalidRequest(f"status {status!r} is not known", hint=f"one of {', '.join(STATUSES)}")
        if not 1 <= limit <= MAX_ENTRIES or offset < 0:
            raise InvalidRequest(f"limit must be 1 to {MAX_ENTRIES} and offset at least 0")
        self._look()
        counts = self._lab.store.queue.counts()
        jobs = self._stretch(status, limit, offset, ended=include_completed)
        return QueuePage(
            entries=self._seen(jobs),
            total_pending=sum(count.waiting for count in counts),
            total_running=sum(count.held for count in counts),
        )

    def stats(self) -> QueueStats:
        """The queue in numbers."""
        self._look()
        queue, limits = self._lab.store.queue, self._lab.queue.limits()
        counts, waits_s = queue.counts(), queue.waits_s()
        waiting, held = sum(count.waiting for count in counts), sum(count.held for count in counts)
        states = {state: queue.by_state().get(state, 0) for state in JobState}
        by_user: dict[str, int] = {}
        for count in counts:
            by_user[count.owner] = by_user.get(count.owner, 0) + count.waiting + count.held
        running = states[JobState.RUNNING]
        by_status = {"pending": waiting, "ready": held - running, "running": running, BLOCKED: len(queue.blocked())}
        return QueueStats(
            by_status=by_status | {state.value: states[state] for state in sorted(TERMINAL)},
            by_user=by_user,
            queue_depth=waiting,
            running=held,
            avg_wait_seconds=round(sum(waits_s) / len(waits_s), 3) if waits_s else None,
            max_concurrent=limits.total,
            user_max_concurrent=limits.user,
            team_max_concurrent=None,
            enable_fair_share=False,
            local_gpu_max_concurrent=None,
            local_job_max_concurrent=limits.local,
            local=LocalSlots(
                running_jobs=sum(count.held for count in counts if not count.remote),
                pending_jobs=sum(count.waiting for count in counts if not count.remote),
                max_concurrent_jobs=limits.local,
            ),
        )

    def mine(self) -> OwnQueue:
        """The jobs of the user of this lab; of those that wait the first 200."""
        self._look()
        owner, queue = self._lab.owner, self._lab.store.queue
        waiting = self._seen(queue.waiting(owner=owner, limit=MAX_ENTRIES))
        held = self._seen([job for job in queue.held() if job.owner == owner])
        return OwnQueue(
            pending_count=sum(count.waiting for count in queue.counts() if count.owner == owner),
            running_count=len(held),
            blocked_count=sum(job.owner == owner for job in queue.blocked()),
            best_position=waiting[0].position if waiting else None,
            pending_jobs=waiting,
            running_jobs=held,
        )

    def of_user(self, user_id: str) -> OwnQueue:
        """The same by the user's name.

        Raises:
            NotFound: it is not theirs: what others have here is not told, nor whether they are there.
        """
        if user_id != self._lab.owner:
            raise NotFound("no user of this name asks", hint=f"you are {self._lab.owner!r} here")
        return self.mine()

    def position(self, job_id: str) -> QueuePosition:
        """Where one job stands.

        Raises:
            JobNotFound: there is none.
        """
        self._look()
        job = self._lab.store.jobs.get(job_id)
        (entry,) = self._seen((job,))
        return QueuePosition(
            job_id=job.id,
            position=entry.position,
            status=queue_status(job),
            priority=job.effective_priority,
            queued_at=iso(job.created_at),
            estimated_wait_seconds=entry.estimated_wait_seconds,
            waiting=entry.waiting,
        )

    def cancel(self, job_id: str) -> JobView:
        """Ends a job: at once where it waits for a slot, else with its run."""
        return JobView.of(self._lab.cancel(job_id))

    def prioritise(self, job_id: str, priority: int | None, *, entry: str = "python") -> Reprioritised:
        """Sets the priority of a job that waits; None: that of its submit counts again."""
        before = self._lab.store.jobs.get(job_id)
        after = self._lab.queue.prioritise(job_id, priority, entry=entry)
        return Reprioritised(
            job_id=job_id,
            previous_effective_priority=before.effective_priority,
            new_effective_priority=after.effective_priority,
            priority_override=after.priority_override,
        )

    def concurrency(self) -> Concurrency:
        """How many jobs may hold a slot at once."""
        installed = {provider.id: provider.capabilities.remote for provider in self._lab.registry}
        return Concurrency.of(self._lab.queue.limits(), installed)

    def set_concurrency(self, change: ConcurrencyChange) -> Concurrency:
        """Changes that. Jobs under way go on, and free slots are given away at once.

        Raises:
            InvalidRequest: a number is out of its bounds, or it limits what is not there.
            ProviderNotFound: there is no such provider, and none was limited that is gone.
        """

        def changed(before: Limits) -> Limits:
            for name in change.providers.keys() - before.providers.keys():
                self._lab.registry.class_of(name)
            return _changed(before, change)

        self._lab.queue.change_limits(changed)
        self._lab.watcher.nudge()
        return self.concurrency()

    def process(self) -> Dispatched:
        """Gives free slots away now, which happens by itself otherwise; jobs that wait for money ask the limits again."""
        self._look()
        claimed = self._lab.queue.process()
        self._lab.watcher.nudge_blocked()
        return Dispatched(dispatched=len(claimed), job_ids=tuple(job.id for job in claimed))

    def cleanup(self, days: int = 30) -> CleanedUp:
        """Removes jobs that ended longer ago than so many days, as a delete of each would: what they delivered stays.

        Raises:
            InvalidRequest: it is not 1 to 365 days.
        """
        if not 1 <= days <= 365:
            raise InvalidRequest(f"days must be 1 to 365, not {days}")
        deleted = 0
        for job_id in self._lab.queue.past(days):
            with contextlib.suppress(JobActive, JobNotFound, StaleRecord):  # the next cleanup finds it
                self._lab.delete(job_id)
                deleted += 1
        return CleanedUp(deleted=deleted, days=days)

    def _stretch(self, status: str, limit: int, offset: int, *, ended: bool) -> tuple[Job, ...]:
        """The jobs of one page; what holds a slot or waits for money is never much, so it is read whole."""
        queue = self._lab.store.queue
        held = tuple(job for job in (*queue.held(), *queue.blocked()) if status in {"", queue_status(job)})
        found = held[offset : offset + limit]
        offset = max(0, offset - len(held))
        if status in {"", "pending"} and len(found) < limit:
            found += queue.waiting(limit=limit - len(found), offset=offset)
            offset = max(0, offset - sum(count.waiting for count in queue.counts()))
        wanted = frozenset(state for state in TERMINAL if status == state or (not status and ended))
        if wanted and len(found) < limit:
            chosen = JobFilter(states=wanted)
            found += self._lab.store.jobs.page(chosen, limit=limit - len(found), offset=offset).jobs
        return found

    def _seen(self, jobs: Sequence[Job]) -> tuple[QueueEntry, ...]:
        standings = self._lab.queue.standings(jobs)
        waits_s = self._lab.queue.expected_s() if standings else {}
        return tuple(QueueEntry.of(job, standings.get(job.id), waits_s.get(job.id)) for job in jobs)


def _changed(limits: Limits, change: ConcurrencyChange) -> Limits:
    """The limits after a change.

    Raises:
        InvalidRequest: see `QueueFront.set_concurrency`.
    """
    if (
        change.team_max_concurrent is not None
        or change.enable_fair_share
        or change.local_gpu_max_concurrent is not None
    ):
        raise InvalidRequest(
            "there are no teams, no fair share and no numbered graphics cards to limit",
            hint="max_concurrent, user_max_concurrent, local_job_max_concurrent, providers",
        )
    providers = dict(limits.providers) | dict(change.providers)
    return dataclasses.replace(
        limits,
        total=limits.total if change.max_concurrent is None else change.max_concurrent,
        user=limits.user if change.user_max_concurrent is None else change.user_max_concurrent,
        local=limits.local if change.local_job_max_concurrent is None else change.local_job_max_concurrent,
        providers={name: number for name, number in providers.items() if number is not None},
    )
