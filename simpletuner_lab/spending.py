"""What was spent, as values and as a plotly figure, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

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
    """The same as a figure: a bar for each day, their sum, and the limit of a day or a month.

    Raises:
        InvalidRequest: days are not 1 to 365.
    """
    return draw_spend(spend(days, provider=provider, client=client))


def draw_spend(found: SpendView) -> go.Figure:
    """The figure of what was spent. What is not known is not drawn; the title counts it."""
    from plotly import graph_objects as go

    figure = go.Figure()
    days = [one.day for one in found.by_day]
    costs = [one.cost_usd for one in found.by_day]
    sums = [sum(costs[: number + 1]) for number in range(len(costs))]
    figure.add_trace(go.Bar({"x": days, "y": costs, "name": "a day", "marker": {"color": _BAR_COLOUR}}))
    line: dict[str, Any] = {"x": days, "y": sums, "name": "sum", "mode": "lines", "line": {"color": _SUM_COLOUR}}
    figure.add_trace(go.Scatter(line))
    for state in found.limits:
        _add_limit(figure, state, days)
    unpriced = f", {found.unpriced} runs at a price that is not known" if found.unpriced else ""
    figure.update_layout(
        title={"text": f"{dollars(found.total_usd)} since {found.since}{unpriced}"},
        xaxis={"title": {"text": f"day ({found.time_zone})"}, "type": "date"},
        yaxis={"title": {"text": "US dollars"}, "rangemode": "tozero"},
        legend={"orientation": "h", "y": 1.12},
        margin={"l": 60, "r": 40, "t": 60, "b": 50},
    )
    return figure


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
