"""What a user decides about a start of which nobody can tell whether it arrived (SPEC J7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.diff import Change
from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.errors import Conflict, StaleRecord
from simpletuner_lab.core.event import EventDraft, EventKind, Scalar
from simpletuner_lab.core.job import Job, JobState, RunRef
from simpletuner_lab.core.metric import PointsChange
from simpletuner_lab.services.recorder import Recorder
from simpletuner_lab.services.store import Store

_TRIES: Final = 20
"""A write that keeps losing races against other processes is given up after so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubts:
    """Resolves them. Times are seconds since the epoch."""

    store: Store
    recorder: Recorder
    clock: Callable[[], float]

    def resolve(self, job_id: str, decision: Decision, *, entry: str) -> Job:
        """Puts the decision on record; what follows from it is the runner's.

        Raises:
            JobNotFound: there is no such job.
            Conflict: it is known how this job stands, perhaps since a moment ago.
        """
        for _ in range(_TRIES):
            job = self.store.jobs.get(job_id)
            if not job.uncertain:
                raise Conflict(f"job {job_id} is not uncertain", hint="look at it again: its run may have turned up")
            try:
                return self.recorder.record(job, self._change(job, decision, entry))
            except StaleRecord:
                continue
        raise StaleRecord(f"job {job_id} is being written by others all the time", hint="try again")

    def _change(self, job: Job, decision: Decision, entry: str) -> Change:
        now = self.clock()
        data: dict[str, Scalar] = {"action": decision.value, "entry": entry, "attempt": job.attempt}
        events = [EventDraft(kind=EventKind.RESOLVED, at=now, data=data)]
        if decision is Decision.RESEND:
            after = dataclasses.replace(
                job,
                attempt=job.attempt + 1,  # another tag: whatever became of the first start is not taken for this one
                run=RunRef(),
                uncertain=False,
                failure=None,
                retry_at=None,
                waiting="",
                updated_at=now,
            )
        else:
            after = dataclasses.replace(job.moved(JobState.FAILED, now=now), retry_at=None)
            told = "" if job.failure is None else job.failure.message
            state: dict[str, Scalar] = {"from": job.state.value, "to": after.state.value, "attempt": job.attempt}
            state |= {"code": "" if job.failure is None else job.failure.code, "message": told}
            events.append(EventDraft(kind=EventKind.STATE, at=now, data=state))
        return Change(job=after, events=tuple(events), points=PointsChange())
