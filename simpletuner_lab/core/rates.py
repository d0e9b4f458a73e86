"""Published figures of typical runs: what an estimate rests on before there is history of one's own (SPEC M1). Dated data.

Prices of hardware are a provider's own (`Rate`, with date and source); time is what is tabled here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.cost import Published, Rate

_SOURCE: Final = "SimpleTuner's guide to cloud training"
_AS_OF: Final = "2026-01"
_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3600.0
_SEVERAL: Final = re.compile(r"\b([2-9]|\d{2,})\s*x\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A graphics card that typical runs are tabled for: its price then, and what it is good for."""

    id: str
    label: str
    vram_gb: int
    usd_per_hour: float
    suits: str
    words: tuple[str, ...]
    """All of them are in the name of hardware that has it."""
    as_of: str = _AS_OF
    source: str = _SOURCE


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalRun:
    """A run as it was published: steps, time and cost, each of the last two as a range. Empty `family`: any."""

    label: str
    family: str
    kind: str
    """As a config's `model_type`: lora or full."""
    steps: int
    seconds_low: float
    seconds_high: float
    usd_low: float
    usd_high: float
    as_of: str = _AS_OF
    source: str = _SOURCE


CARDS: Final = (
    Card(id="l40s", label="L40S", vram_gb=48, usd_per_hour=3.5, suits="most LoRA", words=("l40s",)),
    Card(
        id="a100-80gb", label="A100 80 GB", vram_gb=80, usd_per_hour=5.0, suits="large models, full fine-tune",
        words=("a100",),
    ),
)  # fmt: skip

TYPICAL: Final = (
    TypicalRun(
        label="LoRA (Flux), 1000 steps", family="flux", kind="lora", steps=1000,
        seconds_low=30 * _MINUTE_S, seconds_high=60 * _MINUTE_S, usd_low=2, usd_high=4,
    ),
    TypicalRun(
        label="LoRA (Flux), 2000 steps", family="flux", kind="lora", steps=2000,
        seconds_low=1 * _HOUR_S, seconds_high=2 * _HOUR_S, usd_low=4, usd_high=8,
    ),
    TypicalRun(
        label="LoRA (SDXL), 2000 steps", family="sdxl", kind="lora", steps=2000,
        seconds_low=45 * _MINUTE_S, seconds_high=90 * _MINUTE_S, usd_low=3, usd_high=6,
    ),
    TypicalRun(
        label="full fine-tune, 5000 steps or more", family="", kind="full", steps=5000,
        seconds_low=4 * _HOUR_S, seconds_high=12 * _HOUR_S, usd_low=15, usd_high=50,
    ),
)  # fmt: skip
"""A row of steps or more stands for its number of steps."""


def card_of(rate: Rate) -> Card | None:
    """The card of some hardware, by its name; None where it is another, or several at once."""
    name = f"{rate.hardware} {rate.label}".lower()
    if _SEVERAL.search(name):
        return None
    return next((card for card in CARDS if all(word in name for word in card.words)), None)


def published(*, family: str, kind: str, steps: int, images_a_step: int, rate: Rate) -> Published:
    """What the table says of such a run on such hardware, interpolated by steps, else why it says nothing.

    The table knows neither resolution nor batch size: more images a step than one may take so many times as long,
    which the upper end allows for.
    """
    card = card_of(rate)
    if card is None:
        return Published(reason=f"no figures are published for {rate.label or rate.hardware}")
    rows = sorted(
        (row for row in TYPICAL if row.family in {"", family} and row.kind == kind), key=lambda row: row.steps
    )
    if not rows:
        return Published(reason=f"no figures are published for {kind or 'such a run'} of {family or 'this model'}")
    low, high = (_interpolated([(row.steps, seconds) for row, seconds in column], steps) for column in _columns(rows))
    widened = f", up to {images_a_step} times as long for {images_a_step} images a step" if images_a_step > 1 else ""
    return Published(
        seconds_low=low,
        seconds_high=high * max(1, images_a_step),
        reason=f"published figures ({rows[0].source}, {rows[0].as_of}: {'; '.join(map(_row_text, rows))}), "
        f"by steps{widened}",
    )


def _columns(rows: Sequence[TypicalRun]) -> tuple[list[tuple[TypicalRun, float]], list[tuple[TypicalRun, float]]]:
    return [(row, row.seconds_low) for row in rows], [(row, row.seconds_high) for row in rows]


def _interpolated(points: Sequence[tuple[int, float]], steps: int) -> float:
    """Between two rows on the line that joins them; outside in proportion to the nearest one."""
    for (before, low), (after, high) in itertools.pairwise(points):
        if before <= steps <= after:
            return low + (high - low) * (steps - before) / (after - before)
    nearest, seconds = points[0] if steps < points[0][0] else points[-1]
    return seconds * steps / nearest


def _row_text(row: TypicalRun) -> str:
    return f"{row.label}: {_time(row.seconds_low)} to {_time(row.seconds_high)}"


def _time(seconds: float) -> str:
    return f"{seconds / _HOUR_S:g} h" if seconds % _HOUR_S == 0 else f"{seconds / _MINUTE_S:g} min"
