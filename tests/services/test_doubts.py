"""A start whose answer was lost: looked for, waited for, and never sent again without the user (SPEC J7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.errors import Conflict, InvalidRequest, SpendLimitReached
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.services.front import InProcess
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.starter import LOOK_S, PATIENCE_S
from simpletuner_lab.services.store import Store
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


@pytest.mark.parametrize("decision", Decision)
def test_one_that_was_to_be_cancelled_ends_so_whatever_is_decided(
    tmp_path: Path, images: Path, decision: Decision
) -> None:
    with away_lab(tmp_path) as away:
        job = doubtful(away, images)
        away.lab.cancel(job.id)
        away.lab.resolve(job.id, decision)
        job = away.on(job)
        assert (job.state, job.uncertain, len(away.place.runs())) == (JobState.CANCELLED, False, 1)
        assert [row.doubtful for row in away.lab.charges(job.id)] == [True], "a run may be there all the same"


def blocked_at(away: Away, amount: float) -> None:
    away.lab.money.set_limits({"total": {"enabled": True, "amount_usd": amount, "action": "block"}})


def spent(away: Away) -> float | None:
    (state,) = away.lab.store.spending.states(now=away.clock.now)
    return state.spent_usd


def given_up(away: Away, images: Path) -> Job:
    job = doubtful(away, images)
    return away.on(away.lab.resolve(job.id, Decision.GIVE_UP))


def test_starts_that_are_given_up_count_for_what_their_runs_may_cost(tmp_path: Path, images: Path) -> None:
    """A limit of two runs lets two be started, not one after the other for as long as no answer comes."""
    with away_lab(tmp_path, run_limit_s=1800.0) as away:
        blocked_at(away, 4.0)
        for number in (1, 2):
            given_up(away, images)
            away.place.fail()
            assert spent(away) == pytest.approx(number * 1.8)
        with pytest.raises(SpendLimitReached, match=r"\$3.60 spent"):
            away.submit(images)
        assert (away.lab.money.spend(1).runs, away.lab.money.spend(1).unpriced) == (2, 2)


def test_a_run_that_was_given_up_is_ended_and_booked_once(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path, run_limit_s=1800.0) as away:
        blocked_at(away, 9.0)
        job = given_up(away, images)
        away.lab.sync("elsewhere")
        assert (away.place.runs()["run-1"]["state"], spent(away)) == ("cancelled", 1.8), "what it took is not known yet"
        away.place.change("run-1", cost_usd=0.25)
        for _ in range(2):
            assert away.lab.sync("elsewhere").imported == ()
            assert [(row.ref, row.cost_usd, row.final) for row in away.lab.charges(job.id)] == [("run-1", 0.25, True)]
            assert (spent(away), away.lab.store.jobs.get(job.id).cost_usd) == (0.25, 0.25)
        assert away.lab.store.jobs.get(job.id).state is JobState.FAILED


def test_a_run_of_a_deleted_job_is_booked_and_not_imported(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path, run_limit_s=1800.0) as away:
        blocked_at(away, 9.0)
        job = given_up(away, images)
        away.lab.delete(job.id)
        away.place.change("run-1", state="failed", cost_usd=0.25)
        assert away.lab.sync("elsewhere").imported == ()
        assert ([row.ref for row in away.lab.charges(job.id)], spent(away)) == (["run-1"], 0.25)


def test_a_start_of_which_there_is_no_run_counts_for_nothing(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path, run_limit_s=1800.0) as away:
        blocked_at(away, 9.0)
        job = doubtful(away, images, start="away")
        away.lab.resolve(job.id, Decision.GIVE_UP)
        away.lab.sync("elsewhere")
        assert spent(away) == 1.8, "its provider cannot tell"
        away.place.fail()
        ruled_out_by_its_own_account(away, job)


def ruled_out_by_its_own_account(away: Away, job: Job) -> None:
    """A sync says that there was no such run, but not one of another account."""
    token = away.lab.home.secrets / "ELSEWHERE_TOKEN"
    token.parent.mkdir(exist_ok=True)
    token.write_text("e_bob")
    away.lab.sync("elsewhere")
    assert spent(away) == 1.8, "another account knows nothing of it"
    token.unlink()
    away.lab.sync("elsewhere")
    assert (spent(away), away.lab.charges(job.id)) == (0.0, ())


def test_a_run_that_is_not_in_the_list_is_found_by_its_tag(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path, run_limit_s=1800.0) as away:
        blocked_at(away, 9.0)
        job = given_up(away, images)
        away.place.fail(list="short")
        away.lab.sync("elsewhere")
        assert (away.place.runs()["run-1"]["state"], spent(away)) == ("cancelled", 1.8)
        away.place.change("run-1", cost_usd=0.5)
        away.lab.sync("elsewhere")
        assert ([row.ref for row in away.lab.charges(job.id)], spent(away)) == (["run-1"], 0.5)


def test_a_run_that_has_lost_its_tag_is_not_counted_beside_its_start(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path, run_limit_s=1800.0) as away:
        blocked_at(away, 9.0)
        job = given_up(away, images)
        away.place.change("run-1", tag=None, state="succeeded", cost_usd=0.5, created_at=away.clock.now)
        (found,) = away.lab.sync("elsewhere").imported
        assert ([row.job_id for row in away.lab.charges(found.id)], away.lab.charges(job.id)) == ([found.id], ())
        assert spent(away) == 0.5


def test_a_start_of_a_deleted_job_is_settled_like_any_other(tmp_path: Path, images: Path) -> None:
    """Its run has lost its tag, and is imported in its place; or there is none."""
    with away_lab(tmp_path, run_limit_s=1800.0) as away:
        blocked_at(away, 9.0)
        job = given_up(away, images)
        away.place.fail()
        away.lab.delete(job.id)
        away.place.change("run-1", tag=None, state="succeeded", cost_usd=0.5, created_at=away.clock.now)
        away.lab.sync("elsewhere")
        assert (spent(away), away.lab.charges(job.id), away.lab.money.spend(1).unpriced) == (0.5, (), 0)
    with away_lab(tmp_path / "other", run_limit_s=1800.0) as away:
        blocked_at(away, 9.0)
        job = doubtful(away, images, start="away")
        away.on(away.lab.resolve(job.id, Decision.GIVE_UP))
        away.place.fail()
        away.lab.delete(job.id)
        ruled_out_by_its_own_account(away, job)


def test_a_start_that_is_sent_again_may_be_paid_for_twice(tmp_path: Path, images: Path) -> None:
    """The first run counts for all it may cost, until it is found; the limit of a job has that in it too."""
    with away_lab(tmp_path, run_limit_s=1800.0) as away:
        blocked_at(away, 3.0)
        job = doubtful(away, images)
        away.place.fail()
        away.lab.resolve(job.id, Decision.RESEND)
        job = away.on(job)
        assert (spent(away), job.run.ref) == (1.8, "run-2")
        assert away.lab.charges(job.id)[-1].most_usd == pytest.approx(1.2), "that is left of the limit"
        away.lab.sync("elsewhere")
        away.place.change("run-1", cost_usd=0.1)
        away.lab.sync("elsewhere")
        assert spent(away) == pytest.approx(0.1)
    with away_lab(tmp_path / "other", run_limit_s=1800.0) as away:
        away.lab.money.set_limits({"job": {"amount_usd": 1.0}})
        job = doubtful(away, images)
        away.lab.resolve(job.id, Decision.RESEND)
        job = away.on(job)
        assert (job.state, job.failure.code, len(away.place.runs())) == (JobState.FAILED, "spend_limit", 1)


def test_a_provider_that_is_uninstalled_before_a_lost_start_is_found_leaves_it_in_doubt(
    tmp_path: Path, images: Path
) -> None:
    """Its job waits for its user like any other, and what its run may cost is booked when that is given up."""
    with away_lab(tmp_path, run_limit_s=1800.0) as away:
        blocked_at(away, 9.0)
        job = away.queued(images)
        away.place.fail(start="away after", find="away")
        job = away.on(job)
        assert (job.run.start_tried, job.run.ref) == (True, "")
        home, place, clock = away.lab.home, away.place, away.clock
    around = Surroundings(environment={}, clock=clock)
    with Lab(home, Store.open(home.database), Registry(()), around) as lab:
        away = Away(lab, place, clock)
        job = away.on(job)
        assert (job.state, job.waiting.startswith("the answer to its start was lost")) == (JobState.QUEUED, True)
        clock.now += PATIENCE_S
        job = away.on(job, 2)
        assert (job.state, job.uncertain, job.failure.code) == (JobState.QUEUED, True, "uncertain")
        lab.resolve(job.id, Decision.GIVE_UP)
        assert ([row.ref for row in lab.charges(job.id)], spent(away)) == ([f"start/{job.id}/1"], 1.8)
        assert lab.store.jobs.get(job.id).state is JobState.FAILED
    with away_lab(tmp_path, clock) as away:
        away.place.fail()
        away.place.change("run-1", cost_usd=0.25, state="succeeded")
        away.lab.sync("elsewhere")
        assert ([row.ref for row in away.lab.charges(job.id)], spent(away)) == (["run-1"], 0.25)


def test_what_is_free_is_never_in_doubt(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path, price=0.0) as away:
        assert away.lab.charges(given_up(away, images).id) == ()


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
