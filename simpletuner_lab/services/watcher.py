"""Advances every active job, in one process at a time (DESIGN §1: a lease row lets one watcher run)."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from simpletuner_lab.core.destination import Push
from simpletuner_lab.core.errors import DiskFull, JobNotFound, LabError, OutputNotFound, StaleRecord, StoreUnusable
from simpletuner_lab.core.event import Event, EventKind
from simpletuner_lab.core.job import Job
from simpletuner_lab.services.courier import Courier
from simpletuner_lab.services.job_queue import JobQueue
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.runner import Runner
from simpletuner_lab.services.store import Store

_LEASE: Final = "watcher"
_LEASE_S: Final = 10.0
_IDLE_S: Final = 2.0
"""Look for work this often when nothing nudges: another process may have stored some."""

_REMEMBERED: Final = 100
"""Ends of jobs, where nobody watches."""

_WORKERS: Final = 4
_CARRIERS: Final = 4
"""Threads of their own for pushes: a large upload holds up no job."""

_log = logging.getLogger(__name__)


class Watcher:
    """A thread that hands jobs to the runner; each job is in one worker at a time, and a slow one holds up no other."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        runner: Runner,
        courier: Courier,
        queue: JobQueue,
        *,
        holder: str,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._registry = registry
        self._runner = runner
        self._courier = courier
        self._queue = queue
        self._holder = holder
        self._clock = clock
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._busy: dict[str, Future[None]] = {}
        self._due: dict[str, float] = {}
        self._kept: set[str] = set()
        """Jobs that wait for a slot and need nothing until they have one."""
        self._keeping: Future[None] | None = None
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)
        """Jobs that have ended since the last pass: their money may be another's."""
        self._thread = threading.Thread(target=self._run, name="simpletuner-watcher", daemon=True)
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="simpletuner-job")
        self._carriers = ThreadPoolExecutor(_CARRIERS, thread_name_prefix="simpletuner-push")

    def start(self) -> None:
        """Begins watching."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the steps under way; runs go on without us. Safe to call twice."""
        self._stopping.set()
        self._courier.close()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._workers.shutdown(wait=True)
        self._carriers.shutdown(wait=True, cancel_futures=True)
        with contextlib.suppress(StoreUnusable, DiskFull):  # it runs out by itself
            self._store.leases.release(_LEASE, self._holder)

    def nudge(self, job_id: str | None = None) -> None:
        """Look now; a job that is named is due at once (a webhook, a cancel, a submit)."""
        if job_id is not None:
            self._due.pop(job_id, None)
        self._wake.set()

    def nudge_blocked(self) -> None:
        """Jobs that wait for money look now whether there is some: a limit was changed, some is free again, a user asks."""
        for job_id in self._queue.hasten():
            self._due.pop(job_id, None)
        self._wake.set()

    def heard(self, job: Job, events: Sequence[Event]) -> None:
        """Listens to the recorder: what was set aside for a job that has ended, those may have that wait for money."""
        if job.terminal and any(event.kind is EventKind.STATE for event in events):
            self._ended.append(job.id)
            self._wake.set()

    def _hand_on(self) -> None:
        """Has jobs that wait for money ask once where jobs have ended that could cost some; nobody asks for one that was free."""
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        if any(self._store.spending.run_usd(job_id) != 0 for job_id in ended):
            self.nudge_blocked()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            wait = self._guarded_pass()
            self._wake.wait(wait)

    def _guarded_pass(self) -> float:
        try:
            return self._pass()
        except LabError as error:  # a full disk, a database that is away: it says itself what to do
            _log.error("the watcher could not look for work: %s (%s)", error.message, error.hint)
            return _IDLE_S
        except Exception:  # noqa: BLE001 - the loop outlives any fault of one pass; it is logged and tried again
            _log.exception("the watcher could not look for work")
            return _IDLE_S

    def _pass(self) -> float:
        """One look at all work; returns seconds until the next."""
        self._hand_on()  # also where another process watches: it sees by the store who is to ask
        now = self._clock()
        if not self._store.leases.acquire(_LEASE, self._holder, ttl_s=_LEASE_S, now=now):
            return _IDLE_S
        self._queue.process()
        unsettled = self._store.jobs.unsettled()
        jobs = tuple(job for job in unsettled if not job.waits_for_slot)
        self._busy = {job_id: step for job_id, step in self._busy.items() if not step.done()}
        for job in jobs:
            if job.id not in self._busy and self._is_due(job, now):
                self._due.pop(job.id, None)
                self._busy[job.id] = self._workers.submit(self._advance, job)
        self._keep(tuple(job for job in unsettled if job.waits_for_slot), now)
        pushes = self._courier.due()
        for push in pushes:
            if push.id not in self._busy and self._due.get(push.id, 0.0) <= now:
                self._busy[push.id] = self._carriers.submit(self._carry, push)
        alive = {job.id for job in unsettled} | {push.id for push in pushes}
        self._due = {job_id: due for job_id, due in self._due.items() if job_id in alive}
        soonest = min((due for due in self._due.values()), default=now + _IDLE_S)
        return max(0.02, min(_IDLE_S, soonest - now))

    def _is_due(self, job: Job, now: float) -> bool:
        """One that waits for money goes by the store too: another process may have hastened it there."""
        due = self._due.get(job.id, 0.0)
        return (min(due, job.retry_at or 0.0) if job.waits_for_money else due) <= now

    def _keep(self, waiting: Sequence[Job], now: float) -> None:
        """One job that waits is packed at a time: the other workers are there for those under way."""
        self._kept.intersection_update(job.id for job in waiting)
        if self._keeping is not None and not self._keeping.done():
            return
        for job in waiting:
            if job.id not in self._busy and job.id not in self._kept and self._due.get(job.id, 0.0) <= now:
                self._keeping = self._busy[job.id] = self._workers.submit(self._advance, job)
                self._keeping.add_done_callback(lambda _: self._wake.set())  # the next one's turn
                return

    def _advance(self, job: Job) -> None:
        try:
            after = self._runner.advance(job)
        except (StaleRecord, JobNotFound):
            self._wake.set()  # somebody else wrote or deleted it: look again
            return
        except Exception:  # noqa: BLE001 - one job's fault must not stop the others; it is logged with its id
            _log.exception("job %s could not be advanced", job.id)
            self._due[job.id] = self._clock() + _IDLE_S
            return
        if after.waits_for_slot:
            self._kept.add(after.id)
            self._wake.set()
            return
        now = self._clock()
        due = after.retry_at or now
        looked = bool(job.run.ref)  # a run that was started just now is looked at just now: it says why it waits
        if not after.terminal and (looked or after.version == job.version):
            due = max(due, now + self._pause(after))
        if due > now:
            self._due[job.id] = due
        self._wake.set()

    def _carry(self, push: Push) -> None:
        try:
            after = self._courier.carry(push)
        except (StaleRecord, JobNotFound, OutputNotFound):
            self._wake.set()  # somebody else wrote or deleted its job: look again
            return
        except Exception:  # noqa: BLE001 - one push's fault must not stop the others; it is logged with its job
            _log.exception("the model of job %s could not be pushed", push.job_id)
            after = push
        self._due[push.id] = max(after.retry_at or 0.0, self._clock() + _IDLE_S)
        self._wake.set()

    def _pause(self, job: Job) -> float:
        """Seconds between two looks at a run."""
        known = job.provider in self._registry
        return self._registry.get(job.provider).capabilities.poll_s if known else _IDLE_S
