"""Jobs that wait for money ask again as soon as a limit was changed, whichever process did that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.job_queue import Limits
from simpletuner_lab.core.spend import SpendLimit
from simpletuner_lab.services.front import Front
from simpletuner_lab.testing import eventually
from tests.services.remote_kit import Away, away_lab
from tests.services.test_money import ended, limit, told


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    with away_lab(tmp_path, run_limit_s=1800.0) as opened:
        yield opened


def blocked(away: Away, images: Path) -> Job:
    """A job that waits for money, for as long as the limit stays."""
    limit(away, 2.0, period="daily")
    job = ended(away, away.started(images), 1.7)
    limit(away, 1.7, period="daily")
    job = away.on(job, 3)
    assert (job.waits_for_money, away.lab.runner.advance(job)) == (True, job), "it is not asked again at once"
    return job


def raised(away: Away) -> None:
    limit(away, 4.0, period="daily")


def configured(away: Away) -> None:
    """Set for every process by its store, then told of through a provider's settings."""
    away.lab.store.spending.change_limits(lambda limits: dataclasses.replace(limits, total=SpendLimit()))
    away.lab.setup.change("elsewhere", {"cost_limit_enabled": True, "cost_limit_amount": 9.0})


def processed(away: Away) -> None:
    away.lab.store.spending.change_limits(lambda limits: dataclasses.replace(limits, total=SpendLimit()))
    Front(away.lab).queue.process()


@pytest.mark.parametrize("change", [raised, configured, processed])
def test_a_job_that_waits_for_money_asks_at_once_when_limits_change(
    away: Away, images: Path, change: Callable[[Away], None]
) -> None:
    job = blocked(away, images)
    away.lab.watcher.start()
    change(away)
    job = eventually(lambda: away.lab.store.jobs.get(job.id), lambda seen: seen.state is JobState.RUNNING)
    assert (job.waiting, len(away.place.runs())) == ("", 2), "the clock stands still: nothing was waited for"


def test_a_limit_that_another_process_raises_is_seen_by_the_watcher(away: Away, images: Path, tmp_path: Path) -> None:
    job = blocked(away, images)
    away.lab.watcher.start()
    limit(away, 1.71, period="daily")
    eventually(lambda: told(away, job), lambda lines: "$1.71" in lines[-1])
    with away_lab(tmp_path, away.clock) as other:
        raised(other)
    job = eventually(lambda: away.lab.store.jobs.get(job.id), lambda seen: seen.state is JobState.RUNNING)
    assert len(away.place.runs()) == 2


# ------------------------------------------------------------ money that is free again


def beside(away: Away, images: Path) -> tuple[Job, Job]:
    """A job that waits for money, and one whose run has all that is left."""
    limit(away, 5.5, period="daily")
    job = ended(away, away.started(images), 1.7)
    other = away.started(images)
    limit(away, 3.5, period="daily")
    job = away.on(job, 2)
    assert (job.waits_for_money, other.run.ref) == (True, "run-2")
    return job, other


def over(away: Away, other: Job, cost: float) -> None:
    """Its run succeeds at this cost, and its provider says so by webhooks: the clock stands still, so no poll is due."""
    away.deliver(other)
    away.place.change(other.run.ref, state="succeeded", metered_s=cost * 1000, cost_usd=cost)

    def nudged() -> float | None:
        away.lab.watcher.nudge(other.id)
        return away.lab.store.jobs.get(other.id).settled_at

    eventually(nudged)


def test_what_a_job_leaves_when_it_ends_goes_to_one_that_waits_at_once(away: Away, images: Path) -> None:
    job, other = beside(away, images)
    away.lab.watcher.start()
    over(away, other, 0.2)
    job = eventually(lambda: away.lab.store.jobs.get(job.id), lambda seen: seen.state is JobState.RUNNING)
    assert (job.waiting, len(away.place.runs())) == ("", 3), "the clock stands still: nothing was waited for"


def test_a_job_that_is_not_helped_asks_once_for_each_end_of_one_that_could_cost_something(
    away: Away, images: Path
) -> None:
    away.lab.queue.set_limits(Limits(total=9, user=9))
    job, other = beside(away, images)
    place = away.lab.registry.get("elsewhere")
    place.settings = dataclasses.replace(place.settings, price=0.0)
    free = [away.started(images), away.started(images)]
    before = job.version
    away.lab.watcher.start()
    over(away, free[0], 0.0)
    over(away, other, 1.79)
    eventually(lambda: away.lab.store.jobs.get(job.id), lambda seen: seen.version >= before + 2)
    over(away, free[1], 0.0)
    job = away.lab.store.jobs.get(job.id)
    assert (job.version, job.waits_for_money) == (before + 2, True), "hastened once, refused once"
    assert "$0.0100 is left" in job.waiting


def test_what_a_cost_that_is_said_by_hand_leaves_is_noticed_at_once(away: Away, images: Path) -> None:
    """A run that ended without a word counts for $1.80 until its user says what it did cost."""
    job, other = beside(away, images)
    away.place.change(other.run.ref, state="failed")
    other = away.on(other, 2)
    assert other.terminal
    away.lab.watcher.start()
    eventually(lambda: away.lab.store.jobs.get(other.id).settled_at)
    assert away.lab.store.jobs.get(job.id).waits_for_money, "it is assumed to have cost all that"
    away.lab.money.state_cost(other.id, 0.2)
    eventually(lambda: away.lab.store.jobs.get(job.id), lambda seen: seen.state is JobState.RUNNING)


def test_what_a_sync_finds_to_be_cheaper_is_noticed_at_once(away: Away, images: Path) -> None:
    job, other = beside(away, images)
    away.place.change(other.run.ref, state="failed")
    away.on(other, 2)
    away.place.change(other.run.ref, cost_usd=0.2)
    away.lab.watcher.start()
    assert away.lab.store.jobs.get(job.id).waits_for_money
    away.lab.sync("elsewhere")
    eventually(lambda: away.lab.store.jobs.get(job.id), lambda seen: seen.state is JobState.RUNNING)
