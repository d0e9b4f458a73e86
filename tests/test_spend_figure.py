"""The figure of what was spent: each limit beside what counts for it, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from simpletuner_lab.core.spend import LimitAction, Period
from simpletuner_lab.core.verdict import LimitState
from simpletuner_lab.services.money_views import DaySpend, SpendView
from simpletuner_lab.spending import draw_spend

COSTS = {"2026-10-30": 20.0, "2026-10-31": 15.0, "2026-11-01": 1.5, "2026-11-02": 0.0, "2026-11-03": 0.25}


def limit(scope: str = "all", **more: Any) -> LimitState:
    fields = {
        "scope": scope, "amount_usd": 10.0, "period": Period.MONTHLY, "action": LimitAction.WARN, "spent_usd": 2.0,
        "committed_usd": 0.0, "since": "2026-11-01", "until": "2026-12-01",
    }  # fmt: skip
    return LimitState(**fields | more)


def view(*limits: LimitState, unpriced: int = 0) -> SpendView:
    days = tuple(DaySpend(day=day, cost_usd=cost, runs=1, unpriced=0) for day, cost in COSTS.items())
    return SpendView(
        days=5, time_zone="UTC", since="2026-10-30", total_usd=sum(COSTS.values()), runs=5, unpriced=unpriced, by_day=days,
        by_provider=(), by_user=(), by_job=(), limits=limits,
    )  # fmt: skip


def drawn(*limits: LimitState, **more: Any) -> dict[str, Any]:
    figure = draw_spend(view(*limits), **more)
    return {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data if trace.name != "a day"}


def test_without_a_limit_the_days_are_added_up() -> None:
    assert drawn()["sum"][1] == [20.0, 35.0, 36.5, 36.5, 36.75]


def test_beside_a_limit_is_what_was_spent_in_its_period_as_it_counts() -> None:
    """October is over, so is what it cost; a quarter of a dollar is assumed of a run that nobody priced."""
    found = drawn(limit())
    assert set(found) == {"spent, monthly", "limit, monthly"}
    assert found["spent, monthly"] == (list(COSTS)[2:], pytest.approx([1.75, 1.75, 2.0]))
    assert found["limit, monthly"] == (["2026-11-01", "2026-11-03"], [10.0, 10.0])
    assert drawn(limit(spent_usd=None))["spent, monthly"][1] == [1.5, 1.5, 1.75], "by the days alone"


def test_a_day_has_its_bar_and_another_scope_its_spent_alone() -> None:
    assert set(drawn(limit(period=Period.DAILY))) == {"sum", "limit, daily"}
    found = drawn(limit("away", spent_usd=0.5))
    assert found["spent of the monthly limit of away"] == (["2026-11-03"], [0.5])
    assert "sum" in found
    assert set(drawn(limit("away"), scope="away")) == {"spent, monthly", "limit of away, monthly"}


@pytest.mark.parametrize(
    ("unpriced", "told"), [(0, ""), (1, ", 1 run whose cost"), (2, ", 2 runs whose cost is not known")]
)
def test_the_title_counts_what_is_not_drawn(unpriced: int, told: str) -> None:
    title = draw_spend(view(unpriced=unpriced)).layout.title.text
    assert title.startswith(f"$36.75 since 2026-10-30{told}")
