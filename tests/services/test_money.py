"""Money through the lab: the plan's verdict, the guard of a run, totals in the user's zone, and the words of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simpletuner_lab.core import errors
from simpletuner_lab.core.consent import ConsentState
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.spend import LimitAction
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.money import Money
from simpletuner_lab.services.planning import Planner
from simpletuner_lab.services.registry import Registry
from tests.services.remote_kit import START, Away, away_lab, elsewhere

RUN = 1.8
"""What a run of 1800 s at 3.6 $/h costs."""


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    with away_lab(tmp_path, run_limit_s=1800.0) as opened:
        yield opened


def limit(away: Away, amount: float, **more: Any) -> None:
    away.lab.money.set_limits({"total": {"enabled": True, "amount_usd": amount, "action": "block"} | more})


def of_job(away: Away, amount: float | None, **more: Any) -> None:
    away.lab.money.set_limits({"job": {"amount_usd": amount} | more})


def run(away: Away, number: int = 1) -> dict[str, Any]:
    return away.place.runs()[f"run-{number}"]


def lines(away: Away, job: Job) -> list[str]:
    """All that the timeline says of limits."""
    return [str(event.data["message"]) for event in away.lab.store.events.of_kind(job.id, EventKind.SPEND_LIMIT)]


def told(away: Away, job: Job) -> list[str]:
    """What of it came after the submit."""
    return [line for line in lines(away, job) if line not in away.lab.money.warning(job.id).warning]


def ended(away: Away, job: Job, cost: float, state: str = "interrupted") -> Job:
    """The job's run has ended, with a step more than the one before, and what it cost."""
    number = len(away.place.runs())
    away.place.step(f"run-{number}", number)
    away.place.change(f"run-{number}", state=state, metered_s=cost * 1000, cost_usd=cost)
    return away.on(job, 2)


# ------------------------------------------------------------ before a submit


def test_a_plan_has_the_verdict_before_anybody_agrees(away: Away, images: Path) -> None:
    plan = away.lab.plan(elsewhere(images))
    assert plan.spend is not None
    assert (plan.spend.allowed, plan.spend.reserved_usd, plan.spend.limits) == (True, RUN, ())
    limit(away, 1.0)
    plan = away.lab.plan(elsewhere(images))
    assert plan.spend is not None
    assert not plan.spend.allowed
    assert plan.spend.refusal in plan.warnings
    with pytest.raises(errors.SpendLimitReached) as refused:
        away.submit(images)
    assert (refused.value.status, refused.value.code) == (403, "spend_limit")
    assert "monthly spend limit of $1.00" in refused.value.message
    assert "stcloud limit" in refused.value.hint
    assert away.lab.store.jobs.active() == ()
    assert away.lab.plan(elsewhere(images)).consent is ConsentState.NEEDED, "after a refusal nothing is kept"


def test_what_an_unknown_provider_has_cost_is_no_answer(away: Away, images: Path) -> None:
    with pytest.raises(errors.ProviderNotFound):
        away.lab.money.spend(provider="nope")
    job = away.started(images)
    ended(away, job, 0.5)
    lab = away.lab
    planner = Planner(lab.store, Registry(()), lab.tokens, lab.known)
    nudge = lab.watcher.nudge_blocked
    gone = Money(lab.store, Registry(()), planner, lab.plan, away.clock, recorder=lab.recorder, changed=nudge)
    assert gone.spend(provider="elsewhere").total_usd == 0.5, "what is uninstalled has cost what it has cost"


def test_a_limit_that_warns_lets_it_pass_and_says_so(away: Away, images: Path) -> None:
    limit(away, 2.0)
    job = away.submit(images)
    assert "is at 90 %" in away.lab.money.warning(job.id).warning
    limit(away, 2.0, action="warn")
    again = away.submit(images)
    assert "would be passed: $0.00 spent, $1.80 reserved" in away.lab.money.warning(again.id).warning
    for one in (job, again):
        assert lines(away, one) == [away.lab.money.warning(one.id).warning]


def test_the_first_plan_of_a_key_is_answered_whatever_was_spent_since(away: Away, images: Path) -> None:
    limit(away, 2.0)
    asked = elsewhere(images)
    approve = away.lab.plan(asked).digest
    first = away.lab.submit(asked, approve=approve, key="k")
    assert away.lab.submit(asked, approve=approve, key="k").id == first.id


def test_no_price_is_not_free(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path, price=None, run_limit_s=1800.0) as away:
        limit(away, 1e6)
        with pytest.raises(errors.SpendLimitReached, match="not known, and that is not nothing"):
            away.submit(images)
        limit(away, 1e6, action="warn")
        away.submit(images)


# ------------------------------------------------------------ while it runs


def test_a_run_ends_before_the_limit_of_its_job(away: Away, images: Path) -> None:
    of_job(away, 1.0)
    job = away.started(images)
    assert run(away)["deadline_s"] == pytest.approx(900.0), "1000 s are paid for, less the time for a last checkpoint"
    (charge,) = away.lab.charges(job.id)
    assert charge.most_usd == pytest.approx(1.0)
    job = ended(away, job, 0.8)
    assert (job.state, job.attempt) == (JobState.QUEUED, 2)
    job = away.on(job, 2)
    assert run(away, 2)["deadline_s"] == pytest.approx(180.0), "the rest"
    job = ended(away, job, 0.19)
    job = away.on(job)
    assert (job.state, job.failure.code) == (JobState.FAILED, "spend_limit"), "nothing is left, and no wait helps"
    assert "the job may cost $1.00, and $0.0100 is left" in job.failure.message
    assert len(away.place.runs()) == 2
    assert job.cost_usd == pytest.approx(0.99)


def test_without_a_limit_nothing_is_shortened(away: Away, images: Path) -> None:
    of_job(away, 1.0, action="warn")
    limit(away, 0.5, action="warn")
    job = away.started(images)
    assert run(away)["deadline_s"] == 1620.0
    away.place.change("run-1", metered_s=850.0, cost_usd=0.85)
    away.on(job)
    away.place.change("run-1", metered_s=1100.0, cost_usd=1.1)
    away.on(job)
    away.place.change("run-1", metered_s=1200.0, cost_usd=1.2)
    assert away.on(job).state is JobState.RUNNING, "it is told, once each, and goes on"
    assert told(away, job) == [
        "it has cost $0.85 and passed 80 % of the limit of $1.00 a job",
        "it has cost $1.10 and passed the limit of $1.00 a job",
    ]


def test_a_period_that_is_used_up_is_waited_for(away: Away, images: Path) -> None:
    limit(away, 2.0, period="daily")
    job = away.started(images)
    job = ended(away, job, 1.7)
    limit(away, 1.7, period="daily")
    job = away.on(job, 3)
    assert (job.state, job.attempt, len(away.place.runs())) == (JobState.QUEUED, 2, 1)
    assert job.waiting.startswith("waits for money: the daily spend limit of $1.70")
    assert len(told(away, job)) == 1, "said once"
    away.clock.now += 86400
    job = away.on(job, 2)
    assert (job.state, len(away.place.runs()), job.waiting) == (JobState.RUNNING, 2, "")
    assert run(away, 2)["deadline_s"] == pytest.approx(1700 - 170)


def test_a_waiting_job_can_be_cancelled(away: Away, images: Path) -> None:
    job = away.queued(images)
    limit(away, 0.0)
    job = away.on(job, 2)
    assert job.waiting.startswith("waits for money")
    away.lab.cancel(job.id)
    assert away.on(job).state is JobState.CANCELLED


def test_a_run_that_passes_its_limit_all_the_same_is_ended_and_told(away: Away, images: Path) -> None:
    of_job(away, 1.0)
    job = away.started(images)
    away.place.change("run-1", metered_s=1010.0, cost_usd=1.01)
    job = away.on(job, 3)
    assert (job.state, run(away)["state"]) == (JobState.FAILED, "cancelled")
    ended = "its run went on past the $1.00 that was set aside for it ($1.01 so far): it is ended"
    assert told(away, job) == [
        "it has cost $1.01 and passed 80 % of the limit of $1.00 a job",
        "it has cost $1.01 and passed the limit of $1.00 a job",
        ended,
    ]
    assert (job.failure.code, job.failure.message) == ("spend_limit", ended)


def test_a_limit_that_is_lowered_ends_no_run(away: Away, images: Path) -> None:
    """It counts from the next run on; that the running one has passed it is told."""
    of_job(away, 5.0)
    job = away.started(images)
    of_job(away, 0.5)
    away.place.change("run-1", metered_s=600.0, cost_usd=0.6)
    job = away.on(job, 3)
    assert (job.state, job.cancel_requested_at, job.failure) == (JobState.RUNNING, None, None)
    assert told(away, job)[-1] == "it has cost $0.60 and passed the limit of $0.50 a job"
    job = away.on(ended(away, job, 0.7))
    assert (job.state, job.failure.code, len(away.place.runs())) == (JobState.FAILED, "spend_limit", 1)


# ------------------------------------------------------------ what nobody tells


def test_a_run_whose_cost_nobody_tells_is_not_free(away: Away, images: Path) -> None:
    limit(away, 3.0)
    job = away.started(images)
    away.deliver(job)
    away.place.change("run-1", state="succeeded")
    job = away.on(job, 3)
    assert (job.state, job.cost_usd) == (JobState.COMPLETED, None)
    with pytest.raises(errors.SpendLimitReached, match=r"\$1.80 spent"):
        away.submit(images)
    spent = away.lab.money.spend(1)
    assert (spent.total_usd, spent.runs, spent.unpriced) == (0.0, 1, 1)
    assert Front(away.lab).setup.billing("elsewhere").runs_without_price == 1
    away.place.change("run-1", cost_usd=0.25)
    away.lab.sync("elsewhere")
    assert away.lab.store.jobs.get(job.id).cost_usd == 0.25, "its provider tells it later"
    assert away.lab.money.spend(1).unpriced == 0
    away.submit(images)


def test_a_run_that_never_began_costs_nothing(away: Away, images: Path) -> None:
    limit(away, 2.0)
    job = away.started(images)
    away.lab.cancel(job.id)
    away.place.change("run-1", state="cancelled", metered_s=0.0)
    assert away.on(job, 2).state is JobState.CANCELLED
    assert (away.lab.money.spend(1).unpriced, away.lab.money.status("elsewhere").current_spend) == (0, 0.0)
    away.submit(images)


def test_a_run_that_nobody_meters_is_judged_by_the_clock(away: Away, images: Path) -> None:
    limit(away, 2.0)
    job = away.on(away.started(images))
    away.clock.now += 2000
    assert away.on(job).cancel_requested_at is None
    away.clock.now += 200
    assert away.on(job).cancel_requested_at is not None
    assert len(told(away, job)) == 1


def test_one_runs_end_makes_room_for_the_next(away: Away, images: Path) -> None:
    limit(away, 2.0)
    job = away.started(images)
    with pytest.raises(errors.SpendLimitReached):
        away.submit(images)
    away.deliver(job)
    away.place.change("run-1", state="succeeded", metered_s=100.0, cost_usd=0.1)
    assert away.on(job, 2).state is JobState.COMPLETED
    away.submit(images)


# ------------------------------------------------------------ totals


def test_totals_are_by_day_of_the_zone(away: Away, images: Path) -> None:
    """START is 2023-11-14T22:13:20Z: the 15th in Berlin from 46 minutes later on."""
    first = away.started(images)
    away.place.change("run-1", metered_s=500.0, cost_usd=0.5)
    away.on(first)
    away.clock.now = START + 3600
    second = away.started(images, name="the other")
    away.place.change("run-2", metered_s=250.0, cost_usd=0.25)
    away.on(second)
    spent = away.lab.money.spend(2)
    assert [(one.day, one.cost_usd, one.runs) for one in spent.by_day] == [
        ("2023-11-13", 0.0, 0), ("2023-11-14", 0.75, 2),
    ]  # fmt: skip
    away.lab.money.set_limits({"time_zone": "Europe/Berlin"})
    spent = away.lab.money.spend(2)
    assert [(one.day, one.cost_usd) for one in spent.by_day] == [("2023-11-14", 0.5), ("2023-11-15", 0.25)]
    assert (spent.total_usd, spent.runs, spent.unpriced, spent.since) == (0.75, 2, 0, "2023-11-14")
    assert [(one.name, one.cost_usd) for one in spent.by_provider] == [("elsewhere", 0.75)]
    assert [(one.name, one.cost_usd) for one in spent.by_user] == [("me", 0.75)]
    assert [(one.job_id, one.config_name, one.cost_usd) for one in spent.by_job] == [
        (first.id, first.name, 0.5), (second.id, "the other", 0.25),
    ]  # fmt: skip
    assert away.lab.money.spend(1).total_usd == 0.25


def test_what_is_shown_is_what_is_enforced(away: Away, images: Path) -> None:
    limit(away, 2.0)
    job = away.started(images)
    away.place.change("run-1", metered_s=1500.0, cost_usd=1.5)
    away.on(job)
    status = away.lab.money.status("elsewhere")
    assert (status.current_spend, status.committed, status.percent_used) == (1.5, pytest.approx(0.3), 90.0)
    assert (status.is_warning, status.is_exceeded, status.enabled) == (True, False, True)
    with pytest.raises(errors.SpendLimitReached, match=r"\$1.50 spent, \$0.30 reserved"):
        away.submit(images)
    board = away.lab.money.dashboard(30)
    assert (board.total_cost, board.job_count, board.jobs_by_status["running"]) == (1.5, 1, 1)
    assert (board.credit_balance, board.estimated_jobs_remaining) == (None, None)
    assert len(board.cost_by_day) == 30


def test_limits_are_set_member_by_member(away: Away) -> None:
    money = away.lab.money
    limit(away, 20.0)
    found = money.set_limits({"providers": {"elsewhere": {"enabled": True, "amount_usd": 5, "period": "weekly"}}})
    assert (found.limits.total.amount_usd, found.limits.total.action) == (20.0, LimitAction.BLOCK)
    assert [state.scope for state in found.states] == ["elsewhere", "all"]
    assert money.status("elsewhere").scope in {"elsewhere", "all"}
    for wrong in (
        {"total": {"amount_usd": -1}}, {"total": {"period": "yearly"}}, {"time_zone": "Mars"}, {"colour": 1},
        {"job": {"amount_usd": "5"}}, {"providers": {"elsewhere": {"action": "shrug"}}}, {"total": {"amount_usd": True}},
    ):  # fmt: skip
        with pytest.raises(errors.InvalidRequest):
            money.set_limits(wrong)
    with pytest.raises(errors.ProviderNotFound):
        money.set_limits({"providers": {"nobody": {"enabled": True}}})
    assert money.limits() == found, "what was refused changed nothing"


def test_the_keys_among_a_providers_settings(away: Away, images: Path) -> None:
    setup = Front(away.lab).setup
    found = setup.change(
        "elsewhere", {"cost_limit_enabled": True, "cost_limit_amount": 1, "cost_limit_action": "block"}
    )
    assert found.config["cost_limit_amount"] == 1.0
    assert [field.name for field in found.fields][-4:] == [
        "cost_limit_enabled", "cost_limit_amount", "cost_limit_period", "cost_limit_action",
    ]  # fmt: skip
    assert found.fields[-1].choices == ("warn", "block")
    with pytest.raises(errors.SpendLimitReached, match="for elsewhere"):
        away.submit(images)
    with pytest.raises(errors.InvalidRequest):
        setup.change("elsewhere", {"cost_limit_amount": 9, "run_limit_s": "long"})
    with pytest.raises(errors.InvalidRequest):
        setup.change("elsewhere", {"cost_limit_period": "yearly", "run_limit_s": 60})
    found = setup.config("elsewhere")
    assert (found.config["cost_limit_amount"], found.config["run_limit_s"]) == (1.0, 1800.0), "as a whole or not at all"
    setup.change("elsewhere", {"cost_limit_enabled": False, "run_limit_s": 60})
    away.submit(images)


def test_an_estimate_is_a_plans(away: Away, images: Path) -> None:
    asked = elsewhere(images)
    found = away.lab.money.estimate(asked)
    assert (found.has_estimate, found.estimated_cost_usd, found.hardware_cost_per_hour) == (False, None, 3.6)
    assert found.message == "no finished run like this one yet, and no figures are published for A GPU"
    assert found.data_size_mb == away.lab.plan(asked).identity.manifest.bytes / 1e6
    job = away.started(images)
    away.place.step("run-1", 12)
    away.deliver(job)
    away.place.change("run-1", state="succeeded", metered_s=30.0, cost_usd=0.03)
    away.on(job, 2)
    found = away.lab.money.estimate(dataclasses.replace(asked, name="again"))
    assert found.has_estimate
    assert found.estimated_cost_low_usd <= found.estimated_cost_usd <= found.estimated_cost_high_usd
    assert found.message == "median of 1 finished run like this one"
    assert away.lab.money.hardware().hardware[0].as_of == "2026-01-01"
