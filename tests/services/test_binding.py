"""A job stays with the endpoint and the account that were agreed to, whatever the provider is set to meanwhile (SPEC C2)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from simpletuner_lab.commands.answers import provider_answer
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.ledger import is_unpriced, metered, opened
from simpletuner_lab.core.provider import RunState, Snapshot
from simpletuner_lab.core.secret import Secret
from tests.services.remote_kit import HOST, Away, Place, away_lab
from tests.services.store_kit import T0, new_job

OTHER = "other.example"
NAMES = {"endpoint": OTHER, "account": "bob"}


def move(away: Away, what: str) -> None:
    """The provider is set to another place, or gets a token of somebody else."""
    if what == "endpoint":
        away.lab.setup.change("elsewhere", {"host": OTHER})
    else:
        away.lab.setup.set_token("elsewhere", Secret("e_bob"))


def move_back(away: Away, what: str) -> None:
    if what == "endpoint":
        away.lab.setup.change("elsewhere", {"host": HOST})
    else:
        away.lab.setup.set_token("elsewhere", Secret("e_ann"))


def there(away: Away) -> Place:
    """The other place."""
    return Place(away.lab.home.provider_state("elsewhere") / OTHER)


def problems(away: Away, job: Job) -> list[object]:
    return [event.data["code"] for event in away.lab.store.events.of_kind(job.id, EventKind.PROBLEM)]


@pytest.mark.parametrize("what", NAMES)
@pytest.mark.parametrize("steps", [0, 1], ids=["pending", "packed"])
def test_nothing_is_sent_to_another_place(tmp_path: Path, images: Path, what: str, steps: int) -> None:
    with away_lab(tmp_path) as away:
        job = away.on(away.submit(images), steps)
        move(away, what)
        job = away.on(job, 4)
        assert (job.state, job.failure.code) == (JobState.FAILED, "plan_changed")
        assert f"{HOST}, account ann" in job.failure.message
        assert NAMES[what] in job.failure.message
        assert "submit it again" in job.failure.hint
        assert (len(away.place.uploads()), len(there(away).uploads())) == (0, 0)
        assert away.lab.store.transfers.of_job(job.id) == ()
        assert job.settled_at is not None, "nothing is anywhere: nothing is waited for"
        assert away.lab.store.events.of_kind(job.id, EventKind.DISCARDED) == (), "and nothing is said to be gone"


@pytest.mark.parametrize("what", NAMES)
def test_what_was_uploaded_is_not_started_elsewhere(tmp_path: Path, images: Path, what: str) -> None:
    with away_lab(tmp_path) as away:
        job = away.queued(images)
        move(away, what)
        job = away.on(job, 3)
        assert (job.state, job.upload_ref, job.settled_at) == (JobState.QUEUED, "upload-1", None)
        assert NAMES[what] in job.waiting
        assert problems(away, job) == ["provider_elsewhere"]
        assert (away.place.runs(), there(away).runs()) == ({}, {})
        move_back(away, what)
        job = away.on(job)
        assert (job.run.ref, job.waiting, len(away.place.uploads())) == ("run-1", "", 1)


def test_an_upload_whose_answer_was_lost_is_not_repeated_elsewhere(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = away.on(away.submit(images))
        away.place.fail(upload="away")
        away.on(job)
        move(away, "endpoint")
        job = away.on(job, 2)
        assert (job.state, len(there(away).uploads())) == (JobState.UPLOADING, 0)
        (sent,) = away.lab.store.transfers.of_job(job.id)
        assert (sent.where_to, sent.discarded_at) == (HOST, None)
        away.lab.cancel(job.id)
        job = away.on(job, 2)
        assert (job.state, job.settled_at) == (JobState.CANCELLED, None), "data may be there"
        away.place.fail()
        move_back(away, "endpoint")
        assert away.on(job).settled_at is not None


@pytest.mark.parametrize("what", NAMES)
def test_a_run_is_not_lost_and_not_paid_for_twice(tmp_path: Path, images: Path, what: str) -> None:
    """Switched while it runs: it stays as it is, and is followed to its end once it is in reach again."""
    with away_lab(tmp_path) as away:
        job = away.on(away.started(images))
        move(away, what)
        job = away.on(job, 3)
        assert (job.state, job.attempt, job.run.ref, job.settled_at) == (JobState.RUNNING, 1, "run-1", None)
        assert "set back" in job.waiting
        assert problems(away, job) == ["provider_elsewhere"]
        (charge,) = away.lab.charges(job.id)
        assert (charge.final, charge.cost_usd, charge.account) == (False, None, "ann")
        move_back(away, what)
        away.deliver(job)
        away.place.change("run-1", state="succeeded", metered_s=25.0, cost_usd=0.025)
        job = away.on(job, 2)
        assert (job.state, job.waiting, job.cost_usd) == (JobState.COMPLETED, "", 0.025)
        assert (len(away.place.runs()), there(away).runs()) == (1, {})


def test_a_cancel_is_kept_until_the_run_is_in_reach(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = away.on(away.started(images))
        move(away, "endpoint")
        away.lab.cancel(job.id)
        job = away.on(job, 2)
        assert (job.state, job.cancel_requested_at is not None) == (JobState.RUNNING, True)
        assert "set back" in job.waiting
        assert away.place.runs()["run-1"]["state"] == "running"
        move_back(away, "endpoint")
        assert away.on(job, 2).state is JobState.CANCELLED


def test_data_are_not_said_to_be_gone_by_another_place(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = away.on(away.started(images))
        away.place.change("run-1", state="failed")
        job = away.on(job)
        move(away, "endpoint")
        job = away.on(job, 2)
        assert (job.state, job.settled_at) == (JobState.FAILED, None)
        assert [one.discarded_at for one in away.lab.store.transfers.of_job(job.id)] == [None]
        assert problems(away, job) == ["provider_elsewhere"]
        move_back(away, "endpoint")
        job = away.on(job)
        assert (job.settled_at is not None, job.waiting) == (True, "")


@pytest.mark.parametrize("start", ["away after", "uncertain"])
def test_a_start_is_not_ruled_out_by_another_place(tmp_path: Path, images: Path, start: str) -> None:
    with away_lab(tmp_path) as away:
        job = away.queued(images)
        away.place.fail(start=start, find="away")
        job = away.on(job)
        move(away, "endpoint")
        job = away.on(job, 3)
        assert (job.state, job.run.start_tried, there(away).runs()) == (JobState.QUEUED, True, {})
        away.place.fail()
        move_back(away, "endpoint")
        job = away.on(job, 2)
        assert (len(away.place.runs()), bool(job.run.ref)) == ((1, True) if start == "away after" else (0, False))


def test_whose_it_is_cannot_be_told_now(tmp_path: Path, images: Path) -> None:
    """A bad answer to that question is waited out, and is no word on the job."""
    with away_lab(tmp_path) as away:
        job = away.on(away.submit(images))
        for fault in ("away", "refused"):
            away.place.fail(account=fault)
            job = away.on(job)
            assert (job.state, len(away.place.uploads())) == (JobState.UPLOADING, 0)
        away.place.fail()
        assert away.on(job, 2).run.ref == "run-1"


def test_an_imported_run_stays_where_it_is(tmp_path: Path) -> None:
    with away_lab(tmp_path) as away:
        away.place.add()
        (job,) = away.lab.sync("elsewhere").imported
        move(away, "endpoint")
        job = away.on(job, 2)
        assert (job.state, problems(away, job)) == (JobState.RUNNING, ["provider_elsewhere"])
        move_back(away, "endpoint")
        away.place.change("run-1", state="succeeded")
        assert away.on(job).state is JobState.COMPLETED


def test_a_change_says_what_it_holds_up(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        setup = away.lab.setup
        assert setup.set_token("elsewhere", Secret("e_ann")).warning == ""
        assert setup.change("elsewhere", {"host": OTHER}).warning == ""
        setup.change("elsewhere", {"host": HOST})
        away.started(images)
        away.submit(images)
        assert setup.change("elsewhere", {"price": 1.0}).warning == ""
        assert f"2 jobs that are not done with are at {HOST}" in setup.change("elsewhere", {"host": OTHER}).warning
        assert HOST in setup.config("elsewhere").warning
        assert "account ann" in setup.set_token("elsewhere", Secret("e_bob")).warning
        assert "account ann" in setup.delete_token("elsewhere").warning


def test_what_a_lost_run_that_tells_nothing_has_cost_is_not_known() -> None:
    lost = Snapshot(state=RunState.LOST, cursor="")
    charge = dataclasses.replace(opened(new_job(), "a", account="", rate=None, now=T0), metered_s=0.0, cost_usd=0.0)
    assert is_unpriced(metered(charge, lost, ended=True, now=T0 + 1))
    assert not is_unpriced(metered(charge, dataclasses.replace(lost, cost_usd=0.0), ended=True, now=T0 + 1))


def test_a_terminal_prints_what_a_change_holds_up(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        setup = away.lab.setup
        away.started(images)
        kept = setup.set_token("elsewhere", Secret("e_ann")).warning
        setup.change("elsewhere", {"host": OTHER})
        found = provider_answer(setup.config("elsewhere"), setup.validate("elsewhere"), [kept])
        (line,) = [line for line in found.text.splitlines() if line.startswith("  warning: ")]
        assert "of account ann" in line
        assert f"at {HOST}" in line
