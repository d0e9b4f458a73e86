"""Calendar periods over every kind of clock change, and what limits say of a job."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simpletuner_lab.core.allowance import allow, is_overrun
from simpletuner_lab.core.book import Book, Claim, Holding, claim_of, counted_usd
from simpletuner_lab.core.cost import Estimate
from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.core.ledger import Charge
from simpletuner_lab.core.spend import (
    JobLimit,
    LimitAction,
    Period,
    SpendLimit,
    SpendLimits,
    day_of,
    dollars,
    midnight,
    span,
)
from simpletuner_lab.core.verdict import judge, state_of

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC).timestamp()
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana", "Asia/Kathmandu", "Asia/Beirut",
    "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham", "Atlantic/Azores", "America/St_Johns",
)  # fmt: skip


def at(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def local(moment: float, zone: str) -> str:
    return datetime.fromtimestamp(moment, ZoneInfo(zone)).isoformat()


@given(st.integers(0, 2**31), st.sampled_from(ZONES), st.sampled_from(list(Period)))
@example(int(at("2018-11-04T00:30", "America/Sao_Paulo")), "America/Sao_Paulo", Period.DAILY)  # midnight is jumped over
@example(int(at("2011-12-29T12:00", "Pacific/Apia")), "Pacific/Apia", Period.DAILY)  # the next day never was
@example(int(at("2026-10-25T02:30", "Europe/Berlin")), "Europe/Berlin", Period.DAILY)  # an hour is there twice
def test_every_moment_is_in_its_period_and_periods_meet(moment: int, zone: str, period: Period) -> None:
    clock = ZoneInfo(zone)
    first, after = span(period, moment, clock)
    assert first <= moment < after
    assert span(period, first, clock) == (first, after), "its first second is in it"
    assert span(period, after - 0.001, clock)[0] == first, "so is its last"
    assert span(period, after, clock)[0] == after, "and then the next one begins"
    day = day_of(first, clock)
    assert period is not Period.WEEKLY or day.weekday() == 0 or zone == "Pacific/Apia"
    assert period is not Period.MONTHLY or day.day == 1


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("America/Sao_Paulo", "2018-11-04", 23),
        ("America/Havana", "2025-11-02", 25),
        ("UTC", "2026-03-29", 24),
    ],
)
def test_days_are_as_long_as_they_are(zone: str, day: str, hours: float) -> None:
    noon = at(f"{day}T12:00", zone)
    first, after = span(Period.DAILY, noon, ZoneInfo(zone))
    assert (after - first) / 3600 == hours
    assert local(after, zone).startswith((date.fromisoformat(day) + timedelta(days=1)).isoformat())


def test_borders_of_weeks_months_and_years() -> None:
    zone = ZoneInfo("Europe/Berlin")
    new_year = at("2027-01-01T00:00", "Europe/Berlin")
    assert span(Period.MONTHLY, new_year - 1, zone) == (at("2026-12-01T00:00", "Europe/Berlin"), new_year)
    week = span(Period.WEEKLY, new_year, zone)
    assert [local(one, "Europe/Berlin")[:16] for one in week] == ["2026-12-28T00:00", "2027-01-04T00:00"]
    assert midnight(date(2027, 1, 1), UTC) == new_year + 3600, "in another zone it is another moment"


# ------------------------------------------------------------ claims


def estimate(low: float | None, high: float | None, price: float = 3.6) -> Estimate:
    usd = [None if one is None else one * price / 3600 for one in (low, high)]
    return Estimate(seconds_low=low, seconds_high=high, usd_low=usd[0], usd_high=usd[1], basis="")


@pytest.mark.parametrize(
    ("found", "price", "limit_s", "goes_on", "most"),
    [
        (estimate(None, None), 3.6, 1800.0, True, 1.8),  # deadline times price
        (estimate(100, 200), 3.6, 1800.0, True, 1.8),  # a run may take it all, whatever was guessed
        (estimate(2000, 4000), 3.6, 1800.0, True, 5.4),  # three runs
        (estimate(2000, 4000), 3.6, 1800.0, False, 1.8),  # one, and it is ended
        (estimate(100, 200), 3.6, None, True, 0.2),  # the upper estimate
        (estimate(None, None), 3.6, None, True, None),
        (estimate(100, 200), None, 1800.0, True, None),  # no price is not free
        (estimate(100, 200), 0.0, None, True, 0.0),
    ],
)
def test_a_claim_is_deadline_times_price_else_the_upper_estimate(
    found: Estimate, price: float | None, limit_s: float | None, goes_on: bool, most: float | None
) -> None:
    claim = claim_of(found, price, limit_s, goes_on=goes_on)
    assert claim.most_usd == (most if most is None else pytest.approx(most))
    assert claim.least_usd is None or claim.most_usd is None or claim.least_usd <= claim.most_usd


# ------------------------------------------------------------ verdicts

EMPTY = Book(charges=(), holdings=())
DEAR = Claim(most_usd=4.0, least_usd=2.0, usd_per_hour=3.6)


def charge(ref: str = "r", **parts: object) -> Charge:
    made = Charge(
        provider="p", ref=ref, job_id="j", attempt=1, account="", hardware="g", usd_per_hour=3.6, updated_at=NOW,
        opened_at=NOW, metered_s=1.0, cost_usd=1.0, final=True, owner="ann",
    )  # fmt: skip
    return dataclasses.replace(made, **parts)


def limits(amount: float, action: LimitAction = LimitAction.BLOCK, **more: object) -> SpendLimits:
    return SpendLimits(total=SpendLimit(enabled=True, amount_usd=amount, action=action), **more)


def told(claim: Claim, set_: SpendLimits, book: Book = EMPTY) -> tuple[bool, str, str]:
    found = judge(claim, "p", set_, book, now=NOW, zone=UTC)
    return found.allowed, found.refusal, " ".join(found.warnings)


def test_what_is_only_assumed_of_what_is_spent_is_told_apart() -> None:
    """Runs that are over and of which nobody told the cost, or only a part, count for all that they may have cost."""
    known = charge(cost_usd=2.1)
    silent = charge("s", cost_usd=None, metered_s=None, most_usd=0.8)
    half = charge("h", cost_usd=0.2, final=False, most_usd=0.5)
    free = charge("f", cost_usd=None, usd_per_hour=0.0)
    never = charge("n", cost_usd=None, metered_s=0.0, most_usd=0.0)
    book = Book(charges=(known, silent, half, free, never), holdings=())
    state = state_of("all", SpendLimit(enabled=True, amount_usd=5.0), book, now=NOW, zone=UTC)
    assert (state.spent_usd, state.assumed_usd, state.assumed_runs) == pytest.approx((3.4, 1.1, 2))
    whole = "$3.40 spent ($1.10 of it assumed for 2 runs whose cost nobody told), $0.00 reserved"
    allowed, refusal, _ = told(DEAR, limits(5.0), book)
    assert not allowed
    assert whole in refusal
    assert "stcloud cost JOB USD" in judge(DEAR, "p", limits(5.0), book, now=NOW, zone=UTC).hint
    assert whole in told(DEAR, limits(8.0), book)[2], "a warning says it too"
    one = Book(charges=(known, silent), holdings=())
    assert "($0.80 of it assumed for 1 run whose cost nobody told)" in told(DEAR, limits(5.0), one)[1]
    assert "assumed" not in told(DEAR, limits(5.0), Book(charges=(known, known), holdings=()))[1]
    holding = Holding(job_id="mine", provider="p", reserved_usd=4.0, attempt=1)
    refused = allow(holding, 3.6, 3600.0, limits(3.4), book, now=NOW, zone=UTC)
    assert refused.refusal.endswith(
        "$0.00 is left of that ($3.40 spent, $1.10 of it assumed for 2 runs whose cost nobody told)"
    )


def test_a_run_that_goes_on_is_not_assumed() -> None:
    going = charge(cost_usd=0.3, final=False, most_usd=1.0)
    held = Holding(job_id="j", provider="p", reserved_usd=1.0, attempt=1, charges=(going,))
    state = state_of("all", SpendLimit(enabled=True, amount_usd=5.0), Book(charges=(going,), holdings=(held,)), now=NOW, zone=UTC)  # fmt: skip
    assert (state.spent_usd, state.assumed_usd, state.assumed_runs) == (0.3, 0.0, 0)


def test_blocking_and_warning() -> None:
    spent = Book(charges=(charge(cost_usd=7.0),), holdings=())
    assert told(DEAR, limits(20.0), spent) == (True, "", "")
    allowed, refusal, warning = told(DEAR, limits(12.0), spent)
    assert (allowed, refusal) == (True, "")
    assert "is at 92 %" in warning
    assert "$7.00 spent" in warning
    allowed, refusal, _ = told(DEAR, limits(10.0), spent)
    assert not allowed
    for part in (
        "monthly spend limit of $10.00",
        "2026-03-01",
        "2026-04-01",
        "$7.00 spent",
        "up to $4.00 for this job",
    ):
        assert part in refusal
    assert told(DEAR, limits(10.0, LimitAction.WARN), spent)[:2] == (True, "")
    assert "would be passed" in told(DEAR, limits(10.0, LimitAction.WARN), spent)[2]
    assert told(DEAR, limits(11.0), spent)[0], "exactly the limit is within it"


def test_what_other_jobs_hold_counts() -> None:
    held = Holding(job_id="a", provider="p", reserved_usd=5.0, attempt=1, charges=(charge(job_id="a", final=False),))
    book = Book(charges=held.charges, holdings=(held,))
    (state,) = judge(DEAR, "p", limits(9.0), book, now=NOW, zone=UTC).limits
    assert (state.spent_usd, state.committed_usd, state.with_job_usd) == (1.0, 4.0, 9.0), (
        "what is spent is not held twice"
    )
    assert not told(DEAR, limits(8.9), book)[0]


def test_limits_of_a_provider_are_its_own() -> None:
    one = SpendLimits(providers={"p": SpendLimit(enabled=True, amount_usd=1.0, action=LimitAction.BLOCK)})
    assert not judge(DEAR, "p", one, EMPTY, now=NOW, zone=UTC).allowed
    assert judge(DEAR, "q", one, EMPTY, now=NOW, zone=UTC).allowed


def test_what_is_not_known_is_not_nothing() -> None:
    unknown = Claim(most_usd=None, least_usd=None, usd_per_hour=None)
    assert not told(unknown, limits(1e9))[0], "where a limit blocks, null blocks"
    allowed, _, warning = told(unknown, limits(1e9, LimitAction.WARN))
    assert allowed
    assert "not nothing" in warning
    assert told(unknown, SpendLimits())[0]
    unpriced = Book(charges=(charge(cost_usd=None),), holdings=())
    assert not told(DEAR, limits(1e9), unpriced)[0], "nor of what others have cost"
    open_end = Book(charges=(), holdings=(Holding(job_id="a", provider="p", reserved_usd=None, attempt=1),))
    assert not told(DEAR, limits(1e9), open_end)[0], "nor of what they may cost"
    free = Claim(most_usd=0.0, least_usd=0.0, usd_per_hour=0.0)
    assert told(free, limits(0.0), unpriced) == (True, "", ""), "what is free is free"
    assert not told(unknown, SpendLimits(job=JobLimit(amount_usd=9.0)))[0]


def test_the_limit_of_a_job() -> None:
    def of(amount: float, action: LimitAction = LimitAction.BLOCK) -> SpendLimits:
        return SpendLimits(job=JobLimit(amount_usd=amount, action=action))

    assert told(DEAR, of(5.0)) == (True, "", "")
    found = judge(DEAR, "p", of(3.0), EMPTY, now=NOW, zone=UTC)
    assert (found.allowed, found.reserved_usd) == (True, 3.0), "it is ended at that, so that is what it may cost"
    assert "ended before that, with a checkpoint" in found.warnings[0]
    assert "estimated at $2.00 or more" in told(DEAR, of(1.0))[1]
    assert told(DEAR, of(1.0, LimitAction.WARN))[0]
    assert judge(DEAR, "p", of(1.0, LimitAction.WARN), EMPTY, now=NOW, zone=UTC).reserved_usd == 4.0
    unknown = Claim(most_usd=None, least_usd=None, usd_per_hour=3.6)
    assert judge(unknown, "p", of(3.0), EMPTY, now=NOW, zone=UTC).reserved_usd == 3.0
    assert "less than a minute" in told(unknown, of(0.01))[1]


def test_a_run_that_is_gone_counts_for_all_it_may_have_cost() -> None:
    gone = charge(final=False, cost_usd=0.2, most_usd=1.8)
    assert counted_usd(gone, current=True) == 0.2
    assert counted_usd(gone, current=False) == 1.8
    assert counted_usd(dataclasses.replace(gone, most_usd=None), current=False) is None


def test_a_run_of_which_nobody_tells_the_cost_is_not_free() -> None:
    """It has ended, and that is all that its provider says of it."""
    untold = charge(cost_usd=None, metered_s=None, most_usd=1.8)
    assert [counted_usd(untold, current=current) for current in (True, False)] == [1.8, 1.8]
    assert counted_usd(dataclasses.replace(untold, most_usd=None), current=False) is None
    assert counted_usd(dataclasses.replace(untold, metered_s=0.0), current=False) == 0.0, "it never began"
    assert counted_usd(dataclasses.replace(untold, usd_per_hour=0.0), current=False) == 0.0, "it is free"
    assert not told(DEAR, limits(5.0), Book(charges=(untold,), holdings=()))[0]
    assert told(DEAR, limits(6.0), Book(charges=(untold,), holdings=()))[0]


@pytest.mark.parametrize("amount", [-1.0, math.nan, math.inf])
def test_amounts_that_are_none(amount: float) -> None:
    with pytest.raises(InvalidRequest):
        SpendLimit(amount_usd=amount)
    with pytest.raises(InvalidRequest):
        JobLimit(amount_usd=amount)


# ------------------------------------------------------------ runs

MINE = Holding(job_id="a", provider="p", reserved_usd=1.8, attempt=1)


def test_a_run_gets_what_is_left() -> None:
    def left(set_: SpendLimits, holding: Holding = MINE, limit_s: float | None = 1800.0) -> object:
        return allow(holding, 3.6, limit_s, set_, Book(charges=(), holdings=(holding,)), now=NOW, zone=UTC)

    assert left(SpendLimits()).seconds is None
    assert (left(limits(10.0)).seconds, left(limits(10.0)).run_usd) == (None, 1.8)
    assert left(limits(1.0)).seconds == pytest.approx(1000)
    assert left(SpendLimits(job=JobLimit(amount_usd=0.5))).seconds == pytest.approx(500)
    assert left(limits(1.0, LimitAction.WARN)).seconds is None
    spent = dataclasses.replace(MINE, attempt=2, charges=(charge(job_id="a", cost_usd=0.48),))
    used_up = left(SpendLimits(job=JobLimit(amount_usd=0.5)), spent)
    assert (used_up.for_good, bool(used_up.refusal)) == (True, True)
    assert not left(limits(0.01)).for_good
    no_end = left(limits(10.0), limit_s=None)
    assert (no_end.run_usd, no_end.seconds) == (1.8, pytest.approx(1800)), "what is reserved bounds it"


def test_past_what_was_paid_for() -> None:
    running = charge(final=False, cost_usd=1.0, most_usd=1.8)
    assert not is_overrun(running, now=NOW)
    assert is_overrun(dataclasses.replace(running, cost_usd=1.81), now=NOW)
    assert not is_overrun(dataclasses.replace(running, cost_usd=9.0, most_usd=None), now=NOW), "nothing was set aside"
    untold = dataclasses.replace(running, cost_usd=None, metered_s=None)
    assert not is_overrun(untold, now=NOW + 2000)
    assert is_overrun(untold, now=NOW + 2200)


def test_a_refusal_does_not_contradict_itself() -> None:
    """Where a cent hides what is too much, there are more digits."""
    asks = Claim(most_usd=1.755, least_usd=1.755, usd_per_hour=3.6)
    refusal = told(asks, limits(1.75))[1]
    assert "limit of $1.75 " in refusal
    assert "$0.00 spent" in refusal
    assert "up to $1.755 for this job" in refusal
    spent = Book(charges=(charge(cost_usd=1.0004),), holdings=())
    refusal = told(dataclasses.replace(asks, most_usd=1.0), limits(2.0), spent)[1]
    assert "$1.0004 spent, $0.00 reserved by jobs under way, up to $1.00" in refusal
    assert (
        "a job may cost $1.75, and this one is estimated at $1.755"
        in told(asks, SpendLimits(job=JobLimit(amount_usd=1.75)))[1]
    )
    assert "limit of $1.755 " in told(DEAR, limits(1.755))[1], "a limit is shown as it was set"
    assert [dollars(amount) for amount in (0.0, 0.01, 0.5, 2.0)] == ["$0.00", "$0.0100", "$0.50", "$2.00"]


def test_the_next_run_may_cost_what_the_one_before_might() -> None:
    """And not all that a limit leaves, although nothing of its estimate is left: its start was in doubt, and is sent again."""
    lost = charge(most_usd=0.54, cost_usd=None, metered_s=None)
    holding = Holding(job_id="j", provider="p", reserved_usd=0.54, attempt=2, charges=(lost,))
    book = Book(charges=(lost,), holdings=(holding,))
    allowed = allow(holding, 3.6, None, limits(40.0), book, now=NOW, zone=UTC)
    assert (allowed.refusal, allowed.run_usd) == ("", pytest.approx(0.54))
    assert allowed.reserved_usd == pytest.approx(1.08)


def test_whose_cost_is_not_known_is_named() -> None:
    unknown = tuple(
        charge(f"r{n}", job_id=f"job{n}", usd_per_hour=None, cost_usd=None, metered_s=None) for n in range(5)
    )
    book = Book(charges=(charge(), *unknown), holdings=())
    found = judge(Claim(most_usd=1.0, least_usd=0.5, usd_per_hour=3.6), "p", limits(9.0), book, now=NOW, zone=UTC)
    assert "what job job0, job1, job2 and 2 more has cost or may cost is not known" in found.refusal
    assert "stcloud cost JOB USD" in found.hint
    over = judge(
        Claim(most_usd=9.0, least_usd=0.5, usd_per_hour=3.6),
        "p",
        limits(9.0),
        Book(charges=(charge(),), holdings=()),
        now=NOW,
        zone=UTC,
    )
    assert "stcloud cost" not in over.hint
