"""Sums over charges: by day, by name, by job. What is not known of a run is counted apart, never as 0."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta

from simpletuner_lab.core.ledger import Charge, is_unpriced
from simpletuner_lab.services.money_views import DaySpend, JobSpend, NamedSpend


def grouped(charges: Iterable[Charge], key: Callable[[Charge], str]) -> dict[str, list[Charge]]:
    """Charges by what they have in common."""
    groups: dict[str, list[Charge]] = defaultdict(list)
    for charge in charges:
        groups[key(charge)].append(charge)
    return dict(groups)


def total(charges: Iterable[Charge]) -> tuple[float, int, int]:
    """Cost, runs, and runs of which the cost is not known, or not yet."""
    listed = list(charges)
    cost = sum(charge.cost_usd or 0.0 for charge in listed)
    return cost, len(listed), sum(map(is_unpriced, listed))


def days_from(first: date, days: int) -> Iterable[date]:
    """So many days."""
    return (first + timedelta(days=number) for number in range(days))


def spent_on(day: date, charges: Sequence[Charge]) -> DaySpend:
    """What a day's runs have cost."""
    cost, runs, unpriced = total(charges)
    return DaySpend(day=day.isoformat(), cost_usd=cost, runs=runs, unpriced=unpriced)


def by_name(groups: Mapping[str, Sequence[Charge]]) -> tuple[NamedSpend, ...]:
    """What each has cost, the dearest first."""
    totals = ((name, total(charges)) for name, charges in groups.items())
    found = (NamedSpend(name=name, cost_usd=cost, runs=runs, unpriced=none) for name, (cost, runs, none) in totals)
    return tuple(sorted(found, key=lambda one: (-one.cost_usd, one.name)))


def of_jobs(groups: Mapping[str, Sequence[Charge]], names: Mapping[str, str]) -> tuple[JobSpend, ...]:
    """What each job has cost, the dearest first; `names` has those that are still there."""
    found = []
    for job_id, charges in groups.items():
        cost, runs, unpriced = total(charges)
        found.append(
            JobSpend(
                job_id=job_id, config_name=names.get(job_id, ""), provider=charges[0].provider,
                owner=charges[0].owner, cost_usd=cost, runs=runs, unpriced=unpriced,
                metered_s=sum(charge.metered_s or 0.0 for charge in charges),
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda one: (-one.cost_usd, one.job_id)))
