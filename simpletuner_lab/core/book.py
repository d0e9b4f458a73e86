"""What jobs claim, hold and have used up of what was reserved for them, as spend limits count it (SPEC M3).

Everything here is pure: who asks brings the ledger. What is not known is `None`, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from simpletuner_lab.core.cost import Estimate
from simpletuner_lab.core.ledger import Charge, is_unpriced
from simpletuner_lab.core.segments import runs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a job asks for: the most it may cost, and the least it will. None: not known."""

    most_usd: float | None
    least_usd: float | None
    usd_per_hour: float | None


def claim_of(estimate: Estimate, usd_per_hour: float | None, run_limit_s: float | None, *, goes_on: bool) -> Claim:
    """Deadline times price for as many runs as it may take, else the upper estimate (SPEC M3)."""
    if not usd_per_hour:
        return Claim(most_usd=usd_per_hour, least_usd=usd_per_hour, usd_per_hour=usd_per_hour)
    most = estimate.usd_high
    if run_limit_s is not None:
        several = goes_on and estimate.seconds_high is not None
        runs = runs_of(estimate.seconds_high or 0.0, run_limit_s) if several else 1
        most = usd_of(runs * run_limit_s, usd_per_hour)
    least = estimate.usd_low
    if least is not None and most is not None:
        least = min(least, most)
    return Claim(most_usd=most, least_usd=least, usd_per_hour=usd_per_hour)


def usd_of(seconds: float, usd_per_hour: float) -> float:
    """What so long costs."""
    return seconds * usd_per_hour / 3600


def seconds_for(usd: float, usd_per_hour: float) -> float:
    """How long that lasts."""
    return usd * 3600 / usd_per_hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A job that has not ended, what was reserved for it, and what its runs have cost so far."""

    job_id: str
    provider: str
    reserved_usd: float | None
    attempt: int
    charges: tuple[Charge, ...] = ()

    @property
    def used_usd(self) -> float | None:
        """Of what was reserved; None where that is not known."""
        return sum_known(counted_usd(charge, current=charge.attempt >= self.attempt) for charge in self.charges)

    @property
    def left_usd(self) -> float | None:
        """What it may still cost."""
        used = self.used_usd
        return None if used is None or self.reserved_usd is None else max(0.0, self.reserved_usd - used)

    @property
    def run_before_usd(self) -> float | None:
        """The most that a run of it was to cost so far; None: there was none, or nothing bounded it."""
        return max((charge.most_usd for charge in self.charges if charge.most_usd), default=None)


def counted_usd(charge: Charge, *, current: bool) -> float | None:
    """What a run counts for: its cost; where nobody has told that of one that is over, all it may have cost; None: not known.

    What it may have cost is what was set aside for it, else the price of the time from its start until its end was seen. Of a run that goes on (`current`) the rest is in what is reserved for its job. One that never began counts for nothing.
    """
    if charge.usd_per_hour == 0 and not charge.cost_usd:
        return 0.0
    if charge.final:
        return _untold_usd(charge) if is_unpriced(charge) else charge.cost_usd or 0.0
    if current:
        return charge.cost_usd if charge.cost_usd is not None else None if charge.metered_s else 0.0
    return None if charge.most_usd is None else max(charge.most_usd, charge.cost_usd or 0.0)


def _untold_usd(charge: Charge) -> float | None:
    """At least what was metered of it before its end came without a word."""
    least = usd_of(charge.metered_s or 0.0, charge.usd_per_hour or 0.0)
    if charge.most_usd is not None or charge.usd_per_hour is None:
        return None if charge.most_usd is None else max(charge.most_usd, least)
    seconds = charge.updated_at - charge.opened_at
    return max(least, usd_of(seconds, charge.usd_per_hour)) if seconds > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The ledger as limits read it: runs of the longest period in question, and every job that has not ended."""

    charges: tuple[Charge, ...]
    holdings: tuple[Holding, ...]

    def spent_usd(self, since: float, provider: str | None) -> float | None:
        """What runs that began in a period count for; None where that is not known of one."""
        return sum_known(counted for _, counted in self._counted(since, provider))

    def assumed_usd(self, since: float, provider: str | None) -> tuple[float, int]:
        """What of that nobody has told, and of how many runs: it is all that they may have cost."""
        parts = [
            counted - (charge.cost_usd or 0.0)
            for charge, counted in self._counted(since, provider)
            if counted is not None and counted > (charge.cost_usd or 0.0)
        ]
        return sum(parts), len(parts)

    def not_known(self, since: float, provider: str | None, *, without: str = "") -> tuple[str, ...]:
        """The jobs, but for one, of which it is not known what they count for."""
        found = [charge.job_id for charge, counted in self._counted(since, provider) if counted is None]
        found += [
            holding.job_id
            for holding in self.holdings
            if holding.job_id != without and provider in {None, holding.provider} and holding.left_usd is None
        ]
        return tuple(dict.fromkeys(found))

    def _counted(self, since: float, provider: str | None) -> Iterator[tuple[Charge, float | None]]:
        live = {holding.job_id: holding.attempt for holding in self.holdings}
        for charge in self.charges:
            if charge.opened_at >= since and provider in {None, charge.provider}:
                current = charge.attempt >= live.get(charge.job_id, charge.attempt + 1)
                yield charge, counted_usd(charge, current=current)

    def committed_usd(self, provider: str | None, *, without: str = "") -> float | None:
        """What jobs under way may still cost, but for one; None where that is not known of one."""
        return sum_known(
            holding.left_usd
            for holding in self.holdings
            if holding.job_id != without and provider in {None, holding.provider}
        )


def sum_known(amounts: Iterable[float | None]) -> float | None:
    """A sum, not known where one part is not."""
    total = 0.0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
