"""What runs have cost: booked with the poll that tells it, never twice, never forgotten, unknown where it is unknown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from simpletuner_lab.core.cost import Rate
from simpletuner_lab.core.errors import StaleRecord
from simpletuner_lab.core.job import JobState, RunRef
from simpletuner_lab.core.ledger import is_unpriced, metered, opened, spent_usd
from simpletuner_lab.core.provider import RunState, Snapshot
from simpletuner_lab.services.front import Front
from tests.services.remote_kit import away_lab
from tests.services.store_kit import T0, new_job


def test_a_run_is_one_row_that_grows_with_each_poll(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = away.started(images)
        (row,) = away.lab.charges(job.id)
        assert (row.provider, row.ref, row.attempt, row.account) == ("elsewhere", "run-1", 1, "ann")
        assert (row.hardware, row.usd_per_hour, row.as_of) == ("gpu", 3.6, "2026-01-01")
        assert (row.metered_s, row.cost_usd, row.final, away.on(job).cost_usd) == (None, None, False, None)
        away.place.change("run-1", metered_s=10.0, cost_usd=0.01)
        assert away.on(job).cost_usd == 0.01
        before = away.lab.store.jobs.get(job.id)
        assert away.on(job).version == before.version, "nothing new is no write"
        away.deliver(job)
        away.place.change("run-1", state="succeeded", metered_s=25.0, cost_usd=0.025)
        job = away.on(job)
        assert (job.state, job.cost_usd) == (JobState.COMPLETED, 0.025)
        (row,) = away.lab.charges(job.id)
        assert (row.metered_s, row.cost_usd, row.final) == (25.0, 0.025, True)
        (seen,) = Front(away.lab).detail(job.id).charges
        assert (seen.attempt, seen.metered_s, seen.cost_usd, seen.final) == (1, 25.0, 0.025, True)
        away.on(job)
        away.lab.delete(job.id)
        assert away.lab.charges(job.id) == (row,), "deleting a job does not unspend anything"


def test_no_runs_cost_is_lost_when_the_job_goes_on_in_another(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = away.started(images)
        away.place.step("run-1", 5)
        away.place.change("run-1", state="interrupted", metered_s=10.0, cost_usd=0.5)
        job = away.on(job, 2)
        assert (job.state, job.attempt, job.cost_usd) == (JobState.QUEUED, 2, 0.5)
        job = away.on(job, 2)
        assert (job.run.ref, job.cost_usd) == ("run-2", 0.5)
        away.place.change("run-2", metered_s=2.0, cost_usd=0.1)
        assert away.on(job).cost_usd == pytest.approx(0.6)
        assert [row.attempt for row in away.lab.charges(job.id)] == [1, 2]


def test_a_crash_between_the_answer_and_the_record_books_nothing_twice(tmp_path: Path, images: Path) -> None:
    """The start's answer, and a poll's, reach a process that dies; the next one reads the store and asks again."""
    with away_lab(tmp_path) as away:
        job = away.queued(images)
        away.place.fail(start="away after", find="away")
        assert away.on(job).run == RunRef(start_tried=True, tried_at=away.clock.now)
    with away_lab(tmp_path, away.clock) as later:
        later.place.fail()
        job = later.on(job)
        assert job.run.ref == "run-1"
        later.place.change("run-1", metered_s=10.0, cost_usd=0.5)
        stale = later.lab.store.jobs.get(job.id)
        later.on(job)
        with pytest.raises(StaleRecord):  # what a second process does that had polled at the same time
            later.lab.runner.advance(stale)
        assert [row.cost_usd for row in later.lab.charges(job.id)] == [0.5]
        assert len(later.place.runs()) == 1


def test_a_price_that_is_not_known_is_not_nothing(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path, price=None) as away:
        job = away.started(images)
        away.place.change("run-1", metered_s=10.0)
        job = away.on(job)
        (row,) = away.lab.charges(job.id)
        assert (row.metered_s, row.cost_usd, row.usd_per_hour, job.cost_usd) == (10.0, None, None, None)


def test_sums() -> None:
    job = new_job(cost_usd=None)
    first = opened(job, "a", account="", rate=None, now=T0)
    paid = dataclasses.replace(first, metered_s=1.0, cost_usd=0.5)
    unpriced = dataclasses.replace(first, ref="b", metered_s=1.0)
    assert spent_usd(job, [first]) is None
    assert spent_usd(new_job(cost_usd=0.0), [first]) == 0.0, "a free machine stays free"
    assert spent_usd(job, [paid, dataclasses.replace(first, ref="b")]) == 0.5, "a run that has not begun adds nothing"
    assert spent_usd(job, [paid, unpriced]) is None
    assert spent_usd(job, [paid, dataclasses.replace(first, ref="b", final=True)]) is None, "nobody tells what it took"
    unbegun = dataclasses.replace(first, ref="b", final=True, metered_s=0.0)
    assert spent_usd(job, [paid, unbegun]) == 0.5
    free = dataclasses.replace(first, ref="b", final=True, usd_per_hour=0.0)
    assert spent_usd(new_job(cost_usd=0.0), [free]) == 0.0


def test_a_sparse_or_late_answer_takes_nothing_back() -> None:
    sparse = Snapshot(state=RunState.RUNNING, cursor="")
    paid = dataclasses.replace(opened(new_job(), "a", account="", rate=None, now=T0), metered_s=9.0, cost_usd=0.5)
    assert metered(paid, sparse, ended=False, now=T0 + 1) is paid
    silent = metered(paid, sparse, ended=True, now=T0 + 1)
    assert (silent.cost_usd, silent.metered_s, silent.final) == (None, 9.0, True), "it may have cost more since"
    assert metered(silent, sparse, ended=True, now=T0 + 2) is silent
    unbegun = dataclasses.replace(paid, metered_s=0.0, cost_usd=0.0)
    silent = metered(unbegun, sparse, ended=True, now=T0 + 1)
    assert is_unpriced(silent), "it may have begun since"
    assert spent_usd(new_job(), [silent]) is None
    free = metered(dataclasses.replace(unbegun, usd_per_hour=0.0), sparse, ended=True, now=T0 + 1)
    assert (free.cost_usd, free.final) == (0.0, True)
    told = metered(silent, dataclasses.replace(sparse, cost_usd=0.7, metered_s=12.0), ended=True, now=T0 + 3)
    assert (told.cost_usd, told.metered_s) == (0.7, 12.0), "told late"
    final = metered(paid, dataclasses.replace(sparse, cost_usd=0.5), ended=True, now=T0 + 1)
    assert (final.cost_usd, final.final, final.updated_at) == (0.5, True, T0 + 1)
    late = dataclasses.replace(sparse, metered_s=1.0, cost_usd=0.1)
    assert metered(final, late, ended=False, now=T0 + 2) is final


@pytest.mark.parametrize("told", [float("nan"), float("inf"), -355.0])
def test_what_is_no_amount_is_not_booked(told: float) -> None:
    paid = dataclasses.replace(opened(new_job(), "a", account="", rate=None, now=T0), metered_s=9.0, cost_usd=0.5)
    odd = Snapshot(state=RunState.RUNNING, cursor="", metered_s=told, cost_usd=told)
    assert metered(paid, odd, ended=False, now=T0 + 1) is paid
    gone = dataclasses.replace(odd, state=RunState.LOST)
    assert metered(paid, gone, ended=True, now=T0 + 1).cost_usd is None, "gone without a word"
    assert Rate(hardware="any", label="any", usd_per_hour=told).usd_per_hour is None


def test_charges_are_written_with_their_job_or_not_at_all(store) -> None:
    job = store.jobs.insert(new_job(), "{}")
    charge = opened(job, "r", account="ann", rate=None, now=T0)
    stored, _ = store.jobs.record(job, dataclasses.replace(job, waiting="x"), charges=[charge])
    with pytest.raises(StaleRecord):
        store.jobs.record(
            job, dataclasses.replace(job, waiting="y"), charges=[dataclasses.replace(charge, cost_usd=1.0)]
        )
    assert store.charges.of_job(job.id) == (charge,)
    more = dataclasses.replace(charge, cost_usd=0.5, metered_s=1.5, final=True)
    store.jobs.record(stored, dataclasses.replace(stored, waiting="z"), charges=[more])
    assert store.charges.of_job(job.id) == store.charges.of_provider("local") == (more,)
