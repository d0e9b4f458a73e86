"""Runs that were started elsewhere become jobs, once, and are followed like the others (SPEC J8)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.services.front import Front
from simpletuner_lab.testing import eventually
from tests.services.remote_kit import START, Away, away_lab


def synced(away: Away) -> tuple[Job, ...]:
    return away.lab.sync("elsewhere").imported


def test_a_running_one_is_followed_to_its_end(tmp_path: Path) -> None:
    with away_lab(tmp_path) as away:
        ref = away.place.add(log="one\n", metered_s=3.0, cost_usd=0.003)
        (job,) = synced(away)
        assert (job.state, job.target, job.hardware, job.name) == (JobState.RUNNING, "trainer", "gpu", "imported run-1")
        assert (job.cost_usd, job.remote, job.created_at, job.started_at) == (0.003, True, START - 900, START - 800)
        away.place.change(ref, log="one\ntwo\n", state="succeeded", metered_s=9.0, cost_usd=0.009)
        job = away.on(job)
        assert (job.state, job.cost_usd, job.result_sha256) == (JobState.COMPLETED, 0.009, "")
        assert away.lab.logs.read(job.id) == b"one\ntwo\n"
        assert away.on(job).settled_at is not None
        front = Front(away.lab)
        detail = front.detail(job.id)
        assert detail.plan.total_files == 0
        assert "imported" in detail.plan.warnings[0]
        assert [event.kind for event in detail.events if event.kind is EventKind.DISCARDED] == [], "nothing was ours"
        assert front.log(job.id).ended
        assert front.jobs().total == 1
        assert away.lab.store.transfers.of_job(job.id) == ()


def test_one_that_has_ended_has_its_own_times(tmp_path: Path) -> None:
    with away_lab(tmp_path) as away:
        away.place.add(state="failed", cost_usd=0.5)
        (job,) = synced(away)
        assert (job.state, job.completed_at, job.failure.code) == (JobState.FAILED, START - 700, "run_failed")
        assert Front(away.lab).job(job.id).duration_seconds == 100.0


def test_an_interrupted_one_is_not_started_again(tmp_path: Path) -> None:
    """Nobody here knows what it was given."""
    with away_lab(tmp_path) as away:
        away.place.add(state="interrupted")
        (job,) = synced(away)
        assert (job.state, len(away.place.runs())) == (JobState.FAILED, 1)


def test_cancel_reaches_it(tmp_path: Path) -> None:
    with away_lab(tmp_path) as away:
        away.place.add()
        (job,) = synced(away)
        away.lab.cancel(job.id)
        assert away.on(job, 2).state is JobState.CANCELLED


def test_none_twice_and_none_of_ours(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        ours = away.started(images)
        away.place.add()
        away.place.add(tag=["of-another-lab", 1], state="succeeded")
        before = away.lab.store.jobs.get(ours.id)
        found = away.lab.sync()
        assert (len(found.imported), found.seen) == (2, (ours.id,))
        assert away.lab.store.jobs.get(ours.id) == before
        assert synced(away) == ()
        ended = next(job for job in found.imported if job.terminal)
        away.on(ended)
        away.lab.delete(ended.id)
        assert synced(away) == (), "what was deleted stays away"
        with away_lab(tmp_path) as other:
            assert synced(other) == ()


def test_what_one_has_cost_that_is_over_is_known_at_once(tmp_path: Path, images: Path) -> None:
    """Also where its hardware has no price here, and nobody can look at it now: submits are not refused for that."""
    with away_lab(tmp_path, run_limit_s=1800.0) as away:
        away.lab.money.set_limits({"total": {"enabled": True, "amount_usd": 9.0, "action": "block"}})
        away.place.add(state="succeeded", hardware="of yesterday", cost_usd=0.5, metered_s=9.0, created_at=START)
        away.place.fail(poll="away")
        (job,) = synced(away)
        (state,) = away.lab.store.spending.states(now=START)
        assert (state.spent_usd, state.committed_usd) == (0.5, 0.0)
        assert (job.state, job.cost_usd) == (JobState.RUNNING, 0.5)
        away.submit(images)
        away.place.fail()
        job = away.on(job)
        assert (job.state, job.cost_usd) == (JobState.COMPLETED, 0.5)
        assert [(row.cost_usd, row.metered_s, row.final) for row in away.lab.charges(job.id)] == [(0.5, 9.0, True)]


def test_two_processes_at_once_import_one(tmp_path: Path) -> None:
    """Both have listed before either stores: the id is made of the run, so the second insert is refused."""
    with away_lab(tmp_path) as away, away_lab(tmp_path) as other:
        for _ in range(5):
            away.place.add()
        start = threading.Barrier(2)

        def sync(one: Away) -> int:
            start.wait()
            return len(synced(one))

        with ThreadPoolExecutor(2) as both:
            assert sum(both.map(sync, (away, other))) == 5
        assert len(away.lab.store.jobs.active()) == 5


def test_a_run_that_ended_while_nobody_looked_is_settled_at_start_up(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = away.started(images)
        away.on(job)
        away.deliver(job)
    away.place.change("run-1", state="succeeded", metered_s=4.0, cost_usd=0.4)
    with away_lab(tmp_path, away.clock) as later:
        later.lab.watcher.start()
        done = eventually(lambda: later.lab.store.jobs.get(job.id), lambda seen: seen.settled_at is not None)
        assert (done.state, done.cost_usd) == (JobState.COMPLETED, 0.4)
