"""What runs have cost: one charge a run at a provider, and what a job has cost by them (SPEC M2).

A price that is not known is not 0: `None` stays `None`, here and in every sum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from simpletuner_lab.core.cost import Rate
from simpletuner_lab.core.job import Job
from simpletuner_lab.core.provider import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One run as its provider meters it. `rate` is what was known of the price when it was last looked at."""

    provider: str
    ref: str
    """The provider's reference of the run; with `provider` it names the charge."""
    job_id: str
    attempt: int
    account: str
    hardware: str
    metered_s: float | None = None
    """The seconds that are charged for; None: the provider has not said yet."""
    cost_usd: float | None = None
    usd_per_hour: float | None = None
    as_of: str = ""
    """ISO date of the price."""
    updated_at: float
    final: bool = False
    """The run has ended: the provider adds nothing to this."""
    owner: str = ""
    """Whose job it is, or was."""
    opened_at: float = 0.0
    """When the run was started: the day on which its cost counts."""
    most_usd: float | None = None
    """What was reserved for it; None: nothing bounds it."""
    by_hand: bool = False
    """Its user says what it cost, as the bill has it, for its provider did not: that may be said anew."""

    @property
    def doubtful(self) -> bool:
        """Whether it is of a start of which nobody can tell whether it arrived: there may be no such run."""
        return self.ref == doubtful_ref(self.job_id, self.attempt)


def doubtful_ref(job_id: str, attempt: int) -> str:
    """Stands for the reference of a run that nobody knows, until it is found or known not to be."""
    return f"start/{job_id}/{attempt}"


def opened(job: Job, ref: str, *, account: str, rate: Rate | None, now: float, most_usd: float | None = None) -> Charge:
    """The charge of a run that has just been started, or found."""
    return Charge(
        provider=job.provider,
        ref=ref,
        job_id=job.id,
        attempt=job.attempt,
        account=account,
        hardware=job.hardware,
        usd_per_hour=None if rate is None else rate.usd_per_hour,
        as_of="" if rate is None else rate.as_of,
        updated_at=now,
        owner=job.owner,
        opened_at=now,
        most_usd=most_usd,
    )


def of_doubt(job: Job, *, account: str, rate: Rate, now: float, most_usd: float | None) -> Charge:
    """The charge of a start that is not waited for any longer: it counts for all that its run may have cost.

    It counts on the day on which the start was tried. The charge of the run itself takes its place (`services.registers`).
    """
    charge = opened(
        job,
        doubtful_ref(job.id, job.attempt),
        account=account,
        rate=rate,
        now=job.run.tried_at or now,
        most_usd=most_usd,
    )
    return dataclasses.replace(charge, updated_at=now)


def metered(charge: Charge, snapshot: Snapshot, *, ended: bool, now: float) -> Charge:
    """The charge after this snapshot. What an answer leaves out stays as it was; a final charge never goes back.

    Of a run that is gone, or ends, without a word of what it took, the cost is not known: what was told while it went on
    is no more than the least of it.
    """
    if charge.final and not ended:
        return charge
    if ended and snapshot.metered_s is None and snapshot.cost_usd is None:
        return charge if charge.final else _ended_untold(charge, now=now)
    after = dataclasses.replace(
        charge,
        metered_s=charge.metered_s if snapshot.metered_s is None else snapshot.metered_s,
        cost_usd=charge.cost_usd if snapshot.cost_usd is None else snapshot.cost_usd,
        final=ended,
        by_hand=False,
    )
    return charge if after == charge else dataclasses.replace(after, updated_at=now)


def _ended_untold(charge: Charge, *, now: float) -> Charge:
    """Nothing that was metered before its start is left of it either: it may have begun since."""
    known = charge if charge.usd_per_hour == 0 else dataclasses.replace(charge, cost_usd=None)
    return dataclasses.replace(known, metered_s=charge.metered_s or None, final=True, updated_at=now)


def is_unpriced(charge: Charge) -> bool:
    """Whether it is not known what a run costs, or has cost. One that is free, or never began, costs nothing."""
    return charge.cost_usd is None and charge.usd_per_hour != 0 and charge.metered_s != 0


def said_by_hand(charges: Iterable[Charge], usd: float, *, now: float) -> tuple[Charge, ...]:
    """Those of which no provider told the whole cost, as their user says it of all together; none where all is told.

    The last has the amount. They belong into one transaction: by some of them alone a part of the money is lost.
    """
    untold = [one for one in charges if one.usd_per_hour != 0 and (is_unpriced(one) or one.by_hand or not one.final)]
    amounts = [0.0] * (len(untold) - 1) + [usd]
    return tuple(
        dataclasses.replace(one, cost_usd=amount, final=True, by_hand=True, updated_at=now)
        for one, amount in zip(untold, amounts, strict=False)
    )


def spent_usd(job: Job, charges: Iterable[Charge]) -> float | None:
    """What the job has cost: the sum of its charges; None where one that was metered, or has ended, has no price.

    A run of which nothing is metered yet adds nothing; without any other it stays at what is known before.
    """
    listed = list(charges)
    if any(is_unpriced(charge) and (charge.final or charge.metered_s) for charge in listed):
        return None
    costs = [charge.cost_usd for charge in listed if charge.cost_usd is not None]
    return sum(costs) if costs else job.cost_usd


def with_charge(charges: Iterable[Charge], changed: Charge) -> tuple[Charge, ...]:
    """The charges with one of them as it is now."""
    others = (charge for charge in charges if (charge.provider, charge.ref) != (changed.provider, changed.ref))
    return (*others, changed)
