"""Spend limits, and calendar periods in the user's zone (SPEC M3). What is not known is `None`, never 0."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from types import MappingProxyType
from typing import Final

from simpletuner_lab.core.errors import InvalidRequest

ALL: Final = "all"
"""The scope of the limit over every provider; a provider's limit has its id."""

WARN_SHARE: Final = 0.8
"""From this share of a limit on there is a warning."""

USUAL_DIGITS: Final = 2
"""Digits of a dollar that are usually shown."""
_MOST_DIGITS: Final = 6
_PATIENCE: Final = 1e-9
"""Sums of floats are compared with this much."""

_DAYS_OF_A_WEEK: Final = 7
_LAST_MONTH: Final = 12


class Period(enum.StrEnum):
    """Calendar periods in the user's zone, not so many hours back: a week begins on Monday."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class LimitAction(enum.StrEnum):
    """What a limit does once it would be passed."""

    WARN = "warn"
    BLOCK = "block"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendLimit:
    """What may be spent in a period."""

    enabled: bool = False
    amount_usd: float = 0.0
    period: Period = Period.MONTHLY
    action: LimitAction = LimitAction.WARN

    def __post_init__(self) -> None:
        _require_amount(self.amount_usd)

    @property
    def blocks(self) -> bool:
        """Whether it can refuse a job."""
        return self.enabled and self.action is LimitAction.BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimit:
    """What one job may cost; None: whatever it does."""

    amount_usd: float | None = None
    action: LimitAction = LimitAction.BLOCK

    def __post_init__(self) -> None:
        if self.amount_usd is not None:
            _require_amount(self.amount_usd)

    @property
    def cap_usd(self) -> float | None:
        """Where a job is ended; None where it is not."""
        return self.amount_usd if self.action is LimitAction.BLOCK else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendLimits:
    """All limits of a lab, and the zone whose calendar they follow."""

    time_zone: str = "UTC"
    total: SpendLimit = field(default_factory=SpendLimit)
    providers: Mapping[str, SpendLimit] = field(default_factory=lambda: MappingProxyType({}))
    job: JobLimit = field(default_factory=JobLimit)

    def of(self, provider: str) -> Iterator[tuple[str, SpendLimit]]:
        """Those that are on and count for a provider, each with its scope."""
        own = self.providers.get(provider, SpendLimit())
        yield from ((scope, limit) for scope, limit in ((provider, own), (ALL, self.total)) if limit.enabled)

    def block(self, provider: str) -> bool:
        """Whether one of them can refuse a job there, or end it."""
        return self.job.cap_usd is not None or any(limit.blocks for _, limit in self.of(provider))


def _require_amount(amount_usd: float) -> None:
    if not math.isfinite(amount_usd) or amount_usd < 0:
        raise InvalidRequest(f"a spend limit is at least 0 US dollars, not {amount_usd}", hint="for example 25")


# ------------------------------------------------------------ calendar


def span(period: Period, now: float, zone: tzinfo) -> tuple[float, float]:
    """The period that has this moment: its first second, and the first of the next one."""
    day = day_of(now, zone)
    match period:
        case Period.DAILY:
            first, after = day, day + timedelta(days=1)
        case Period.WEEKLY:
            first = day - timedelta(days=day.weekday())
            after = first + timedelta(days=_DAYS_OF_A_WEEK)
        case Period.MONTHLY:
            first = day.replace(day=1)
            after = _month_after(first)
    return midnight(first, zone), midnight(after, zone)


def day_of(at: float, zone: tzinfo) -> date:
    """The day of a moment."""
    return datetime.fromtimestamp(at, zone).date()


def midnight(day: date, zone: tzinfo) -> float:
    """When a day begins. Where the clock jumps over midnight that is the jump; where it shows it twice, the first."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def _month_after(first: date) -> date:
    last = first.month == _LAST_MONTH
    return date(first.year + last, 1 if last else first.month + 1, 1)


def dollars(amount: float, digits: int = USUAL_DIGITS) -> str:
    """Money in words, to the cent; more digits where a cent is too much, or where they are asked for and say more."""
    if digits > USUAL_DIGITS:
        whole, _, rest = f"{amount:.{digits}f}".partition(".")
        return f"${whole}.{rest.rstrip('0'):0<{USUAL_DIGITS}}"
    return f"${amount:.2f}" if amount >= 0.1 or amount == 0 else f"${amount:.4f}"


def exact(amount: float) -> str:
    """An amount that a user has set, as it was set."""
    return dollars(amount, _MOST_DIGITS)


def digits_for(parts: Iterable[float], limit: float) -> int:
    """With how many digits it can be seen that these together pass a limit, or do not."""
    listed = list(parts)
    passed = sum(listed) > limit + _PATIENCE
    fits = (
        digits
        for digits in range(USUAL_DIGITS, _MOST_DIGITS)
        if (round(sum(round(part, digits) for part in listed), digits) > limit + _PATIENCE) == passed
    )
    return next(fits, _MOST_DIGITS)
