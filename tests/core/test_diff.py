"""Snapshots to changes: every way a run can go, as a table."""

from __future__ import annotations

import dataclasses
import math

import pytest

from simpletuner_lab.core.diff import Delivered, diff
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import MAX_STALLED, Failure, Job, JobState, Progress
from simpletuner_lab.core.provider import LogProgress, RunState, Snapshot
from simpletuner_trainer import report as rp
from tests.core.test_job import a_job

S, R = JobState, RunState
NONCE = "0123456789abcdef"
WHOLE = Delivered(sha256="ab" * 32, files=3, bytes=9)


def lines(*reports: rp.Report, nonce: str = NONCE) -> bytes:
    """Report lines as they stand in a log."""
    return "".join(rp.format_line(report, nonce=nonce) + "\n" for report in reports).encode()


def steps(*numbers: int, total: int = 100, loss: float = 0.5) -> rp.Steps:
    """A line for these steps."""
    count = len(numbers)
    return rp.Steps(
        step=numbers, loss=(loss,) * count, lr=(1e-3,) * count, grad_norm=(1.0,) * count, total=total, epoch=1.0,
        step_s=0.1, images_per_s=40.0, eta_s=9.0,
    )  # fmt: skip


def after(job: Job, state: RunState, log: bytes = b"", *, delivered: Delivered | None = WHOLE, **more: object) -> Job:
    """The job after one snapshot."""
    return diff(
        job, Snapshot(state=state, cursor="c", log=log, **more), delivered=delivered, resumable=True, now=50.0
    ).job


@pytest.mark.parametrize(
    ("before", "run", "cancel", "expected"),
    [
        (S.QUEUED, R.QUEUED, False, S.QUEUED),
        (S.QUEUED, R.RUNNING, False, S.RUNNING),
        (S.QUEUED, R.SUCCEEDED, False, S.RUNNING),  # one edge at a time
        (S.QUEUED, R.LOST, False, S.RUNNING),
        (S.QUEUED, R.FAILED, False, S.FAILED),
        (S.QUEUED, R.CANCELLED, False, S.CANCELLED),
        (S.RUNNING, R.RUNNING, True, S.RUNNING),
        (S.RUNNING, R.SUCCEEDED, False, S.COMPLETED),
        (S.RUNNING, R.SUCCEEDED, True, S.COMPLETED),  # it was faster than the cancel: the truth wins
        (S.RUNNING, R.FAILED, False, S.FAILED),
        (S.RUNNING, R.FAILED, True, S.CANCELLED),
        (S.RUNNING, R.INTERRUPTED, False, S.QUEUED),
        (S.RUNNING, R.INTERRUPTED, True, S.CANCELLED),
        (S.RUNNING, R.LOST, False, S.QUEUED),
        (S.RUNNING, R.LOST, True, S.CANCELLED),
        (S.RUNNING, R.UNKNOWN, False, S.RUNNING),
        (S.QUEUED, R.UNKNOWN, True, S.QUEUED),
    ],
)
def test_where_a_run_takes_a_job(before: JobState, run: RunState, cancel: bool, expected: JobState) -> None:
    job = a_job(state=before, cancel_requested_at=40.0 if cancel else None)
    assert after(job, run).state is expected


@pytest.mark.parametrize("run", [R.CANCELLED, R.FAILED, R.INTERRUPTED, R.LOST])
def test_what_was_ended_for_money_says_so(run: RunState) -> None:
    """Whatever the trainer says of its end, and whatever its provider calls it."""
    failure = Failure(code="spend_limit", message="it went on")
    job = a_job(state=S.RUNNING, cancel_requested_at=40.0, failure=failure)
    told = lines(rp.Failure(code="crashed", message="a signal", hint=""))
    ended = after(after(job, R.RUNNING, told), run, told)
    assert (ended.state, ended.failure) == (S.FAILED, failure)
    assert after(job, R.UNKNOWN).failure == failure
    assert after(job, R.SUCCEEDED).state is S.COMPLETED, "it was faster"
    assert after(dataclasses.replace(job, failure=Failure(code="crashed", message="")), run).state is S.CANCELLED


@pytest.mark.parametrize("state", [S.COMPLETED, S.FAILED, S.CANCELLED])
@pytest.mark.parametrize("run", list(R))
def test_a_terminal_job_never_changes(state: JobState, run: RunState) -> None:
    job = a_job(state=state)
    change = diff(job, Snapshot(state=run, cursor="x", log=lines(steps(1))), delivered=WHOLE, resumable=True, now=1.0)
    assert (change.job, change.events, len(change.points.append)) == (job, (), 0)


def test_progress_and_points_come_from_the_log() -> None:
    change = diff(
        a_job(state=S.RUNNING, log_bytes=10),
        Snapshot(state=R.RUNNING, cursor="c9", log=b"hello\n" + lines(steps(1, 2, 3), steps(4)) + b"bye\n"),
        delivered=None, resumable=True, now=50.0,
    )  # fmt: skip
    assert change.points.append.step == (1, 2, 3, 4)
    assert (change.job.progress.step, change.job.progress.total_steps, change.job.progress.loss) == (4, 100, 0.5)
    assert change.job.run.cursor == "c9"
    assert change.job.log_bytes == 10 + len(b"hello\nbye\n") + len(lines(steps(1, 2, 3), steps(4)))


def test_a_forged_line_changes_nothing() -> None:
    job = a_job(state=S.RUNNING)
    forged = lines(steps(99), rp.Failure(code="x", message="boo"), nonce="fedcba9876543210")
    change = diff(job, Snapshot(state=R.RUNNING, cursor="", log=forged), delivered=None, resumable=True, now=1.0)
    assert (change.job.progress, change.job.failure, len(change.points.append)) == (Progress(), None, 0)


def test_steps_that_were_seen_are_not_taken_twice() -> None:
    job = a_job(state=S.RUNNING, progress=Progress(step=3))
    change = diff(
        job, Snapshot(state=R.RUNNING, cursor="", log=lines(steps(2, 3, 4))), delivered=None, resumable=True, now=1.0
    )
    assert change.points.append.step == (4,)


def test_a_resumed_run_voids_what_came_after_its_checkpoint() -> None:
    job = a_job(state=S.RUNNING, progress=Progress(step=9))
    log = lines(steps(10, 11), rp.Resume(step=5), steps(6, 7))
    change = diff(job, Snapshot(state=R.RUNNING, cursor="", log=log), delivered=None, resumable=True, now=1.0)
    assert (change.points.keep_through, change.points.append.step) == (5, (6, 7))
    assert change.job.progress.step == 7


def test_nan_is_shown_as_unknown_and_kept_as_a_point() -> None:
    change = diff(
        a_job(state=S.RUNNING), Snapshot(state=R.RUNNING, cursor="", log=lines(steps(1, loss=math.nan))),
        delivered=None, resumable=True, now=1.0,
    )  # fmt: skip
    assert change.job.progress.loss is None
    assert math.isnan(change.points.append.loss[0])


def test_success_without_a_verified_result_is_a_failure() -> None:
    for delivered in (None, Delivered(problem="model.safetensors differs from its checksum")):
        job = after(a_job(state=S.RUNNING), R.SUCCEEDED, delivered=delivered, exit_code=0)
        assert (job.state, job.failure.code) == (S.FAILED, "result_missing")
    assert after(a_job(state=S.RUNNING), R.SUCCEEDED).result_sha256 == WHOLE.sha256


def test_a_run_whose_exit_code_is_lost_goes_on_where_there_is_no_result() -> None:
    """A provider forgets what a run returned; that it ended well may mean no more than a checkpoint at its deadline."""
    missing = Delivered(problem="no manifest.json has arrived")
    job = after(a_job(state=S.RUNNING, progress=Progress(step=40)), R.SUCCEEDED, delivered=missing)
    assert (job.state, job.attempt) == (S.QUEUED, 2)
    assert job.waiting.startswith(
        "goes on from the last checkpoint that arrived: its run ended well and without a result"
    )
    for _ in range(3):
        job = after(dataclasses.replace(job, state=S.RUNNING), R.SUCCEEDED, delivered=missing)
    assert (job.state, job.failure.code) == (S.FAILED, "result_missing")
    assert after(a_job(state=S.RUNNING), R.SUCCEEDED, exit_code=None).state is S.COMPLETED


def test_a_target_without_checksums_completes_unverified() -> None:
    arrived = Delivered(files=2, bytes=10, unchecked=True)
    job = after(a_job(state=S.RUNNING), R.SUCCEEDED, delivered=arrived)
    assert (job.state, job.result_sha256) == (S.COMPLETED, "")
    nothing = Delivered(problem="nothing of it has arrived", unchecked=True)
    job = after(a_job(state=S.RUNNING), R.SUCCEEDED, delivered=nothing, exit_code=0)
    assert (job.state, job.failure.code) == (S.FAILED, "result_missing")


def test_a_failure_is_told_in_the_trainers_own_words() -> None:
    log = lines(rp.Failure(code="nan_loss", message="the loss is not a number", hint="lower the learning rate"))
    told = after(a_job(state=S.RUNNING), R.RUNNING, log)
    assert (told.state, told.failure.code) == (S.RUNNING, "nan_loss")
    assert after(told, R.FAILED, exit_code=1).failure == told.failure
    assert after(a_job(state=S.RUNNING), R.FAILED, error="ValueError: boo").failure.message == "ValueError: boo"


def test_attempts_without_progress_end_after_a_few() -> None:
    job = a_job(state=S.QUEUED)
    for attempt in range(1, MAX_STALLED):
        job = after(dataclasses.replace(job, state=S.RUNNING), R.LOST, error="killed")
        assert (job.state, job.attempt, job.stalled) == (S.QUEUED, attempt + 1, attempt)
        assert job.retry_at > 50.0
    job = after(dataclasses.replace(job, state=S.RUNNING), R.LOST, error="killed")
    assert (job.state, job.failure) == (
        S.FAILED,
        Failure(code="run_lost", message="killed", hint="the log has the rest"),
    )


def test_a_run_that_begins_further_on_sets_the_count_back() -> None:
    job = a_job(state=S.RUNNING, attempt=2, attempt_step=3, stalled=MAX_STALLED - 1)
    job = after(job, R.LOST, lines(rp.Resume(step=5), steps(7)))
    assert (job.state, job.attempt_step, job.stalled, job.retry_at) == (S.QUEUED, 5, 1, 50.0)


def test_steps_that_are_lost_each_time_are_no_headway() -> None:
    """Each run takes more steps than the one before and leaves no checkpoint: it would be paid for for ever."""
    job, waits = a_job(state=S.QUEUED), []
    for attempt in range(1, MAX_STALLED + 1):
        job = dataclasses.replace(job, state=S.RUNNING)
        job = after(job, R.INTERRUPTED, lines(rp.Resume(step=0), steps(50 + attempt)), exit_code=76)
        waits.append(job.retry_at)
    assert (job.state, job.failure.code) == (S.FAILED, "no_headway")
    assert (
        job.failure.message == "3 runs in a row began no further on than at step 0: the trainer ended with exit code 76"
    )
    assert "checkpoint_step_interval" in job.failure.hint
    assert waits[0] == 50.0, "the first is a segment like any other"
    assert waits[1] > 50.0


def test_a_run_that_cannot_resume_fails() -> None:
    change = diff(a_job(state=S.RUNNING), Snapshot(state=R.LOST, cursor=""), delivered=None, resumable=False, now=1.0)
    assert change.job.state is S.FAILED


def test_an_unknown_state_is_shown_once() -> None:
    job = a_job(state=S.RUNNING)
    first = diff(job, Snapshot(state=R.UNKNOWN, cursor="", raw_state="paused"), delivered=None, resumable=True, now=1.0)
    assert [event.kind for event in first.events] == [EventKind.PROBLEM]
    assert "paused" in first.job.failure.message
    again = diff(
        first.job, Snapshot(state=R.UNKNOWN, cursor="", raw_state="paused"), delivered=None, resumable=True, now=2.0
    )
    assert again.events == ()
    assert after(first.job, R.SUCCEEDED).failure is None


def test_every_move_is_an_event() -> None:
    change = diff(a_job(state=S.QUEUED), Snapshot(state=R.RUNNING, cursor=""), delivered=None, resumable=True, now=3.0)
    moved = [event.data for event in change.events if event.kind is EventKind.STATE]
    assert moved == [{"from": "queued", "to": "running", "attempt": 1}]


def test_a_log_in_words_moves_progress_where_no_report_line_does() -> None:
    """Each step once, and a trainer's own report goes first."""
    running = a_job(state=S.RUNNING, nonce=NONCE)
    said = LogProgress(step=12, total_steps=400, loss=0.25)
    change = diff(
        running, Snapshot(state=R.RUNNING, cursor="c", progress=said), delivered=None, resumable=False, now=50.0
    )
    progress = change.job.progress
    assert (progress.step, progress.total_steps, progress.loss, progress.lr) == (12, 400, 0.25, None)
    assert list(change.points.append.step) == [12]
    assert math.isnan(change.points.append.lr[0])

    again = diff(
        change.job, Snapshot(state=R.RUNNING, cursor="c", progress=said), delivered=None, resumable=False, now=51.0
    )
    assert (again.job.progress, list(again.points.append.step)) == (progress, [])

    reported = after(running, R.RUNNING, lines(steps(3)), progress=said)
    assert (reported.progress.step, reported.progress.total_steps) == (3, 100)
