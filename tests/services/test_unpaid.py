"""Runs that nobody has told the cost of, and runs that no money is left for: what they hold up, and what gets out of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.commands.money_answers import limits_answer, spend_answer
from simpletuner_lab.core import errors
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.job_queue import Limits
from simpletuner_lab.services.front import Front
from tests.services.remote_kit import Away, away_lab
from tests.services.test_money import ended, limit, told


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    with away_lab(tmp_path, run_limit_s=1800.0) as opened:
        yield opened


def test_a_job_that_waits_for_money_leaves_its_slot_to_others(away: Away, images: Path) -> None:
    away.lab.queue.set_limits(Limits(total=1))
    limit(away, 2.0, period="daily")
    job = ended(away, away.started(images), 1.7)
    limit(away, 1.7, period="daily")
    job = away.on(job, 3)
    assert (job.waits_for_money, job.claimed_at, job.waiting[:16]) == (True, None, "waits for money:")
    with pytest.raises(errors.Conflict, match="waiting for money"):
        away.lab.queue.prioritise(job.id, 50, entry="test")
    queue = Front(away.lab).queue
    (entry,) = queue.entries(status="blocked").entries
    assert (entry.job_id, entry.position, entry.waiting) == (job.id, None, job.waiting)
    assert (queue.mine().blocked_count, queue.stats().by_status["blocked"], queue.stats().running) == (1, 1, 0)
    place = away.lab.registry.get("elsewhere")
    place.settings = dataclasses.replace(place.settings, price=0.0)
    free, urgent = away.submit(images), away.submit(images)
    away.lab.queue.prioritise(urgent.id, 50, entry="test")
    assert [one.id for one in away.lab.queue.process()] == [urgent.id], "it costs nothing"
    claims = len(away.lab.store.events.of_kind(job.id, EventKind.CLAIMED))
    away.clock.now += 86400
    for _ in range(3):
        job = away.on(job)
    assert (job.waits_for_slot, len(away.place.runs())) == (True, 1)
    assert queue.position(job.id).waiting == "number 1 in the queue: this lab has 1 of at most 1 job under way"
    away.lab.cancel(urgent.id)
    assert away.on(urgent).state is JobState.CANCELLED
    job = away.on(job, 2)
    assert (job.state, len(away.place.runs()), job.waiting) == (JobState.RUNNING, 2, "")
    assert away.lab.store.jobs.get(free.id).waits_for_slot
    assert len(away.lab.store.events.of_kind(job.id, EventKind.CLAIMED)) == claims + 1, "not once a minute"


def test_what_a_run_cost_that_nobody_told_is_said_by_hand(away: Away, images: Path) -> None:
    """It began without any limit, so nothing was set aside for it, and its price is not known."""
    place = away.lab.registry.get("elsewhere")
    place.settings = dataclasses.replace(place.settings, price=None)
    job = away.started(images)
    away.place.change("run-1", state="failed")
    job = away.on(job, 2)
    assert job.terminal
    place.settings = dataclasses.replace(place.settings, price=3.6)
    limit(away, 1000.0)
    with pytest.raises(
        errors.SpendLimitReached, match=f"what job {job.id} has cost or may cost is not known"
    ) as refused:
        away.submit(images)
    assert "stcloud cost JOB USD" in refused.value.hint
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(errors.InvalidRequest, match="no amount of US dollars"):
            away.lab.money.state_cost(job.id, wrong)
    said = away.lab.money.state_cost(job.id, 1.25)
    assert (said.cost_usd, said.runs) == (1.25, 1)
    assert away.lab.store.jobs.get(job.id).cost_usd == 1.25
    assert told(away, job)[-1] == "that its runs cost $1.25 which no provider tells was said by hand"
    (state,) = away.lab.money.limits().states
    assert state.spent_usd == 1.25
    for again in (125.0, 1.0):
        assert away.lab.money.state_cost(job.id, again).cost_usd == again
        assert away.lab.store.jobs.get(job.id).cost_usd == away.lab.money.spend().total_usd == again, "said anew"
    told_by = ended(away, away.started(images), 0.5, state="failed")
    with pytest.raises(errors.Conflict, match="is known"):
        away.lab.money.state_cost(told_by.id, 1.0)
    running = away.started(images)
    with pytest.raises(errors.Conflict, match="has not ended"):
        away.lab.money.state_cost(running.id, 1.0)
    with pytest.raises(errors.JobNotFound):
        away.lab.money.state_cost("none", 1.0)


def test_what_a_deleted_job_cost_is_said_by_hand(away: Away, images: Path) -> None:
    place = away.lab.registry.get("elsewhere")
    place.settings = dataclasses.replace(place.settings, price=None)
    job = away.started(images)
    away.place.change("run-1", state="failed")
    job = away.on(job, 4)
    away.lab.delete(job.id)
    assert away.lab.money.state_cost(job.id, 0.0).cost_usd == 0.0
    limit(away, 1000.0)
    (state,) = away.lab.money.limits().states
    assert state.spent_usd == 0.0


def test_a_run_without_a_word_counts_by_the_clock_where_nothing_was_set_aside(away: Away, images: Path) -> None:
    place = away.lab.registry.get("elsewhere")
    place.settings = dataclasses.replace(place.settings, run_limit_s=None)
    job = away.started(images)
    away.clock.now += 600
    away.place.change("run-1", state="failed")
    away.on(job, 2)
    limit(away, 1000.0)
    (state,) = away.lab.money.limits().states
    assert state.spent_usd == pytest.approx(0.6, abs=0.02), "ten minutes at $3.60 an hour"


def test_what_is_only_assumed_is_said_by_the_limit(away: Away, images: Path) -> None:
    """Of $1.80 spent nobody has told a cent: it is what was set aside for a run that ended without a word."""
    limit(away, 3.0)
    job = away.started(images)
    away.place.change("run-1", state="failed")
    away.on(job, 2)
    assumed = "$1.80 of it assumed for 1 run whose cost nobody told"
    status = away.lab.money.status("elsewhere")
    assert (status.current_spend, status.assumed, status.assumed_runs) == (1.8, 1.8, 1)
    assert f"$1.80 spent ({assumed})" in status.message
    assert f"\n    {assumed}: stcloud cost JOB USD\n" in limits_answer(away.lab.money.limits()).text
    shown = spend_answer(away.lab.money.spend(1))
    assert assumed in shown.text
    assert f"job {job.id}   not known  " in shown.text
    assert "1 whose cost is not known" in next(line for line in shown.text.splitlines() if job.id in line)
    with pytest.raises(errors.SpendLimitReached, match="of it assumed for 1 run"):
        away.submit(images)
    away.lab.money.state_cost(job.id, 0.5)
    status = away.lab.money.status("elsewhere")
    assert (status.current_spend, status.assumed, status.assumed_runs) == (0.5, 0.0, 0)
    assert "assumed" not in status.message + limits_answer(away.lab.money.limits()).text
