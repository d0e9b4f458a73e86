"""What was spent, as values and as a plotly figure, for notebooks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from simpletuner_lab.client import Client, connect
from simpletuner_lab.core.spend import ALL, Period, dollars
from simpletuner_lab.core.verdict import LimitState
from simpletuner_lab.services.money_views import USUAL_DAYS, SpendView

if TYPE_CHECKING:
    from plotly import graph_objects as go

_BAR_COLOUR: Final = "#2f7de1"
_SUM_COLOUR: Final = "#e0662f"
_LIMIT_COLOUR: Final = "#d6457c"


def spend(days: int = USUAL_DAYS, *, provider: str = "", client: Client | None = None) -> SpendView:
    """What was spent in the last calendar days, by day, provider, user and job, and where the limits stand.

    Raises:
        InvalidRequest: days are not 1 to 365.
    """
    return (client or connect()).money.spend(days, provider=provider)


def spend_figure(days: int = USUAL_DAYS, *, provider: str = "", client: Client | None = None) -> go.Figure:
    """The same as a figure: a bar for each day, the limits, and beside each what is spent of it in its period.

    Raises:
        InvalidRequest: days are not 1 to 365.
    """
    return draw_spend(spend(days, provider=provider, client=client), scope=provider or ALL)


def draw_spend(found: SpendView, *, scope: str = ALL) -> go.Figure:
    """The figure of what was spent, on everything or at the provider that `scope` names.

    What is not known is not drawn; the title counts it.
    """
    from plotly import graph_objects as go

    figure = go.Figure()
    days = [one.day for one in found.by_day]
    costs = {one.day: one.cost_usd for one in found.by_day}
    figure.add_trace(go.Bar({"x": days, "y": list(costs.values()), "name": "a day", "marker": {"color": _BAR_COLOUR}}))
    states = [state for state in found.limits if state.period is not Period.DAILY]
    of_these = [state for state in states if state.scope == scope]
    for state in of_these:
        _add_sum(figure, {day: cost for day, cost in costs.items() if day >= state.since}, state)
    if not of_these:
        _add_sum(figure, costs)
    for state in states:
        if state not in of_these:
            _add_spent(figure, state, days[-1])
    for state in found.limits:
        _add_limit(figure, state, days)
    runs = "1 run" if found.unpriced == 1 else f"{found.unpriced} runs"
    unpriced = f", {runs} whose cost is not known" if found.unpriced else ""
    figure.update_layout(
        title={"text": f"{dollars(found.total_usd)} since {found.since}{unpriced}"},
        xaxis={"title": {"text": f"day ({found.time_zone})"}, "type": "date"},
        yaxis={"title": {"text": "US dollars"}, "rangemode": "tozero"},
        legend={"orientation": "h", "y": 1.12},
        margin={"l": 60, "r": 40, "t": 60, "b": 50},
    )
    return figure


def _add_sum(figure: go.Figure, costs: Mapping[str, float], state: LimitState | None = None) -> None:
    """What the days come to; beside a limit from where its period begins, and up to what it counts as spent."""
    sums = list(itertools.accumulate(costs.values()))
    before = 0.0 if state is None or state.spent_usd is None else state.spent_usd - (sums[-1] if sums else 0.0)
    figure.add_scatter(
        x=list(costs),
        y=[before + one for one in sums],
        name="sum" if state is None else f"spent, {state.period}",
        mode="lines",
        line={"color": _SUM_COLOUR},
    )


def _add_spent(figure: go.Figure, state: LimitState, today: str) -> None:
    """Of a limit whose days are not those that are shown: what it counts as spent by now."""
    figure.add_scatter(
        x=[today],
        y=[state.spent_usd],
        name=f"spent of {_whose(state)}",
        mode="markers",
        marker={"color": _SUM_COLOUR, "symbol": "diamond"},
    )


def _whose(state: LimitState) -> str:
    return f"the {state.period} limit" if state.scope == ALL else f"the {state.period} limit of {state.scope}"


def _add_limit(figure: go.Figure, state: LimitState, days: list[str]) -> None:
    """A dashed line over the days of its period that are shown; a day's limit over all of them."""
    begins = days[0] if state.period is Period.DAILY else max(days[0], state.since)
    whose = "limit" if state.scope == ALL else f"limit of {state.scope}"
    figure.add_scatter(
        x=[begins, days[-1]],
        y=[state.amount_usd] * 2,
        name=f"{whose}, {state.period}",
        mode="lines",
        line={"color": _LIMIT_COLOUR, "dash": "dash", "width": 1},
    )
