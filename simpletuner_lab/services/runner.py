"""Takes a job one step further: to its run (`services.starter`), along with it, and clear of it (DESIGN §3).

Every step begins from what the store holds and ends in a record, so a process may die anywhere and the next one
goes on: packing starts over, an upload is repeated, a start whose answer was lost is looked up by its tag.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Final

from simpletuner_lab.core.allowance import is_overrun, is_overrun_unseen
from simpletuner_lab.core.destination import Push, Sender, sent_by_trainer
from simpletuner_lab.core.diff import ENDED, Change, Delivered, diff
from simpletuner_lab.core.errors import (
    LabError,
    ProviderElsewhere,
    ProviderFailure,
    ProviderUnavailable,
    ProviderUncertain,
    StaleRecord,
)
from simpletuner_lab.core.event import EventDraft, EventKind, Scalar
from simpletuner_lab.core.job import TERMINAL, Failure, Job, JobState
from simpletuner_lab.core.ledger import Charge, metered, spent_usd, with_charge
from simpletuner_lab.core.metric import PointsChange
from simpletuner_lab.core.plan import Plan
from simpletuner_lab.core.provider import Provider, RunState, Snapshot
from simpletuner_lab.services.binding import DATA_SETS
from simpletuner_lab.services.overrun import ended_for_money, limit_passed
from simpletuner_lab.services.starter import LOOK_S, Rooms, Starter, tag_of
from simpletuner_trainer import report

_RETRY_S: Final = 5.0
"""Wait after a provider could not be reached."""

_GRANT_AFTER_END_S: Final = 15 * 60.0
"""A grant outlives any end but a verified delivery by this long: a last upload may be under way."""

_REPORT: Final = f"{report.PREFIX} ".encode()

_log = logging.getLogger(__name__)


class Runner:
    """Advances jobs. Safe to call from several threads and processes: a lost race raises `StaleRecord`."""

    def __init__(self, rooms: Rooms, clock: Callable[[], float]) -> None:
        self._rooms = rooms
        self._clock = clock
        self._starter = Starter(rooms, clock)

    def advance(self, job: Job) -> Job:
        """The next step of this job; returns it as stored afterwards.

        A provider out of reach is waited out; any other known fault before the run exists fails the job, and during
        the run is shown on it. So is a provider that is set to another place than the job's (`services.binding`).
        """
        now = self._clock()
        if job.retry_at is not None and now < job.retry_at and job.cancel_requested_at is None:
            return job
        try:
            return self._step(job)
        except StaleRecord:
            raise
        except ProviderUnavailable as error:
            return self._wait(job, error)
        except LabError as error:
            return self._fault(job, error)

    def packed(self, job_id: str) -> bool:
        """Whether its data are in the spool."""
        return self._rooms.spool.holds(job_id)

    def _step(self, job: Job) -> Job:
        if job.terminal:
            return self._settle(job)
        if job.run.ref:
            return self.follow(job, now=self._clock())
        return self._starter.step(job)

    def follow(self, job: Job, *, now: float) -> Job:
        """A look at the job's run, and what follows from it; `now` goes on record as the time of that.

        Raises:
            LabError: the provider's, or a lost race.
        """
        plan = self._rooms.plan(job)
        provider = self._rooms.bound(job, plan)
        try:
            snapshot = self._discreet(job, provider.poll(job.run.ref, job.run.cursor))
        except ProviderFailure:
            self._end_unseen(job, provider, now=now)
            raise
        away = sent_by_trainer(plan.identity.destination)
        push = self._trainers_push(job) if away else None
        manifest = plan.target.manifest
        if not plan.target.delivers:
            delivered: Delivered | None = Delivered(stays=True, url=snapshot.results_url)
        else:
            delivered = _said(push, manifest=manifest) if away else self._delivered(job, snapshot, manifest=manifest)
        resumable = plan.target.resume and not job.imported
        change = diff(job, snapshot, delivered=delivered, resumable=resumable, now=now)
        change = self._charged(job, plan, snapshot, change, now=now)
        overrun = self._overrun(job, snapshot, change, now=now)
        if overrun is not None:
            change = ended_for_money(change, overrun, now=now)
        if not away:
            change = dataclasses.replace(change, events=tuple(self._checked(job, event) for event in change.events))
        try:
            return self._recorded(job, change, snapshot, push)
        finally:  # whether what is seen can be kept, or the run can be reached: each is done without the other
            if change.job.cancel_requested_at is not None and snapshot.state not in ENDED:
                provider.cancel(job.run.ref)

    def _recorded(self, job: Job, change: Change, snapshot: Snapshot, push: Push | None) -> Job:
        quiet = dataclasses.replace(change.job, updated_at=job.updated_at)
        if quiet == job and not change.events and not change.charges:
            return job
        return self._rooms.recorder.record(job, change, log=snapshot.log, push=_reported(push, change))

    def end_unrecorded(self, job: Job) -> bool:
        """Tells a job's run to end where that cannot be put on record; False: it has none to be told.

        Raises:
            LabError: it is not reached.
        """
        if job.terminal or not job.run.ref:
            return False
        self._rooms.bound(job, self._rooms.plan(job)).cancel(job.run.ref)
        return True

    def _end_unseen(self, job: Job, provider: Provider, *, now: float) -> None:
        """A run that is to end, or by now costs more than was set aside for it, is told so though it cannot be looked at."""
        booked = self._rooms.store.charges.of_run(job.provider, job.run.ref)
        blocks = booked is not None and self._rooms.store.spending.limits().block(job.provider)
        running = job.state is JobState.RUNNING and job.cancel_requested_at is None
        overrun = booked if blocks and running and booked and is_overrun_unseen(booked, now=now) else None
        try:
            if overrun is not None:
                seen = Change(job=job, events=(), points=PointsChange())
                self._rooms.recorder.record(job, ended_for_money(seen, overrun, now=now))
        finally:
            if overrun is not None or job.cancel_requested_at is not None:
                provider.cancel(job.run.ref)

    def _discreet(self, job: Job, snapshot: Snapshot) -> Snapshot:
        """What the run wrote, without the secrets that it was given: before anything reads or keeps it."""
        if not snapshot.log:
            return snapshot
        redactor = self._rooms.known.beside(self._rooms.desk.secrets_of(job))
        return dataclasses.replace(snapshot, log=redactor.log(snapshot.log, _REPORT))

    def _charged(self, job: Job, plan: Plan, snapshot: Snapshot, change: Change, *, now: float) -> Change:
        """The change with what the run has cost, booked in the same transaction."""
        booked = self._rooms.store.charges.of_job(job.id)
        before = self._rooms.charge(job, job.run.ref, plan, now=now)
        after = metered(before, snapshot, ended=snapshot.state in ENDED, now=now)
        if after in booked:
            return change
        cost_usd = spent_usd(job, with_charge(booked, after))
        warned = limit_passed(job, cost_usd, self._rooms.store.spending.limits().job, now=now)
        return dataclasses.replace(
            change,
            job=dataclasses.replace(change.job, cost_usd=cost_usd),
            charges=(after,),
            events=(*change.events, *warned),
        )

    def _overrun(self, job: Job, snapshot: Snapshot, change: Change, *, now: float) -> Charge | None:
        """The charge of a run that goes on past what was set aside for it, where its deadline should end it (SPEC M4)."""
        if snapshot.state in ENDED or job.cancel_requested_at is not None or job.cost_usd == change.job.cost_usd == 0:
            return None
        booked = self._rooms.store.charges.of_run(job.provider, job.run.ref)
        charge = next(iter(change.charges), booked)
        if charge is None or not self._rooms.store.spending.limits().block(job.provider):
            return None
        return charge if is_overrun(charge, now=now) else None

    def _trainers_push(self, job: Job) -> Push | None:
        """The push of a job whose trainer delivers by itself."""
        found = self._rooms.store.pushes.of_job(job.id)
        return next((push for push in found if push.destination.sender is Sender.TRAINER), None)

    def _delivered(self, job: Job, snapshot: Snapshot, *, manifest: bool) -> Delivered | None:
        if snapshot.state is not RunState.SUCCEEDED:
            return None
        return self._rooms.outputs.verify(job.id) if manifest else self._rooms.outputs.arrived(job.id)

    def _checked(self, job: Job, event: EventDraft) -> EventDraft:
        """A checkpoint that is said to have come home is compared with its checksums (SPEC D4)."""
        if event.kind is not EventKind.CHECKPOINT or not event.data["delivered"]:
            return event
        found = self._rooms.outputs.verify(job.id, str(event.data["key"]))
        checked: dict[str, Scalar] = {"verified": found.sha256 == event.data["sha256"]}
        if found.problem:
            checked["problem"] = found.problem
        return dataclasses.replace(event, data={**event.data, **checked})

    def _settle(self, job: Job) -> Job:
        """After the end: the provider's copy goes, the grant ends, the spool is emptied, and that is recorded.

        Data that were sent are there even where the answer to that was lost.
        """
        now = self._clock()
        delivered = job.state is JobState.COMPLETED
        self._rooms.desk.close(job, at=now if delivered else now + _GRANT_AFTER_END_S)
        sent = any(one.what == DATA_SETS for one in self._rooms.store.transfers.of_job(job.id))
        copied = sent or job.upload_ref != ""
        doubt = ""
        try:
            if copied and not self._rooms.bound(job, self._rooms.plan(job)).discard(tag_of(job), job.upload_ref):
                return self._rooms.recorder.note(
                    job, dataclasses.replace(job, retry_at=now + _RETRY_S), at=now
                )  # the data are still there: asked again until they are seen to be gone
        except ProviderUncertain as error:
            doubt = f"whether the data are gone cannot be told: {error.message}"
        self._rooms.spool.remove(job.id)
        if not doubt:
            self._rooms.store.transfers.discarded(job.id, what=DATA_SETS, at=now)
        after = dataclasses.replace(job, settled_at=now, retry_at=None, waiting="")
        if not copied:
            return self._rooms.recorder.note(job, after, at=now)
        if doubt:
            return self._rooms.recorder.note(job, after, EventKind.DISCARDED, at=now, data_left=True, message=doubt)
        return self._rooms.recorder.note(job, after, EventKind.DISCARDED, at=now, data_left=False)

    def _wait(self, job: Job, error: ProviderUnavailable) -> Job:
        now = self._clock()
        job = self._rooms.store.jobs.get(job.id)
        wait_s = LOOK_S if job.uncertain else _RETRY_S
        after = dataclasses.replace(job, retry_at=now + wait_s, waiting="" if job.terminal else error.message)
        return self._rooms.recorder.note(job, after, at=now)

    def _fault(self, job: Job, error: LabError) -> Job:
        _log.warning("job %s: %s", job.id, error.message)
        now = self._clock()
        job = self._rooms.store.jobs.get(job.id)
        failure = Failure(code=error.code, message=error.message, hint=error.hint)
        if job.state in TERMINAL or job.run.ref or job.uncertain or isinstance(error, ProviderElsewhere):
            told = job.waiting == error.message  # the same fault again is not news
            after = dataclasses.replace(job, retry_at=now + _RETRY_S, waiting=error.message)
            kind = None if told else EventKind.PROBLEM
            return self._rooms.recorder.note(job, after, kind, at=now, code=error.code, message=error.message)
        return self._rooms.recorder.note(
            job, dataclasses.replace(job.moved(JobState.FAILED, now=now), failure=failure), at=now
        )


def _said(push: Push | None, *, manifest: bool) -> Delivered:
    """What a trainer that delivers by itself has said so far."""
    if not manifest:
        return Delivered(elsewhere=True, unchecked=True)
    if push is None or not push.reported_sha256:
        return Delivered(problem="the trainer has not said that its result was delivered", elsewhere=True)
    return Delivered(sha256=push.reported_sha256, elsewhere=True)


def _reported(push: Push | None, change: Change) -> Push | None:
    if push is None or change.reported is None:
        return None
    return dataclasses.replace(push, reported_sha256=change.reported.sha256)
