"""What the next run of a job may cost and take, and whether a run has gone on past that (SPEC M4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from simpletuner_lab.core.book import Book, Holding, seconds_for, usd_of
from simpletuner_lab.core.ledger import Charge
from simpletuner_lab.core.spend import SpendLimits, dollars, exact
from simpletuner_lab.core.verdict import CENT, SHORTEST_RUN_S, assumed_text, limit_text, state_of, unknown_text

_LATE_S: Final = 300.0
"""A run that nobody meters is late so long after the end of the time that is paid for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What the next run of a job may cost and take, or why there is none."""

    reserved_usd: float | None
    """For the job in all, from now on."""
    run_usd: float | None = None
    """The most that this run may cost; None: nothing bounds it, or its price is not known."""
    seconds: float | None = None
    """Where that is less than a run may take anyway: so long it is paid for."""
    refusal: str = ""
    for_good: bool = False
    """No wait brings it back: it is the limit of the job itself."""


def allow(
    holding: Holding, usd_per_hour: float | None, run_limit_s: float | None,
    limits: SpendLimits, book: Book, *, now: float, zone: tzinfo,
) -> Allowance:  # fmt: skip
    """What is left for the next run of a job. Limits that warn take nothing from it."""
    if usd_per_hour == 0:
        return Allowance(reserved_usd=0.0, run_usd=0.0)
    used, want = holding.used_usd, None
    if usd_per_hour is not None and run_limit_s is not None:
        want = usd_of(run_limit_s, usd_per_hour)
    blocking = [one for one in limits.of(holding.provider) if one[1].blocks]
    if not blocking and limits.job.cap_usd is None:
        least = None if used is None or want is None else used + want
        kept = holding.reserved_usd if least is None else max(least, holding.reserved_usd or 0.0)
        return Allowance(reserved_usd=kept, run_usd=want)
    if usd_per_hour is None or used is None:
        refusal = "what it costs is not known, and a spend limit blocks"
        return Allowance(reserved_usd=None, refusal=refusal, for_good=not blocking)
    bite = want if want is not None else holding.left_usd or holding.run_before_usd
    caps = (
        []
        if limits.job.cap_usd is None
        else [(limits.job.cap_usd - used, f"the job may cost {exact(limits.job.cap_usd)}", True, "")]
    )
    for scope, limit in blocking:
        state = state_of(scope, limit, book, now=now, zone=zone, without=holding.job_id)
        if state.with_job_usd is None:
            whose = unknown_text(scope, limit, book, now=now, zone=zone, without=holding.job_id)
            return Allowance(reserved_usd=None, refusal=f"{limit_text(state)}: {whose}")
        assumed = assumed_text(state)
        why = f" ({dollars(state.spent_usd or 0.0)} spent, {assumed})" if assumed else ""
        caps.append((state.amount_usd - state.with_job_usd, limit_text(state), False, why))
    cap, name, for_good, why = min(caps)
    run_usd = cap if bite is None else min(cap, bite)
    seconds = seconds_for(run_usd, usd_per_hour)
    if seconds < SHORTEST_RUN_S and run_usd >= cap - CENT:
        return Allowance(
            reserved_usd=holding.reserved_usd,
            refusal=f"{name}, and {dollars(max(0.0, cap))} is left of that{why}",
            for_good=for_good,
        )
    reserved = min(max(holding.reserved_usd or 0.0, used + run_usd), used + cap)
    shorter = run_limit_s is None or seconds < run_limit_s - CENT
    return Allowance(reserved_usd=reserved, run_usd=run_usd, seconds=seconds if shorter else None)


def is_overrun(charge: Charge, *, now: float) -> bool:
    """Whether a run that goes on has cost more than was set aside for it when it was started.

    A limit that was set, lowered or raised since counts from the job's next run on. A provider that tells no cost while a
    run goes on is judged by the clock, and some minutes later.
    """
    if charge.final or charge.usd_per_hour == 0 or charge.most_usd is None:
        return False
    if charge.cost_usd is not None:
        return charge.cost_usd > charge.most_usd + CENT
    paid_s = seconds_for(charge.most_usd, charge.usd_per_hour) if charge.usd_per_hour else math.inf
    return now > charge.opened_at + paid_s + _LATE_S


def is_overrun_unseen(charge: Charge, *, now: float) -> bool:
    """The same of a run that was running when it was last seen, and cannot be looked at now.

    It is judged by what it had cost then, and by the price of the time since, some minutes later.
    """
    if charge.cost_usd is None or not charge.usd_per_hour or charge.most_usd is None or charge.final:
        return is_overrun(charge, now=now)
    since_usd = usd_of(max(0.0, now - charge.updated_at - _LATE_S), charge.usd_per_hour)
    return charge.cost_usd + since_usd > charge.most_usd + CENT
