"""How many requests an account may make: so many a minute, in bursts if it has been quiet."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What is left after a request, as the `ratelimit-*` headers tell it."""

    granted: bool
    remaining: int
    reset_s: int
    """Until all of it is there again."""


class Allowances:
    """One bucket for each account and kind of request, refilled evenly."""

    def __init__(self) -> None:
        self._used: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, account: str, kind: str, per_min: int, now: float) -> Allowance:
        """Counts one request, if it is granted."""
        used, at = self._used.get((account, kind), (0.0, now))
        used = max(0.0, used - (now - at) * per_min / 60)
        granted = used + 1 <= per_min
        used += granted
        self._used[account, kind] = used, now
        return Allowance(
            granted=granted,
            remaining=max(0, math.floor(per_min - used)),
            reset_s=max(1, math.ceil(used * 60 / per_min)),
        )
