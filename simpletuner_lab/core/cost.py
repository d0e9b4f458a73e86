"""Rates and estimates. No price known is not free: `None` is kept apart from 0 (SPEC M1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_MOST: Final = 1e12
"""No price and no time is more; sums of such numbers stay finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What an hour on some hardware costs, as known on a date."""

    hardware: str
    label: str
    usd_per_hour: float | None
    as_of: str = ""
    """ISO date of the price; empty where none is needed."""
    source: str = ""

    def __post_init__(self) -> None:
        """A provider's price that is none is not known: NaN would pass every limit."""
        object.__setattr__(self, "usd_per_hour", amount_or_none(self.usd_per_hour))


def amount_or_none(told: float | None) -> float | None:
    """Dollars or seconds as a provider tells them; None where that is no amount: not a finite number, or below 0."""
    if not isinstance(told, int | float) or isinstance(told, bool):
        return None
    return told if 0 <= told <= _MOST else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A range of run time and cost, and what it rests on. None: not known."""

    seconds_low: float | None
    seconds_high: float | None
    usd_low: float | None
    usd_high: float | None
    basis: str
    seconds_likely: float | None = None
    usd_likely: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What published figures say of the time of a run; `reason`: which they are, or why there are none."""

    seconds_low: float | None = None
    seconds_high: float | None = None
    reason: str = ""


_SPREAD: Final = 1.3
"""Own history of one machine: the next run lands within this factor either way."""

_OVERHEAD_S: Final = 20.0
"""Start of the process, caches, validation and delivery: outside the step rate."""


def estimate_run(
    *, steps: int, rate: Rate, past_step_s: Sequence[float], published: Published | None = None
) -> Estimate:
    """Run time by own history, else by published figures; cost from the rate. Always low <= likely <= high.

    `past_step_s` holds seconds a step of comparable finished jobs (same provider, hardware, family, resolution,
    batch), newest first; empty means that published figures are the next best. Where there are none either, or steps
    are not known (0), that is said rather than guessed.
    """
    if steps and past_step_s:
        low, likely, high = _by_history(steps, past_step_s)
        basis = f"median of {len(past_step_s)} finished run{'s' if len(past_step_s) > 1 else ''} like this one"
        return _priced(low, likely, high, rate, basis)
    if steps and published is not None and published.seconds_low is not None and published.seconds_high is not None:
        low, high = published.seconds_low, max(published.seconds_low, published.seconds_high)
        return _priced(low, (low * high) ** 0.5, high, rate, published.reason)
    why = "no finished run like this one yet" if steps else "how many steps it makes is not known"
    if steps and published is not None and published.reason:
        why += f", and {published.reason}"
    free = rate.usd_per_hour == 0
    return Estimate(
        seconds_low=None,
        seconds_high=None,
        usd_low=0.0 if free else None,
        usd_high=0.0 if free else None,
        usd_likely=0.0 if free else None,
        basis=why + (", but this machine costs nothing" if free else ""),
    )


def _by_history(steps: int, past_step_s: Sequence[float]) -> tuple[float, float, float]:
    """The median of past runs; the range has each of them in it."""
    typical = sorted(past_step_s)[len(past_step_s) // 2]
    low, high = min(typical / _SPREAD, *past_step_s), max(typical * _SPREAD, *past_step_s)
    return low * steps, typical * steps + _OVERHEAD_S / 2, high * steps + _OVERHEAD_S


def _priced(low: float, likely: float, high: float, rate: Rate, basis: str) -> Estimate:
    price = rate.usd_per_hour
    return Estimate(
        seconds_low=low,
        seconds_high=high,
        seconds_likely=likely,
        usd_low=None if price is None else price * low / 3600,
        usd_high=None if price is None else price * high / 3600,
        usd_likely=None if price is None else price * likely / 3600,
        basis=basis,
    )
