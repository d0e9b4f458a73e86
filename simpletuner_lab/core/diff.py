"""What a provider's snapshot changes: one pure function from (job, snapshot) to the next job, its events and points.

The only reader of a trainer's report lines and the only place where a run's end becomes a job's end, for every
provider (DESIGN §2.2, §2.3).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.event import EventDraft, EventKind, Scalar
from simpletuner_lab.core.job import MAX_STALLED, Failure, Job, JobState, Progress
from simpletuner_lab.core.ledger import Charge
from simpletuner_lab.core.metric import Points, PointsChange
from simpletuner_lab.core.provider import LogProgress, RunState, Snapshot
from simpletuner_trainer import report as rp

_RETRY_S: Final = 5.0
"""First wait before an attempt that follows one without progress; doubles each time."""

ENDED: Final = frozenset(
    {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.INTERRUPTED, RunState.LOST},
)
"""Run states after which nothing more comes from this attempt."""


_UNKNOWN: Final = "unknown_provider_state"

_AFTER_RUNNING: Final = frozenset({RunState.SUCCEEDED, RunState.INTERRUPTED, RunState.LOST})
"""Ends that a job reaches from `running` alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The result as found at the destination: its manifest's SHA-256, or what is wrong with it."""

    sha256: str = ""
    files: int = 0
    bytes: int = 0
    problem: str = ""
    elsewhere: bool = False
    """By the trainer, at a destination of the user: its own word for it, which nobody has compared yet."""
    unchecked: bool = False
    """By a target that gives no checksums: all that is known is that the run ended well."""
    stays: bool = False
    """With its provider, by a target that does not deliver: nothing is to arrive."""
    url: str = ""
    """Where it stays, as far as its provider tells."""

    @property
    def there(self) -> bool:
        """Whether there is a result."""
        return bool(self.sha256) or self.stays or (self.unchecked and not self.problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What to record, in one transaction."""

    job: Job
    events: tuple[EventDraft, ...]
    points: PointsChange
    reported: Delivered | None = None
    """What the trainer says it delivered, where a line of this snapshot says so."""
    charges: tuple[Charge, ...] = ()
    """What runs cost, where that has changed."""


def diff(job: Job, snapshot: Snapshot, *, delivered: Delivered | None, resumable: bool, now: float) -> Change:
    """The job after this snapshot. `delivered` is needed once the run succeeded; without it the job does not complete.

    Where `delivered.elsewhere` is set, the trainer's own report of its result counts, from this snapshot or before it.
    A terminal job is returned as it is: late, double and reordered snapshots change nothing.
    """
    if job.terminal:
        return Change(job=job, events=(), points=PointsChange())
    fold = _Fold(job, now)
    for line in snapshot.log.decode(errors="replace").split("\n"):
        found = rp.parse_line(line, nonce=job.nonce)
        if found is not None:
            fold.take(found)
    if snapshot.progress is not None:
        fold.read(snapshot.progress)
    after = dataclasses.replace(
        fold.job,
        updated_at=now,
        run=dataclasses.replace(fold.job.run, cursor=snapshot.cursor),
        log_bytes=job.log_bytes + len(snapshot.log),
        waiting=snapshot.waiting if snapshot.state is RunState.QUEUED else "",
    )
    if delivered is not None and delivered.elsewhere and fold.reported is not None:
        delivered = fold.reported
    if snapshot.state is not RunState.UNKNOWN and after.failure is not None and after.failure.code == _UNKNOWN:
        after = dataclasses.replace(after, failure=None)
    after, ends = _settle(after, snapshot, delivered=delivered, resumable=resumable, now=now)
    return Change(job=after, events=(*fold.events, *ends), points=fold.points(), reported=fold.reported)


class _Fold:
    """Folds report lines into progress, events and points."""

    def __init__(self, job: Job, now: float) -> None:
        self.job = job
        self.events: list[EventDraft] = []
        self.reported: Delivered | None = None
        self._now = now
        self._keep_through: int | None = None
        self._points: list[tuple[int, float, float, float]] = []
        self._told = False

    def take(self, found: rp.Report) -> None:
        self._told = True
        match found:
            case rp.Stage():
                if found.stage != self.job.progress.stage:
                    self._event(EventKind.STAGE, stage=found.stage.value, label=found.label)
                self._progress(
                    stage=found.stage.value, stage_label=found.label, stage_done=found.done, stage_total=found.total
                )
            case rp.Resume():
                self._resumed(found.step)
            case rp.Steps():
                self._steps(found)
            case rp.Checkpoint():
                self._event(
                    EventKind.CHECKPOINT,
                    step=found.step, key=found.key, bytes=found.bytes, sha256=found.sha256, delivered=found.delivered,
                )  # fmt: skip
            case rp.Image():
                self._event(
                    EventKind.IMAGE, step=found.step, index=found.index, prompt=found.prompt, key=found.key,
                )  # fmt: skip
            case rp.Failure() if not self.job.ended_for_money:
                failure = Failure(code=found.code, message=found.message, hint=found.hint)
                self.job = dataclasses.replace(self.job, failure=failure)
            case rp.Result():  # decides only where the files do not come home to be verified
                self.reported = Delivered(sha256=found.sha256, files=found.files, bytes=found.bytes, elsewhere=True)
            case rp.Failure() | rp.End():
                pass  # the provider's word decides

    def read(self, seen: LogProgress) -> None:
        """What the log says in words; a trainer's own report of its steps goes first, and no step is counted twice."""
        before = self.job.progress
        if self._told or seen.step <= before.step:
            return
        if seen.loss is not None:
            self._points.append((seen.step, seen.loss, math.nan if seen.lr is None else seen.lr, math.nan))
        self._progress(
            step=seen.step, total_steps=seen.total_steps or before.total_steps,
            loss=before.loss if seen.loss is None else seen.loss, lr=before.lr if seen.lr is None else seen.lr,
        )  # fmt: skip

    def points(self) -> PointsChange:
        columns = zip(*self._points, strict=True) if self._points else iter(((), (), (), ()))
        step, loss, lr, norm = columns
        return PointsChange(keep_through=self._keep_through, append=Points(step=step, loss=loss, lr=lr, grad_norm=norm))

    def _resumed(self, step: int) -> None:
        self._points = [point for point in self._points if point[0] <= step]
        self._keep_through = step
        self._progress(step=step)
        if step > self.job.attempt_step:
            self.job = dataclasses.replace(self.job, attempt_step=step, stalled=0)
        self._event(EventKind.RESUMED, step=step)

    def _steps(self, found: rp.Steps) -> None:
        last = self.job.progress.step
        for point in zip(found.step, found.loss, found.lr, found.grad_norm, strict=True):
            if point[0] > last:
                self._points.append(point)
                last = point[0]
        if not found.step:
            return
        self._progress(
            step=last, total_steps=found.total, epoch=found.epoch, loss=_known(found.loss[-1]), lr=_known(found.lr[-1]),
            step_s=_known(found.step_s), images_per_s=_known(found.images_per_s), eta_s=_known(found.eta_s),
            memory_mb=_known(found.memory_mb),
        )  # fmt: skip

    def _progress(self, **values: str | float | None) -> None:
        progress: Progress = dataclasses.replace(self.job.progress, **values)  # type: ignore[arg-type]
        self.job = dataclasses.replace(self.job, progress=progress)

    def _event(self, kind: EventKind, **data: Scalar) -> None:
        self.events.append(EventDraft(kind=kind, at=self._now, data=data))


def _known(value: float) -> float | None:
    return None if value != value else value  # noqa: PLR0124 - NaN has no value to show


def _settle(
    job: Job, snapshot: Snapshot, *, delivered: Delivered | None, resumable: bool, now: float
) -> tuple[Job, Iterable[EventDraft]]:
    """The job's state after the run's state."""
    if snapshot.state is RunState.UNKNOWN:
        return _unknown(job, snapshot, now=now)
    if snapshot.state is RunState.QUEUED:
        return job, ()
    running = job if job.state is JobState.RUNNING else job.moved(JobState.RUNNING, now=now)
    if snapshot.state is RunState.RUNNING or (job.state is JobState.QUEUED and snapshot.state in _AFTER_RUNNING):
        return running, _moves(job, running, now=now)  # one edge of the table at a time: the next poll sees the end
    if snapshot.state is RunState.SUCCEEDED and not (resumable and _cut_short(snapshot, delivered)):
        return _succeeded(running, delivered, now=now)
    if snapshot.state is RunState.CANCELLED or job.cancel_requested_at is not None:
        return _cancelled(job, running, snapshot, now=now)
    if snapshot.state is not RunState.FAILED and resumable:
        queued = running.moved(JobState.QUEUED, now=now)
        if queued.stalled < MAX_STALLED:
            again = dataclasses.replace(
                queued,
                retry_at=now + _wait_s(queued),
                waiting=f"goes on from the last checkpoint that arrived: {_why(snapshot)}",
            )
            return again, _moves(job, again, now=now)
        if snapshot.state is not RunState.SUCCEEDED:
            return _given_up(job, running, snapshot, now=now)
    if snapshot.state is RunState.SUCCEEDED:
        return _succeeded(running, delivered, now=now)
    return _failed(job, running, snapshot, now=now)


def _cancelled(before: Job, job: Job, snapshot: Snapshot, *, now: float) -> tuple[Job, Iterable[EventDraft]]:
    """By whom makes a difference: what was ended for money has failed, and says so."""
    if job.ended_for_money:
        return _failed(before, job, snapshot, now=now)
    ended = dataclasses.replace(job.moved(JobState.CANCELLED, now=now), failure=None)
    return ended, _moves(before, ended, now=now)


def _wait_s(queued: Job) -> float:
    """Until the next attempt: none after one that took steps, as a segment does; longer with each that helped nothing."""
    in_vain = queued.stalled - (queued.progress.step > queued.attempt_step)
    return _RETRY_S * 2 ** (in_vain - 1) if in_vain > 0 else 0.0


def _given_up(before: Job, job: Job, snapshot: Snapshot, *, now: float) -> tuple[Job, Iterable[EventDraft]]:
    """A job whose attempts begin no further on any more."""
    if job.failure is None and job.progress.step > job.attempt_step:
        why = f"{MAX_STALLED} runs in a row began no further on than at step {job.attempt_step}: {_why(snapshot)}"
        hint = "no checkpoint of them arrived: save one more often (checkpoint_step_interval), or let a run take longer"
        job = dataclasses.replace(job, failure=Failure(code="no_headway", message=why, hint=hint))
    return _failed(before, job, snapshot, now=now)


def _cut_short(snapshot: Snapshot, delivered: Delivered | None) -> bool:
    """Whether a run that ended well may have reached its deadline alone: with what code it ended is not known any more."""
    return snapshot.exit_code is None and delivered is not None and not delivered.there


def _unknown(job: Job, snapshot: Snapshot, *, now: float) -> tuple[Job, Iterable[EventDraft]]:
    message = f"the provider reports a state this version does not know: {snapshot.raw_state or 'none'}"
    if job.ended_for_money or (job.failure is not None and job.failure.message == message):
        return job, ()
    failure = Failure(
        code="unknown_provider_state", message=message, hint="the job stays as it is; look at the provider"
    )
    problem = EventDraft(kind=EventKind.PROBLEM, at=now, data={"code": failure.code, "message": message})
    return dataclasses.replace(job, failure=failure), (problem,)


def _succeeded(job: Job, delivered: Delivered | None, *, now: float) -> tuple[Job, Iterable[EventDraft]]:
    if job.imported:  # whoever started it knows where its results went
        ended = dataclasses.replace(job.moved(JobState.COMPLETED, now=now), failure=None)
        return ended, _moves(job, ended, now=now)
    if delivered is None or not delivered.there:
        why = delivered.problem if delivered else "its result was not looked for"
        missing = Failure(
            code="result_missing", message=f"the run ended well, but {why}", hint="see the log; run it again"
        )
        failure = job.failure if job.ended_for_money else missing
        ended = dataclasses.replace(job.moved(JobState.FAILED, now=now), failure=failure)
        return ended, _moves(job, ended, now=now)
    artifact = EventDraft(kind=EventKind.ARTIFACT, at=now, data=_found(delivered))
    progress = dataclasses.replace(job.progress, eta_s=0.0)
    ended = dataclasses.replace(
        job.moved(JobState.COMPLETED, now=now),
        failure=None,
        progress=progress,
        result_sha256="" if delivered.elsewhere else delivered.sha256,
    )
    return ended, (artifact, *_moves(job, ended, now=now))


def _found(delivered: Delivered) -> Mapping[str, Scalar]:
    if delivered.stays:
        return {"stays": True, "url": delivered.url}
    return {"sha256": delivered.sha256, "files": delivered.files, "bytes": delivered.bytes}


def _failed(before: Job, job: Job, snapshot: Snapshot, *, now: float) -> tuple[Job, Iterable[EventDraft]]:
    said = job.failure if job.failure is not None and job.failure.code != _UNKNOWN else None
    failure = said or Failure(code=f"run_{snapshot.state}", message=_why(snapshot), hint="the log has the rest")
    ended = dataclasses.replace(job.moved(JobState.FAILED, now=now), failure=failure)
    return ended, _moves(before, ended, now=now)


def _why(snapshot: Snapshot) -> str:
    if snapshot.error:
        return snapshot.error
    if snapshot.state is RunState.SUCCEEDED:
        return "its run ended well and without a result, at its deadline as it seems"
    if snapshot.exit_code is not None:
        return f"the trainer ended with exit code {snapshot.exit_code}"
    return f"the run is {snapshot.state}"


def _moves(before: Job, after: Job, *, now: float) -> Iterable[EventDraft]:
    if before.state is after.state:
        return ()
    data: dict[str, Scalar] = {"from": before.state.value, "to": after.state.value, "attempt": after.attempt}
    if after.failure is not None and after.state is JobState.FAILED:
        data |= {"code": after.failure.code, "message": after.failure.message}
    return (EventDraft(kind=EventKind.STATE, at=now, data=data),)
