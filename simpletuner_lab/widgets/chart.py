"""A loss curve as a still picture: SVG in the colours of whatever page it stands on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from simpletuner_lab.services.views import MetricsView

_WIDTH: Final = 640
_HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 10, 30
_LINE: Final = "#3b82f6"
"""Stands out on white and on black."""
_STEPS: Final = (1.0, 2.0, 5.0, 10.0)
_RATE_DIGITS: Final = 3


def draw_curve(curve: MetricsView) -> str:
    """The loss over the steps with a few ticks; empty where there is no loss to draw."""
    points = [(step, loss) for step, loss in zip(curve.step, curve.loss, strict=True)]
    known = [loss for _, loss in points if loss is not None and math.isfinite(loss)]
    if not known:
        return ""
    across = _Axis.over([step for step, _ in points], _LEFT, _WIDTH - _RIGHT, wanted=6)
    up = _Axis.over(known, _HEIGHT - _BOTTOM, _TOP, wanted=5)
    label = f"Loss over {curve.step[-1]} steps, from {known[0]:.{_RATE_DIGITS}g} to {known[-1]:.{_RATE_DIGITS}g}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}" '
        f'style="width:100%;max-width:{_WIDTH}px;height:auto;display:block">'
        f'<g stroke="currentColor" stroke-opacity="0.15">{_grid(up)}</g>'
        f'<g fill="currentColor" fill-opacity="0.7" font-size="11" font-family="system-ui,sans-serif">'
        f"{_words(across, up)}</g>"
        f'<path d="{_path(points, across, up)}" fill="none" stroke="{_LINE}" stroke-width="1.5" '
        f'stroke-linejoin="round" stroke-linecap="round"/></svg>'
    )


class _Axis:
    """A stretch of values on a stretch of the picture, with ticks at round numbers."""

    def __init__(self, low: float, high: float, start: float, end: float, wanted: int) -> None:
        self.ticks = _ticks(low, high, wanted)
        self._low, self._span = low, high - low
        self._start, self._length = start, end - start

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, *, wanted: int) -> _Axis:
        """An axis that holds all values; one value alone stands in the middle."""
        low, high = min(values), max(values)
        if low == high:
            low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
        return cls(low, high, start, end, wanted)

    def at(self, value: float) -> float:
        """Where a value stands."""
        return self._start + self._length * (value - self._low) / self._span


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers between two others, about as many as wanted."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in _STEPS if factor * power >= rough * 0.999)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _grid(up: _Axis) -> str:
    right = _WIDTH - _RIGHT
    return "".join(f'<path d="M{_LEFT} {up.at(tick):.1f}H{right}"/>' for tick in up.ticks)


def _words(across: _Axis, up: _Axis) -> str:
    below = _HEIGHT - _BOTTOM + 16
    steps = (
        f'<text x="{across.at(tick):.1f}" y="{below}" text-anchor="middle">{tick:g}</text>'
        for tick in across.ticks
        if tick == round(tick)
    )
    losses = (
        f'<text x="{_LEFT - 6}" y="{up.at(tick) + 4:.1f}" text-anchor="end">{tick:.{_RATE_DIGITS}g}</text>'
        for tick in up.ticks
    )
    return "".join([*steps, *losses])


def _path(points: Sequence[tuple[int, float | None]], across: _Axis, up: _Axis) -> str:
    """Lines from point to point; where a loss is not known, the line is interrupted."""
    parts, drawing = [], False
    for step, loss in points:
        if loss is None or not math.isfinite(loss):
            drawing = False
            continue
        parts.append(f"{'L' if drawing else 'M'}{across.at(step):.1f} {up.at(loss):.1f}")
        drawing = True
    return "".join(parts)
