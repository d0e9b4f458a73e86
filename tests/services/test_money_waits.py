"""Jobs that wait for money ask again as soon as a limit was changed, whichever process did that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simpletuner_lab.core.job import Job, JobState
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
