"""Brings a job to its run: pack, upload, start, and look for a start whose answer was lost (DESIGN §3, SPEC J7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.allowance import Allowance
from simpletuner_lab.core.diff import Change
from simpletuner_lab.core.errors import (
    JobNotFound,
    LabError,
    ProviderFailure,
    ProviderNotFound,
    ProviderUnavailable,
    ProviderUncertain,
    SpendLimitReached,
    StaleRecord,
    UploadGone,
)
from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.job import Failure, Job, JobState, RunRef
from simpletuner_lab.core.ledger import Charge, opened
from simpletuner_lab.core.metric import PointsChange
from simpletuner_lab.core.plan import Plan
from simpletuner_lab.core.provider import Archive, Provider, RunTag, StartOrder
from simpletuner_lab.core.segments import deadline_of
from simpletuner_lab.services.archive import PackProgress, untold
from simpletuner_lab.services.binding import DATA_SETS, bound_provider
from simpletuner_lab.services.desk import Desk
from simpletuner_lab.services.job_queue import JobQueue
from simpletuner_lab.services.known import KnownSecrets
from simpletuner_lab.services.outputs import Outputs
from simpletuner_lab.services.planning import require_size
from simpletuner_lab.services.recorder import Recorder
from simpletuner_lab.services.registers import RunBooked
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.spool import Spool
from simpletuner_lab.services.store import Store
from simpletuner_lab.services.telling import SEND, Telling, unstaged

PATIENCE_S: Final = 10 * 60.0
"""A start that can be neither found nor ruled out for so long is uncertain."""
_LOST: Final = "the answer to its start was lost; the run is being looked for"
LOOK_S: Final = 60.0
"""An uncertain start is looked for this often."""
_SOON_S: Final = 10 * 60.0
"""Data that are gone again so soon after an upload are not uploaded for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """The services that work on jobs under way."""

    store: Store
    registry: Registry
    recorder: Recorder
    spool: Spool
    outputs: Outputs
    desk: Desk
    queue: JobQueue
    known: KnownSecrets

    def plan(self, job: Job) -> Plan:
        """What was agreed to."""
        return self.store.jobs.plan(job.id)

    def bound(self, job: Job, plan: Plan) -> Provider:
        """The job's provider, where it is still that of the plan (`services.binding`)."""
        return bound_provider(self.store, self.registry, job, plan)

    def charge(self, job: Job, ref: str, plan: Plan, *, now: float) -> Charge:
        """What is booked for a run of the job; a new one where nothing is."""
        known = next((charge for charge in self.store.charges.of_job(job.id) if charge.ref == ref), None)
        if known is not None:
            return known
        most_usd = self.store.spending.run_usd(job.id)
        return opened(job, ref, account=plan.identity.account, rate=plan.rate, now=now, most_usd=most_usd)


class Starter:
    """The steps of a job that has no run yet."""

    def __init__(self, rooms: Rooms, clock: Callable[[], float]) -> None:
        self._rooms = rooms
        self._clock = clock

    def step(self, job: Job) -> Job:
        """The next step towards a run; returns the job as stored afterwards.

        Raises:
            LabError: why it cannot be done, or not now.
        """
        if job.cancel_requested_at is not None and not job.run.start_tried:
            return self._cancelled(job)
        if job.waits_for_money:
            job = self._funded(job)
        if job.waits_for_slot:
            job = self._queued(job)
        match job.state:
            case JobState.PENDING:
                return self._keep(job) if job.waits_for_slot else self._pack(job)
            case JobState.UPLOADING:
                return self._upload(job)
            case _ if job.waits_for_slot or job.waits_for_money:
                return job
            case _:
                return self._look(job) if job.run.start_tried else self._start(job)

    def _queued(self, job: Job) -> Job:
        """With a slot, if one was free for it."""
        self._rooms.queue.process()
        return self._rooms.store.jobs.get(job.id)

    def _cancelled(self, job: Job) -> Job:
        now = self._clock()
        return self._rooms.recorder.note(job, job.moved(JobState.CANCELLED, now=now), at=now)

    def _keep(self, job: Job) -> Job:
        """Packs a job that waits: what was agreed to is trained, whatever becomes of the data meanwhile (SPEC C2).

        Nothing goes on record: it waits as before, and may get its slot at any time.
        """
        if self._rooms.spool.holds(job.id):
            return job
        try:
            self._packed(job)
        finally:
            if self._ended(job):
                self._rooms.spool.remove(job.id)
                raise StaleRecord(f"job {job.id} has ended while it was packed")
        return self._rooms.store.jobs.get(job.id)

    def _ended(self, job: Job) -> bool:
        try:
            return self._rooms.store.jobs.get(job.id).terminal
        except JobNotFound:
            return True

    def _packed(self, job: Job, progress: PackProgress = untold) -> None:
        archive = self._archive(job, self._rooms.plan(job), progress)
        if archive is not None:
            require_size(self._rooms.registry.get(job.provider), archive.bytes)

    def _pack(self, job: Job) -> Job:
        telling = Telling(self._rooms.recorder, job, self._clock)
        self._packed(job, telling.packed)
        now = self._clock()
        return self._rooms.recorder.note(telling.job, telling.over().moved(JobState.UPLOADING, now=now), at=now)

    def _upload(self, job: Job) -> Job:
        """Also where the provider has lost what it was handed before: then the job is queued already."""
        plan = self._rooms.plan(job)
        archive = self._archive(job, plan)
        if archive is None:
            now = self._clock()
            return self._rooms.recorder.note(job, job.moved(JobState.QUEUED, now=now), at=now)
        provider = self._rooms.bound(job, plan)
        if plan.remote and job.progress.stage == SEND:
            job = self._broken_off(job, plan, archive, job.progress.stage_done, "the process that sent them has ended")
        if plan.remote:
            self._rooms.store.transfers.sent(
                job.id, what=DATA_SETS, where_to=plan.identity.endpoint, digest=archive.sha256,
                bytes=archive.bytes, files=archive.files, at=self._clock(),
            )  # fmt: skip
        telling = Telling(self._rooms.recorder, job, self._clock)
        try:
            ref = provider.upload(archive, tag_of(job), telling.sent)
        except LabError as error:
            if plan.remote and telling.left:
                why = "the job was changed meanwhile" if isinstance(error, StaleRecord) else error.message
                self._broken_off(job, plan, archive, telling.left, why)
            raise
        job, told, now = telling.over(), telling.job, self._clock()
        queued = job if job.state is JobState.QUEUED else job.moved(JobState.QUEUED, now=now)
        after = dataclasses.replace(queued, upload_ref=ref, run=RunRef(), updated_at=now)
        if not plan.remote:
            return self._rooms.recorder.note(told, after, at=now)
        to, sha256 = plan.identity.endpoint, archive.sha256
        if telling.left == 0:
            message = f"nothing was sent again: {to} had all {archive.bytes:,} bytes of an earlier try"
            return self._rooms.recorder.note(
                told, after, EventKind.SENT, at=now, to=to, bytes=0, files=archive.files, sha256=sha256, message=message
            )
        return self._rooms.recorder.note(
            told, after, EventKind.SENT, at=now, to=to, bytes=archive.bytes, files=archive.files, sha256=sha256
        )

    def _broken_off(self, job: Job, plan: Plan, archive: Archive, left: int, why: str) -> Job:
        """Puts on the timeline that data have left, whatever has arrived of them, and whatever the job is by now."""
        to, now = plan.identity.endpoint, self._clock()
        message = f"{left:,} of {archive.bytes:,} bytes left for {to}; that they arrived is not confirmed: {why}"

        def write(found: Job) -> Job:
            after = dataclasses.replace(found, progress=unstaged(found.progress))
            return self._rooms.recorder.note(
                found, after, EventKind.SENT, at=now,
                to=to, bytes=left, files=archive.files, sha256=archive.sha256, problem=message,
            )  # fmt: skip

        return self._rooms.recorder.decide(job.id, write)

    def _look(self, job: Job) -> Job:
        """A start was sent whose answer is not known: there is a run, there is none, or that cannot be told."""
        try:
            found = self._rooms.bound(job, self._rooms.plan(job)).find(tag_of(job))
        except (ProviderFailure, ProviderNotFound) as error:  # it may have been uninstalled since
            return self._not_told(job, error)
        if found is not None:
            return self._started(job, found)
        if job.cancel_requested_at is not None:
            return self._cancelled(job)
        return self._look_again(job) if job.uncertain else self._start(job)

    def _start(self, job: Job) -> Job:
        plan = self._rooms.plan(job)
        archive = self._archive(job, plan)
        provider = self._rooms.bound(job, plan)
        allowed, limit_s = self._allowed(job, plan, provider)
        if allowed.refusal:
            return self._unpaid(job, allowed)
        now = self._clock()
        tried = dataclasses.replace(job, run=RunRef(start_tried=True, tried_at=now), updated_at=now)
        job = self._rooms.recorder.note(job, tried, at=now)
        order = self._order(job, plan, archive, limit_s=limit_s, now=now)
        try:
            return self._started(job, provider.start(order))
        except UploadGone as error:
            return self._upload_again(job, error)
        except ProviderUncertain as error:
            return self._uncertain(job, error)
        except ProviderFailure as error:
            return self._refused(job, provider, error)

    def _allowed(self, job: Job, plan: Plan, provider: Provider) -> tuple[Allowance, float | None]:
        """What the next run may cost, and how long it may take, where its target can be told so."""
        limit_s = provider.options().run_limit_s if plan.remote else None
        allowed = self._rooms.store.spending.reserve(job, plan.rate.usd_per_hour, limit_s, now=self._clock())
        return allowed, limit_s if allowed.seconds is None else allowed.seconds

    def _funded(self, job: Job) -> Job:
        """Asks the limits again. With money for its next run, which is set aside now, it waits for a slot."""
        plan = self._rooms.plan(job)
        allowed, _ = self._allowed(job, plan, self._rooms.bound(job, plan))
        if allowed.refusal:
            return self._unpaid(job, allowed)
        now = self._clock()
        return self._rooms.recorder.note(
            job, dataclasses.replace(job, retry_at=None, waiting="", updated_at=now), at=now
        )

    def _unpaid(self, job: Job, allowed: Allowance) -> Job:
        """No money is left for a run. A limit of a period comes back, so that is waited for; that of a job does not.

        The slot is given back: it may be a month, and others have money.
        """
        if allowed.for_good:
            raise SpendLimitReached(allowed.refusal, hint="raise the limit of a job, and submit it again")
        now, message = self._clock(), f"waits for money: {allowed.refusal}"
        after = dataclasses.replace(job, retry_at=now + LOOK_S, waiting=message, claimed_at=None)
        kind = None if job.waiting == message else EventKind.SPEND_LIMIT
        return self._rooms.recorder.note(job, after, kind, at=now, message=message)

    def _refused(self, job: Job, provider: Provider, error: ProviderFailure) -> Job:
        """It may run all the same: somebody else was faster, or the answer is all that was lost."""
        try:
            found = provider.find(tag_of(job))
        except ProviderFailure as untold:
            if isinstance(error, ProviderUnavailable):
                return self._not_told(job, untold)
            raise error from None
        if found is None:
            raise error
        return self._started(job, found)

    def _order(self, job: Job, plan: Plan, archive: Archive | None, *, limit_s: float | None, now: float) -> StartOrder:
        deadline_s = deadline_of(limit_s)
        agreed = frozenset(credential.name for credential in plan.identity.credentials)  # this travels, whoever starts
        desk = self._rooms.desk
        address = desk.address(job, plan.identity.destination, agreed=agreed, deadline_s=deadline_s, now=now)
        return StartOrder(
            tag=tag_of(job),
            target=job.target,
            version=plan.identity.version,
            hardware=job.hardware,
            nonce=job.nonce,
            config=plan.identity.config,
            dataloader=plan.identity.dataloader,
            plan_digest=plan.digest,
            archive=archive,
            upload_ref=job.upload_ref,
            delivery=address.delivery,
            deadline_s=deadline_s,
            limit_s=limit_s,
            webhook_url=desk.callback(job.provider) if plan.remote else "",
            secrets=address.secrets,
        )

    def _started(self, job: Job, ref: str) -> Job:
        """With its run; uncertain where that is booked as another's: the other keeps its money, and this one may have a run too."""
        now = self._clock()
        charge = self._rooms.charge(job, ref, self._rooms.plan(job), now=now)
        if charge.attempt != job.attempt:  # so that the store sees whose it is
            charge = dataclasses.replace(charge, attempt=job.attempt)
        after = dataclasses.replace(
            job,
            run=RunRef(ref=ref),
            retry_at=None,
            waiting="",
            uncertain=False,
            failure=None if job.uncertain else job.failure,
            updated_at=now,
        )
        event = EventDraft(kind=EventKind.STARTED, at=now, data={"attempt": job.attempt})
        change = Change(job=after, events=(event,), points=PointsChange(), charges=(charge,))
        try:
            return self._rooms.recorder.record(job, change)
        except RunBooked as error:
            return self._uncertain(job, error)

    def _upload_again(self, job: Job, error: UploadGone) -> Job:
        sent = self._rooms.store.transfers.of_job(job.id)
        if not sent or self._clock() < sent[-1].sent_at + _SOON_S:
            raise ProviderFailure(f"the data are gone right after they were uploaded: {error.message}", hint=error.hint)
        return self._upload(job)

    def _not_told(self, job: Job, error: LabError) -> Job:
        """What became of a start is asked again for a while, whatever the provider answers."""
        since = job.run.tried_at or job.updated_at
        if job.uncertain or isinstance(error, ProviderUncertain) or self._clock() >= since + PATIENCE_S:
            return self._uncertain(job, error)
        raise ProviderUnavailable(f"{_LOST}: {error.message}", hint=error.hint) from error

    def _uncertain(self, job: Job, error: LabError) -> Job:
        """Said once; from then on the run is looked for now and then, and none is started."""
        if job.uncertain:
            return self._look_again(job)
        now = self._clock()
        failure = Failure(
            code=ProviderUncertain.code,
            message=f"whether a run was started cannot be told: {error.message}",
            hint="look at the provider; if there is none, send it again, else give the job up",
        )
        after = dataclasses.replace(
            job, uncertain=True, failure=failure, retry_at=now + LOOK_S, waiting="", updated_at=now
        )
        return self._rooms.recorder.note(
            job, after, EventKind.PROBLEM, at=now, code=failure.code, message=failure.message
        )

    def _look_again(self, job: Job) -> Job:
        now = self._clock()
        return self._rooms.recorder.note(job, dataclasses.replace(job, retry_at=now + LOOK_S, waiting=""), at=now)

    def _archive(self, job: Job, plan: Plan, progress: PackProgress = untold) -> Archive | None:
        """The packed data sets; None where all data lie elsewhere, so that nothing is packed or handed over."""
        manifest = plan.identity.manifest
        return self._rooms.spool.pack(job.id, manifest, progress) if manifest.files else None


def tag_of(job: Job) -> RunTag:
    """By which the job's run is looked up at the provider."""
    return RunTag(job_id=job.id, attempt=job.attempt)
