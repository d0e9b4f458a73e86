"""Runs with a time limit: a deadline before it, one job over several runs, and what a plan says of that."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from simpletuner_lab.core.cost import Estimate
from simpletuner_lab.core.errors import RunTooLong
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.provider import Target
from simpletuner_lab.core.segments import deadline_of, fits, runs_of
from simpletuner_lab.services import schema
from simpletuner_lab.services.limits import limit_notes
from tests.services.remote_kit import START, away_lab, elsewhere

OURS = Target(id="trainer", label="Our trainer", version="1", live_metrics=True, resume=True)
PLAIN = Target(id="plain", label="A plain one", version="7", live_metrics=False, resume=False)


def test_a_run_is_told_to_end_before_its_limit_and_where_to_call_back(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path, run_limit_s=1800.0) as away:
        job = away.started(images)
        run = away.place.runs()["run-1"]
        assert (run["deadline_s"], run["webhook_url"]) == (1620.0, "https://lab.example/ann/api/webhooks/elsewhere")
        engine = sa.create_engine(f"sqlite:///{away.lab.home.database}")
        with engine.connect() as connection:
            found = sa.select(schema.grants.c.expires_at).where(schema.grants.c.job_id == job.id)
            assert connection.execute(found).scalar() == START + 1620.0 + 24 * 3600
        engine.dispose()


def test_where_there_is_no_limit_there_is_no_deadline(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        away.started(images)
        assert away.place.runs()["run-1"]["deadline_s"] is None


def test_one_job_goes_on_over_three_runs(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path, run_limit_s=60.0) as away:
        job = away.started(images)
        for number in (1, 2):
            away.place.resume(f"run-{number}", number * 4 - 4)
            away.place.step(f"run-{number}", number * 4)
            away.place.change(f"run-{number}", state="interrupted")
            job = away.on(job, 2)
            assert (job.state, job.attempt, job.stalled) == (JobState.QUEUED, number + 1, 1)
            job = away.on(job, 2)
        away.place.resume("run-3", 8)
        away.place.step("run-3", 12)
        away.deliver(job)
        away.place.change("run-3", state="succeeded")
        job = away.on(job)
        assert (job.state, job.attempt, job.progress.step) == (JobState.COMPLETED, 3, 12)
        assert away.lab.store.points.read(job.id).step == (4, 8, 12)
        started = away.lab.store.events.of_kind(job.id, EventKind.STARTED)
        assert [event.data["attempt"] for event in started] == [1, 2, 3]
        assert {run["upload_ref"] for run in away.place.runs().values()} == {"upload-1"}, "the data are there already"
        assert len(list(away.lab.home.spool.iterdir())) == 2, "archive and note, until the job has settled"
        away.on(job)
        assert list(away.lab.home.spool.iterdir()) == []


def test_data_that_have_expired_are_uploaded_again(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path, run_limit_s=60.0) as away:
        job = away.started(images)
        away.place.step("run-1", 4)
        away.place.change("run-1", state="interrupted")
        job = away.on(job, 2)
        away.clock.now += 25 * 3600
        away.place.fail(start="gone")
        job = away.on(job)
        assert (job.state, job.upload_ref, job.run.start_tried) == (JobState.QUEUED, "upload-2", False)
        away.place.fail()
        job = away.on(job)
        assert (job.run.ref, away.place.runs()["run-2"]["upload_ref"]) == ("run-2", "upload-2")
        assert len(away.lab.store.transfers.of_job(job.id)) == 2
        assert len(away.lab.store.events.of_kind(job.id, EventKind.SENT)) == 2


def test_data_that_never_arrive_are_not_sent_for_ever(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = away.queued(images)
        away.place.fail(start="gone")
        job = away.on(job)
        assert (job.state, job.failure.code) == (JobState.FAILED, "provider_failure")
        assert "right after they were uploaded" in job.failure.message


def _estimate(low: float | None, high: float | None) -> Estimate:
    return Estimate(seconds_low=low, seconds_high=high, usd_low=None, usd_high=None, basis="")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (None, None, "a run may take 30 minutes: a longer job goes on in the next one, from its last checkpoint; each run is paid for, and is asked of the spend limits as it begins"),
        (600.0, 1000.0, ""),
        (5000.0, 5100.0, "it is cut into about 4 runs of at most 30 minutes each, one after the other: one job to you"),
        (1500.0, 5000.0, "it may be cut into up to 4 runs of at most 30 minutes each, one after the other: one job to you"),
    ],
)  # fmt: skip
def test_a_plan_says_into_how_many_runs_it_is_cut(low: float | None, high: float | None, expected: str) -> None:
    assert "".join(limit_notes(_estimate(low, high), 1800.0, OURS, goes_on=True)) == expected


def test_what_cannot_end_in_time_is_refused_where_nothing_goes_on() -> None:
    with pytest.raises(RunTooLong, match="A plain one cannot go on in another") as refused:
        limit_notes(_estimate(1900.0, 2500.0), 1800.0, PLAIN, goes_on=False)
    assert (refused.value.code, refused.value.status) == ("run_too_long", 400)
    assert "choose a target that resumes" in refused.value.hint
    (doubt,) = limit_notes(_estimate(1700.0, 2500.0), 1800.0, PLAIN, goes_on=False)
    assert "it may not end in time" in doubt
    (unknown,) = limit_notes(_estimate(None, None), 1800.0, PLAIN, goes_on=False)
    assert "is not known" in unknown
    assert limit_notes(_estimate(10.0, 20.0), 1800.0, PLAIN, goes_on=False) == ()
    assert limit_notes(_estimate(None, None), None, PLAIN, goes_on=False) == ()
    with pytest.raises(RunTooLong, match="checkpoints stay on the training machine"):
        limit_notes(_estimate(1900.0, 2500.0), 1800.0, OURS, goes_on=False)


def test_a_plan_carries_it(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path, run_limit_s=1800.0) as away:
        assert any("a run may take 30 minutes" in text for text in away.lab.plan(elsewhere(images)).warnings)
        plain = away.lab.plan(elsewhere(images, target="plain")).warnings
        assert any("A plain one cannot go on in another" in text for text in plain)


def test_margins() -> None:
    assert [deadline_of(limit) for limit in (None, 10.0, 1800.0, 86400.0)] == [None, 9.0, 1620.0, 86100.0]
    assert [runs_of(seconds, 1800.0) for seconds in (1.0, 1620.0, 1621.0, 5000.0)] == [1, 1, 2, 4]
    assert [fits(_estimate(low, high), 100.0) for low, high in ((10, 90), (10, 95), (101, 200), (None, None))] == [
        True, None, False, None,
    ]  # fmt: skip
