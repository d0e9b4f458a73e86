"""Loss curves as plotly figures, for analysis; the live chart of a widget is the browser's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.results import Metrics

if TYPE_CHECKING:
    from plotly import graph_objects as go

_COLOURS: Final = ("#2f7de1", "#e0662f", "#2f9e6e", "#a052c4", "#c99a12", "#d6457c")
_RATE_COLOUR: Final = "#8a8f98"
_FAINT: Final = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A curve and what it is called in a legend."""

    name: str
    metrics: Metrics


def draw_losses(runs: Sequence[Run], *, smoothing: float = 0.6, log: bool = False) -> go.Figure:
    """The loss of one run with its learning rate, or the losses of several.

    Args:
        runs: what to draw, each in a colour of its own.
        smoothing: weight of the past in an exponential mean, 0 (none) to less than 1; the measured loss stays behind it.
        log: a logarithmic axis for the loss.

    Raises:
        InvalidRequest: smoothing is out of range.
    """
    from plotly import graph_objects as go

    if not 0 <= smoothing < 1:
        raise InvalidRequest(f"smoothing is at least 0 and less than 1, not {smoothing:g}")
    figure = go.Figure()
    for number, run in enumerate(runs):
        for trace in _traces(run, _COLOURS[number % len(_COLOURS)], smoothing):
            figure.add_trace(go.Scatter(trace))
    loss_axis = {"title": {"text": "loss"}, "type": "log" if log else "linear", "rangemode": "normal"}
    figure.update_layout(
        xaxis={"title": {"text": "step"}},
        yaxis=loss_axis,
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.12},
        margin={"l": 60, "r": 60, "t": 40, "b": 50},
    )
    if len(runs) == 1 and len(runs[0].metrics):
        _add_rate(figure, runs[0].metrics)
    return figure


def smoothed(values: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """The exponential mean of a curve, without the pull of its start towards zero. NaN is passed over."""
    result = np.empty_like(values)
    mean = total = 0.0
    for index, value in enumerate(values):
        if not np.isnan(value):
            mean = weight * mean + (1 - weight) * value
            total = weight * total + (1 - weight)
        result[index] = mean / total if total else np.nan
    return result


def _traces(run: Run, colour: str, smoothing: float) -> list[dict[str, Any]]:
    metrics = run.metrics
    line = {"x": metrics.step, "mode": "lines", "line": {"color": colour}, "legendgroup": run.name}
    if not smoothing:
        return [line | {"y": metrics.loss, "name": run.name}]
    measured = {"y": metrics.loss, "opacity": _FAINT, "showlegend": False, "hoverinfo": "skip", "name": run.name}
    return [line | measured, line | {"y": smoothed(metrics.loss, smoothing), "name": run.name}]


def _add_rate(figure: go.Figure, metrics: Metrics) -> None:
    """The learning rate, dotted, on an axis of its own."""
    figure.add_scatter(
        x=metrics.step,
        y=metrics.lr,
        name="learning rate",
        yaxis="y2",
        mode="lines",
        line={"color": _RATE_COLOUR, "dash": "dot", "width": 1},
    )
    axis = {"title": {"text": "learning rate"}, "overlaying": "y", "side": "right", "showgrid": False}
    figure.update_layout(yaxis2=axis)
