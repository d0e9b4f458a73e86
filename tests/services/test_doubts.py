"""A start whose answer was lost: looked for, waited for, and never sent again without the user (SPEC J7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.errors import Conflict, InvalidRequest
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.services.front import InProcess
from simpletuner_lab.services.starter import LOOK_S, PATIENCE_S
from tests.services.remote_kit import Away, away_lab


def doubtful(away: Away, images: Path, start: str = "away after") -> Job:
    """A job of which nobody can tell whether it runs."""
    job = away.queued(images)
    away.place.fail(start=start, find="uncertain")
    return away.on(job)


def test_silence_is_waited_out_for_a_while(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = away.queued(images)
        away.place.fail(start="away", find="away")
        job = away.on(job)
        tried = away.clock.now
        for waited in (0.2, 0.5, 0.99):
            away.clock.now = tried + PATIENCE_S * waited
            job = away.on(job)
            assert (job.state, job.uncertain, job.failure) == (JobState.QUEUED, False, None)
            assert job.waiting.startswith("the answer to its start was lost; the run is being looked for: ")
        away.clock.now = tried + PATIENCE_S
        job = away.on(job)
        assert (job.state, job.uncertain, job.failure.code) == (JobState.QUEUED, True, "uncertain")
        assert away.place.runs() == {}


def test_a_find_that_recovers_in_time_starts_it(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = away.queued(images)
        away.place.fail(start="away", find="away")
        away.on(job, 3)
        away.place.fail()
        assert away.on(job).run.ref == "run-1"


def test_uncertain_is_said_once_looked_for_and_never_sent_again(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = doubtful(away, images, start="away")
        assert (job.uncertain, job.state, job.failure.code) == (True, JobState.QUEUED, "uncertain")
        for find in ("uncertain", "away", "refused", ""):
            away.place.fail(find=find)
            before = away.clock.now
            job = away.on(job, 2)
            assert (job.uncertain, job.state, away.place.runs()) == (True, JobState.QUEUED, {}), find
            assert away.clock.now >= before + LOOK_S
        assert len(away.lab.store.events.of_kind(job.id, EventKind.PROBLEM)) == 1


def test_a_run_that_turns_up_clears_it_by_itself(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = doubtful(away, images)
        away.place.fail()
        job = away.on(job)
        assert (job.run.ref, job.uncertain, job.failure) == ("run-1", False, None)
        with pytest.raises(Conflict):
            away.lab.resolve(job.id, Decision.RESEND)


def test_resend_is_a_new_attempt(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = doubtful(away, images)
        away.place.fail()
        job = away.lab.resolve(job.id, Decision.RESEND, entry="test")
        assert (job.uncertain, job.attempt, job.failure, job.run.start_tried) == (False, 2, None, False)
        job = away.on(job)
        assert (job.run.ref, away.place.runs()["run-2"]["tag"]) == ("run-2", [job.id, 2])
        (event,) = away.lab.store.events.of_kind(job.id, EventKind.RESOLVED)
        assert event.data == {"action": "resend", "entry": "test", "attempt": 1}


def test_the_first_run_of_one_that_was_resent_is_ended_and_booked(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = doubtful(away, images)
        away.place.fail()
        away.lab.resolve(job.id, Decision.RESEND)
        away.on(job)
        away.lab.sync("elsewhere")
        assert [run["state"] for run in away.place.runs().values()] == ["cancelled", "running"]
        away.place.change("run-1", cost_usd=0.25)
        for _ in range(2):
            found = away.lab.sync("elsewhere")
            assert found.imported == ()
        assert [(row.ref, row.attempt, row.cost_usd) for row in away.lab.charges(job.id)] == [
            ("run-1", 1, 0.25), ("run-2", 2, None),
        ]  # fmt: skip
        assert away.lab.store.jobs.get(job.id).cost_usd == 0.25
        away.place.change("run-2", metered_s=1.0, cost_usd=1.0)
        assert away.on(job).cost_usd == 1.25


def test_given_up(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = doubtful(away, images)
        seen = InProcess(away.lab).resolve(job.id, Decision.GIVE_UP, entry="test")
        assert (seen.status, seen.uncertain, seen.error.code) == (JobState.FAILED, False, "uncertain")
        assert away.lab.store.jobs.get(job.id).settled_at is not None
        assert len(away.place.runs()) == 1


def test_cancel_asks_for_the_end_of_whatever_there_is(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = doubtful(away, images)
        away.lab.cancel(job.id)
        assert away.on(job).state is JobState.QUEUED, "there may be a run, and nobody can end it"
        away.place.fail()
        job = away.on(job, 3)
        assert (job.state, away.place.runs()["run-1"]["state"]) == (JobState.CANCELLED, "cancelled")


def test_a_refusal_is_a_refusal_even_if_nothing_can_be_looked_up(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = away.queued(images)
        away.place.fail(start="refused", find="uncertain")
        job = away.on(job)
        assert (job.state, job.failure.message) == (JobState.FAILED, "out of credit")


def test_words_of_a_decision() -> None:
    assert Decision.parse("give_up") is Decision.GIVE_UP
    with pytest.raises(InvalidRequest):
        Decision.parse("again")
