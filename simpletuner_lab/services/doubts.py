"""What a user decides about a start of which nobody can tell whether it arrived (SPEC J7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.errors import Conflict
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job, JobState, RunRef
from simpletuner_lab.core.ledger import Charge, of_doubt
from simpletuner_lab.services.recorder import Recorder
from simpletuner_lab.services.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubts:
    """Resolves them. Times are seconds since the epoch."""

    store: Store
    recorder: Recorder
    clock: Callable[[], float]

    def resolve(self, job_id: str, decision: Decision, *, entry: str) -> Job:
        """Puts the decision on record; what follows from it is the runner's.

        A run may be there all the same: until a sync finds it, or that there is none, it counts for all it may have cost.

        Raises:
            JobNotFound: there is no such job.
            Conflict: it is known how this job stands, perhaps since a moment ago.
        """
        return self.recorder.decide(job_id, lambda job: self._resolved(job, decision, entry))

    def _resolved(self, job: Job, decision: Decision, entry: str) -> Job:
        if not job.uncertain:
            raise Conflict(f"job {job.id} is not uncertain", hint="look at it again: its run may have turned up")
        now = self.clock()
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
            asked = job.cancel_requested_at is not None  # its user had it ended: that is what became of it
            state = JobState.CANCELLED if asked else JobState.FAILED
            after = dataclasses.replace(job.moved(state, now=now), retry_at=None)
        return self.recorder.note(
            job, after, EventKind.RESOLVED, at=now, charges=self._charges(job, now),
            action=decision.value, entry=entry, attempt=job.attempt,
        )  # fmt: skip

    def _charges(self, job: Job, now: float) -> tuple[Charge, ...]:
        plan = self.store.jobs.plan(job.id)
        if plan.rate.usd_per_hour == 0:
            return ()
        most_usd = self.store.spending.run_usd(job.id)
        if most_usd is None:  # nothing bounded it: what it was estimated at
            most_usd = plan.estimate.usd_high
        return (of_doubt(job, account=plan.identity.account, rate=plan.rate, now=now, most_usd=most_usd),)
