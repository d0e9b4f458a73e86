"""A run that is to end is told so, whether it can be looked at or not; what is seen of it is kept either way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.core.job import Job, JobState
from tests.services.remote_kit import Away, away_lab
from tests.services.test_money import ended, of_job, run, told


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    with away_lab(tmp_path, run_limit_s=1800.0) as opened:
        yield opened


def running(away: Away, images: Path, cost_usd: float) -> Job:
    """A job that was seen to run, and what it had cost by then."""
    job = away.started(images)
    away.place.change("run-1", metered_s=cost_usd * 1000, cost_usd=cost_usd)
    job = away.on(job)
    assert (job.state, job.cost_usd) == (JobState.RUNNING, cost_usd)
    return job


def test_a_cancel_reaches_a_run_that_cannot_be_looked_at(away: Away, images: Path) -> None:
    job = running(away, images, 0.1)
    away.place.fail(poll="away")
    away.lab.cancel(job.id)
    job = away.on(job)
    assert (run(away)["state"], job.state, job.waiting) == ("cancelled", JobState.RUNNING, "elsewhere does not answer")
    away.place.fail()
    assert away.on(job).state is JobState.CANCELLED


def test_what_is_seen_is_kept_where_a_cancel_does_not_arrive(away: Away, images: Path) -> None:
    job = running(away, images, 0.1)
    away.place.fail(cancel="away")
    away.lab.cancel(job.id)
    for cost_usd in (0.2, 0.3):
        away.place.change("run-1", metered_s=cost_usd * 1000, cost_usd=cost_usd)
        job = away.on(job)
        assert (job.cost_usd, job.state, job.waiting) == (cost_usd, JobState.RUNNING, "elsewhere does not answer")
    away.place.fail()
    assert away.on(job, 2).state is JobState.CANCELLED


def test_a_run_past_its_money_is_told_of_though_it_cannot_be_ended(away: Away, images: Path) -> None:
    """And it is asked for its end again with each look."""
    of_job(away, 1.0)
    job = running(away, images, 0.1)
    away.place.fail(cancel="away")
    for cost_usd in (1.05, 1.5):
        away.place.change("run-1", metered_s=cost_usd * 1000, cost_usd=cost_usd)
        job = away.on(job)
        assert (job.cost_usd, job.failure.code) == (cost_usd, "spend_limit")
    assert told(away, job)[-1].startswith("its run went on past the $1.00 that was set aside for it")
    away.place.fail()
    job = away.on(job, 2)
    assert (run(away)["state"], job.state, job.failure.code) == ("cancelled", JobState.FAILED, "spend_limit")


def test_a_run_that_cannot_be_looked_at_is_ended_by_the_clock(away: Away, images: Path) -> None:
    """Set aside was $1.00, a second costs $0.001, and $0.10 of it was seen to be spent: 900 s, and 5 minutes of patience."""
    of_job(away, 1.0)
    job = running(away, images, 0.1)
    seen = away.clock.now
    away.place.fail(poll="away")
    away.clock.now = seen + 1190
    job = away.on(job)
    assert (run(away)["state"], job.cancel_requested_at) == ("running", None)
    away.clock.now = seen + 1220
    job = away.on(job)
    assert (run(away)["state"], job.failure.code) == ("cancelled", "spend_limit")
    assert told(away, job)[-1].startswith("its run went on past the $1.00 that was set aside for it")
    away.place.fail()
    away.place.change("run-1", metered_s=1230.0, cost_usd=1.23)
    job = away.on(job, 2)
    assert (job.state, job.failure.code, job.cost_usd) == (JobState.FAILED, "spend_limit", 1.23)


def test_a_run_that_waits_there_costs_nothing_and_is_not_ended_by_the_clock(away: Away, images: Path) -> None:
    of_job(away, 1.0)
    job = away.started(images)
    away.place.change("run-1", state="queued", metered_s=0.0, cost_usd=0.0)
    job = away.on(job)
    away.place.fail(poll="away")
    away.clock.now += 7200
    job = away.on(job)
    assert (run(away)["state"], job.cancel_requested_at) == ("queued", None)


def test_a_state_that_is_known_again_takes_its_error_away(away: Away, images: Path) -> None:
    job = running(away, images, 0.1)
    away.place.change("run-1", state="unknown")
    job = away.on(job, 2)
    assert (job.state, job.failure.code) == (JobState.RUNNING, "unknown_provider_state")
    away.place.change("run-1", state="running")
    job = away.on(job)
    assert (job.state, job.failure) == (JobState.RUNNING, None)
    away.deliver(job)
    assert ended(away, job, 0.2, "succeeded").state is JobState.COMPLETED
