"""Rates, estimates and spend verdicts. No price known is not free: `None` is kept apart from 0 (SPEC M1, M3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What an hour on some hardware costs, as known on a date."""

    hardware: str
    label: str
    usd_per_hour: float | None
    as_of: str = ""
    """ISO date of the price; empty where none is needed."""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A range of run time and cost, and what it rests on. None: not known."""

    seconds_low: float | None
    seconds_high: float | None
    usd_low: float | None
    usd_high: float | None
    basis: str


_SPREAD: Final = 1.3
"""Own history of one machine: the next run lands within this factor either way."""

_OVERHEAD_S: Final = 20.0
"""Start of the process, caches, validation and delivery: outside the step rate."""


def estimate_run(*, steps: int, rate: Rate, past_step_s: Sequence[float]) -> Estimate:
    """Run time from the median seconds a step of past runs like this one; cost from the rate.

    `past_step_s` holds seconds a step of comparable finished jobs (same provider, hardware, family, resolution,
    batch), newest first; empty means there is no basis, and 0
    steps are not known, which is said rather than guessed.
    """
    free = rate.usd_per_hour == 0
    if not past_step_s or not steps:
        why = "no finished run like this one yet" if steps else "how many steps it makes is not known"
        return Estimate(
            seconds_low=None,
            seconds_high=None,
            usd_low=0.0 if free else None,
            usd_high=0.0 if free else None,
            basis=why + (", but this machine costs nothing" if free else ""),
        )
    typical = sorted(past_step_s)[len(past_step_s) // 2] * steps
    low, high = typical / _SPREAD, typical * _SPREAD + _OVERHEAD_S
    price = rate.usd_per_hour
    return Estimate(
        seconds_low=low,
        seconds_high=high,
        usd_low=None if price is None else price * low / 3600,
        usd_high=None if price is None else price * high / 3600,
        basis=f"median of {len(past_step_s)} finished run{'s' if len(past_step_s) > 1 else ''} like this one",
    )
