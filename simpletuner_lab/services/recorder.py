"""The one way a job changes: one transaction with the log file in it, then whoever listens (DESIGN §3)."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Final

from simpletuner_lab.core.destination import Push
from simpletuner_lab.core.diff import Change
from simpletuner_lab.core.errors import StaleRecord
from simpletuner_lab.core.event import Event, EventDraft, EventKind, Scalar
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.ledger import Charge
from simpletuner_lab.core.metric import PointsChange
from simpletuner_lab.core.redact import Redactor
from simpletuner_lab.services.logs import Logs
from simpletuner_lab.services.store import Store

Listener = Callable[[Job, Sequence[Event]], None]
"""Called after a commit, in the thread that made it; must be quick and not raise. A deletion is an event, the last."""

_TRIES: Final = 20
"""A write that keeps losing races against other processes is given up after so many."""


class Recorder:
    """Writes changes and tells listeners."""

    def __init__(self, store: Store, logs: Logs, redactor: Callable[[], Redactor] = Redactor) -> None:
        self._store = store
        self._redactor = redactor
        self._logs = logs
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()

    def record(self, before: Job, change: Change, *, log: bytes = b"", push: Push | None = None) -> Job:
        """Stores the change, and a push that changes with it. What it says for people is stored without secrets.

        Raises:
            StaleRecord: somebody else wrote the job since `before` was read; nothing is stored.
            DiskFull: no room for the log; nothing is stored.
        """
        redactor = self._redactor()
        job, events = self._store.jobs.record(
            before,
            _discreet(change.job, redactor),
            [_told(event, redactor) for event in change.events],
            change.points,
            push=push,
            charges=change.charges,
            alongside=(lambda: self._logs.append(before.id, before.log_bytes, log)) if log else None,
        )
        self.announce(job, events)
        return job

    def note(
        self,
        before: Job,
        after: Job,
        kind: EventKind | None = None,
        *,
        at: float,
        charges: Sequence[Charge] = (),
        **data: Scalar,
    ) -> Job:
        """Stores a change with at most one event of its own, the change of state if there is one, and charges."""
        events = [] if kind is None else [EventDraft(kind=kind, at=at, data=data)]
        if after.state is not before.state:
            events.append(_moved(before, after, at))
        change = Change(job=after, events=tuple(events), points=PointsChange(), charges=tuple(charges))
        return self.record(before, change)

    def decide(self, job_id: str, write: Callable[[Job], Job]) -> Job:
        """Has a change decided and written from the job as it is now, and again where somebody else was faster.

        Raises:
            StaleRecord: others write it all the time.
        """
        for _ in range(_TRIES):
            with contextlib.suppress(StaleRecord):
                return write(self._store.jobs.get(job_id))
        raise StaleRecord(f"job {job_id} is being written by others all the time", hint="try again")

    def delete(self, job: Job, *, at: float) -> None:
        """Removes a job with its log. Whether it may go is the caller's to check.

        Raises:
            JobNotFound: somebody else was first.
        """
        event = self._store.jobs.delete(job.id, at=at)
        self._logs.delete(job.id)
        self.announce(job, (event,))

    def announce(self, job: Job, events: Sequence[Event]) -> None:
        """Tells every listener of a commit."""
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener(job, events)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Adds a listener; the returned function removes it."""
        with self._lock:
            self._listeners.append(listener)

        def stop() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return stop


def _discreet(job: Job, redactor: Redactor) -> Job:
    failure = job.failure
    if failure is not None:
        failure = dataclasses.replace(failure, message=redactor.text(failure.message), hint=redactor.text(failure.hint))
    if failure == job.failure and not job.waiting:
        return job
    return dataclasses.replace(job, failure=failure, waiting=redactor.text(job.waiting))


def _told(event: EventDraft, redactor: Redactor) -> EventDraft:
    said = {name: redactor.text(value) if isinstance(value, str) else value for name, value in event.data.items()}
    return event if said == event.data else dataclasses.replace(event, data=said)


def _moved(before: Job, after: Job, at: float) -> EventDraft:
    data: dict[str, Scalar] = {"from": before.state.value, "to": after.state.value, "attempt": after.attempt}
    if after.state is JobState.FAILED and after.failure is not None:
        data |= {"code": after.failure.code, "message": after.failure.message}
    return EventDraft(kind=EventKind.STATE, at=at, data=data)
