"""Takes a job one step further: pack, upload, start, follow, settle (DESIGN §3).

Every step begins from what the store holds and ends in a record, so a process may die anywhere and the next one
goes on: packing starts over, an upload is repeated, a start whose answer was lost is looked up by its tag.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.destination import Push, Sender, sent_by_trainer
from simpletuner_lab.core.diff import ENDED, Change, Delivered, diff
from simpletuner_lab.core.errors import LabError, ProviderFailure, ProviderUnavailable, StaleRecord
from simpletuner_lab.core.event import EventDraft, EventKind, Scalar
from simpletuner_lab.core.job import TERMINAL, Failure, Job, JobState, RunRef
from simpletuner_lab.core.plan import Plan
from simpletuner_lab.core.provider import Provider, RunState, RunTag, Snapshot, StartOrder
from simpletuner_lab.services.desk import Desk
from simpletuner_lab.services.outputs import Outputs
from simpletuner_lab.services.planning import require_size
from simpletuner_lab.services.recorder import Recorder
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.spool import Spool
from simpletuner_lab.services.store import Store

_RETRY_S: Final = 5.0
"""Wait after a provider could not be reached."""

_GRANT_AFTER_END_S: Final = 15 * 60.0
"""A grant outlives any end but a verified delivery by this long: a last upload may be under way."""

DATA_SETS: Final = "data sets"
"""What leaves for a provider, in the record of what left."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """The services that the runner puts to work."""

    store: Store
    registry: Registry
    recorder: Recorder
    spool: Spool
    outputs: Outputs
    desk: Desk


class Runner:
    """Advances jobs. Safe to call from several threads and processes: a lost race raises `StaleRecord`."""

    def __init__(self, rooms: Rooms, clock: Callable[[], float]) -> None:
        self._rooms = rooms
        self._clock = clock

    def advance(self, job: Job) -> Job:
        """The next step of this job; returns it as stored afterwards.

        A provider out of reach is waited out; any other known fault before the run exists fails the job, and during
        the run is shown on it.
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

    def _step(self, job: Job) -> Job:
        if job.terminal:
            return self._settle(job)
        if job.run.ref:
            return self._follow(job)
        if job.cancel_requested_at is not None and not job.run.start_tried:
            now = self._clock()
            return self._rooms.recorder.note(job, job.moved(JobState.CANCELLED, now=now), at=now)
        match job.state:
            case JobState.PENDING:
                return self._pack(job)
            case JobState.UPLOADING:
                return self._upload(job)
            case _:
                return self._start(job)

    def _pack(self, job: Job) -> Job:
        archive = self._rooms.spool.pack(job.id, self._plan(job).identity.manifest)
        require_size(self._provider(job), archive.bytes)
        now = self._clock()
        return self._rooms.recorder.note(job, job.moved(JobState.UPLOADING, now=now), at=now)

    def _upload(self, job: Job) -> Job:
        plan = self._plan(job)
        archive = self._rooms.spool.pack(job.id, plan.identity.manifest)
        provider = self._provider(job)
        if plan.remote:
            self._rooms.store.transfers.sent(
                job.id, what=DATA_SETS, where_to=plan.identity.endpoint, digest=archive.sha256,
                bytes=archive.bytes, files=archive.files, at=self._clock(),
            )  # fmt: skip
        ref = provider.upload(archive, _tag(job), lambda _done, _all: None)
        now = self._clock()
        after = dataclasses.replace(job.moved(JobState.QUEUED, now=now), upload_ref=ref)
        if not plan.remote:
            return self._rooms.recorder.note(job, after, at=now)
        return self._rooms.recorder.note(
            job, after, EventKind.SENT, at=now,
            to=plan.identity.endpoint, bytes=archive.bytes, files=archive.files, sha256=archive.sha256,
        )  # fmt: skip

    def _start(self, job: Job) -> Job:
        provider = self._provider(job)
        if job.run.start_tried:
            found = provider.find(_tag(job))
            if found is not None:
                return self._started(job, found)
            if job.cancel_requested_at is not None:
                now = self._clock()
                return self._rooms.recorder.note(job, job.moved(JobState.CANCELLED, now=now), at=now)
        plan = self._plan(job)
        archive = self._rooms.spool.pack(job.id, plan.identity.manifest)
        now = self._clock()
        tried = dataclasses.replace(job, run=RunRef(start_tried=True), updated_at=now)
        job = self._rooms.recorder.note(job, tried, at=now)
        agreed = frozenset(credential.name for credential in plan.identity.credentials)  # this travels, whoever starts
        address = self._rooms.desk.address(job, plan.identity.destination, agreed=agreed, deadline_s=None, now=now)
        order = StartOrder(
            tag=_tag(job),
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
            deadline_s=None,
            secrets=address.secrets,
        )
        try:
            return self._started(job, provider.start(order))
        except ProviderFailure:
            found = provider.find(_tag(job))  # refused because it runs already: somebody else was faster
            if found is None:
                raise
            return self._started(job, found)

    def _started(self, job: Job, ref: str) -> Job:
        now = self._clock()
        after = dataclasses.replace(job, run=RunRef(ref=ref), retry_at=None, waiting="", updated_at=now)
        return self._rooms.recorder.note(job, after, EventKind.STARTED, at=now, attempt=job.attempt)

    def _follow(self, job: Job) -> Job:
        provider = self._provider(job)
        snapshot = provider.poll(job.run.ref, job.run.cursor)
        if job.cancel_requested_at is not None and snapshot.state not in ENDED:
            provider.cancel(job.run.ref)
        plan = self._plan(job)
        away = sent_by_trainer(plan.identity.destination)
        push = self._trainers_push(job) if away else None
        delivered = _said(push) if away else self._delivered(job, snapshot)
        change = diff(job, snapshot, delivered=delivered, resumable=plan.target.resume, now=self._clock())
        if not away:
            change = dataclasses.replace(change, events=tuple(self._checked(job, event) for event in change.events))
        quiet = dataclasses.replace(change.job, updated_at=job.updated_at)
        if quiet == job and not change.events:
            return job
        return self._rooms.recorder.record(job, change, log=snapshot.log, push=_reported(push, change))

    def _trainers_push(self, job: Job) -> Push | None:
        """The push of a job whose trainer delivers by itself."""
        found = self._rooms.store.pushes.of_job(job.id)
        return next((push for push in found if push.destination.sender is Sender.TRAINER), None)

    def _delivered(self, job: Job, snapshot: Snapshot) -> Delivered | None:
        return self._rooms.outputs.verify(job.id) if snapshot.state is RunState.SUCCEEDED else None

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
        """After the end: the provider's copy goes, the grant ends, the spool is emptied, and that is recorded."""
        now = self._clock()
        delivered = job.state is JobState.COMPLETED
        self._rooms.desk.close(job, at=now if delivered else now + _GRANT_AFTER_END_S)
        if job.upload_ref and not self._provider(job).discard(_tag(job), job.upload_ref):
            return self._rooms.recorder.note(
                job, dataclasses.replace(job, retry_at=now + _RETRY_S), at=now
            )  # the data are still there: asked again until they are seen to be gone
        self._rooms.spool.remove(job.id)
        self._rooms.store.transfers.discarded(job.id, what=DATA_SETS, at=now)
        after = dataclasses.replace(job, settled_at=now, retry_at=None)
        return self._rooms.recorder.note(job, after, EventKind.DISCARDED, at=now, data_left=False)

    def _wait(self, job: Job, error: ProviderUnavailable) -> Job:
        now = self._clock()
        job = self._rooms.store.jobs.get(job.id)
        after = dataclasses.replace(job, retry_at=now + _RETRY_S, waiting="" if job.terminal else error.message)
        return self._rooms.recorder.note(job, after, at=now)

    def _fault(self, job: Job, error: LabError) -> Job:
        _log.warning("job %s: %s", job.id, error.message)
        now = self._clock()
        job = self._rooms.store.jobs.get(job.id)
        failure = Failure(code=error.code, message=error.message, hint=error.hint)
        if job.state in TERMINAL or job.run.ref:
            told = job.waiting == error.message  # the same fault again is not news
            after = dataclasses.replace(job, retry_at=now + _RETRY_S, waiting=error.message)
            kind = None if told else EventKind.PROBLEM
            return self._rooms.recorder.note(job, after, kind, at=now, code=error.code, message=error.message)
        return self._rooms.recorder.note(
            job, dataclasses.replace(job.moved(JobState.FAILED, now=now), failure=failure), at=now
        )

    def _provider(self, job: Job) -> Provider:
        return self._rooms.registry.get(job.provider)

    def _plan(self, job: Job) -> Plan:
        return self._rooms.store.jobs.plan(job.id)


def _said(push: Push | None) -> Delivered:
    """What a trainer that delivers by itself has said so far."""
    if push is None or not push.reported_sha256:
        return Delivered(problem="the trainer has not said that its result was delivered", elsewhere=True)
    return Delivered(sha256=push.reported_sha256, elsewhere=True)


def _reported(push: Push | None, change: Change) -> Push | None:
    if push is None or change.reported is None:
        return None
    return dataclasses.replace(push, reported_sha256=change.reported.sha256)


def _tag(job: Job) -> RunTag:
    return RunTag(job_id=job.id, attempt=job.attempt)
