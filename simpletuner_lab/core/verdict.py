"""Whether a job may be paid for, by every limit that counts for it. Where a limit blocks, what is not known blocks (SPEC M3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from simpletuner_lab.core.book import Book, Claim, seconds_for, sum_known
from simpletuner_lab.core.segments import WITH_CHECKPOINT
from simpletuner_lab.core.spend import (
    ALL,
    USUAL_DIGITS,
    WARN_SHARE,
    JobLimit,
    LimitAction,
    Period,
    SpendLimit,
    SpendLimits,
    day_of,
    digits_for,
    dollars,
    exact,
    span,
)

SHORTEST_RUN_S: Final = 60.0
"""Money for less time than this starts no run."""

CENT: Final = 1e-9
"""Sums of floats are compared with this much patience."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    """A limit and where it stands. Dates are ISO days in the zone of the limits; null: not known."""

    scope: str
    """`all`, or the id of a provider."""
    amount_usd: float
    period: Period
    action: LimitAction
    spent_usd: float | None
    committed_usd: float | None
    """What jobs under way may still cost."""
    since: str
    until: str
    """The first day of the next period."""
    with_job_usd: float | None = None
    """Spent, committed and the job in question together; the first two where there is none."""
    assumed_usd: float = 0.0
    """Of what is spent: what runs count for whose cost nobody told."""
    assumed_runs: int = 0

    @property
    def share(self) -> float | None:
        """Of the amount; None where it is not known."""
        if self.with_job_usd is None:
            return None
        return self.with_job_usd / self.amount_usd if self.amount_usd else float(self.with_job_usd > 0)

    @property
    def is_exceeded(self) -> bool:
        """Whether it is passed, or would be."""
        return self.with_job_usd is not None and self.with_job_usd > self.amount_usd + CENT

    @property
    def is_warning(self) -> bool:
        """From 80 % on."""
        return self.share is not None and self.share >= WARN_SHARE - CENT


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendVerdict:
    """Whether a job may be paid for, and what is reserved for it if so."""

    claim: Claim
    reserved_usd: float | None
    """The most that it may cost; null: not known."""
    allowed: bool
    refusal: str = ""
    hint: str = ""
    warnings: tuple[str, ...] = ()
    limits: tuple[LimitState, ...] = ()

    @property
    def told(self) -> tuple[str, ...]:
        """All that is to be said of it, in sentences."""
        return (*self.warnings, self.refusal) if self.refusal else self.warnings


def state_of(scope: str, limit: SpendLimit, book: Book, *, now: float, zone: tzinfo, without: str = "") -> LimitState:
    """Where a limit stands; `without`: a job whose reservation is left out."""
    since, until = span(limit.period, now, zone)
    provider = None if scope == ALL else scope
    spent, committed = book.spent_usd(since, provider), book.committed_usd(provider, without=without)
    assumed_usd, assumed_runs = book.assumed_usd(since, provider)
    return LimitState(
        scope=scope,
        amount_usd=limit.amount_usd,
        period=limit.period,
        action=limit.action,
        spent_usd=spent,
        committed_usd=committed,
        since=day_of(since, zone).isoformat(),
        until=day_of(until, zone).isoformat(),
        with_job_usd=sum_known((spent, committed)),
        assumed_usd=assumed_usd,
        assumed_runs=assumed_runs,
    )


def judge(
    claim: Claim,
    provider: str,
    limits: SpendLimits,
    book: Book,
    *,
    now: float,
    zone: tzinfo,
    ending: str = WITH_CHECKPOINT,
) -> SpendVerdict:
    """Whether a job with this claim may be submitted to a provider. `ending`: how a run ends whose money is used up."""
    reserved = _capped(claim.most_usd, limits.job.cap_usd) if claim.usd_per_hour else claim.most_usd
    if claim.usd_per_hour == 0:
        return SpendVerdict(claim=claim, reserved_usd=0.0, allowed=True)
    states = tuple(
        dataclasses.replace(state, with_job_usd=sum_known((state.with_job_usd, reserved)))
        for scope, limit in limits.of(provider)
        for state in (state_of(scope, limit, book, now=now, zone=zone),)
    )
    unknown = {scope: unknown_text(scope, limit, book, now=now, zone=zone) for scope, limit in limits.of(provider)}
    periods = (one for state in states for one in _of_period(state, reserved, unknown[state.scope]))
    told = [*_of_job(claim, limits.job, ending), *periods]
    refusals = [text for text, blocks in told if blocks]
    blind = reserved is not None and any(unknown[one.scope] and one.action is LimitAction.BLOCK for one in states)
    assumed = any(one.assumed_runs and one.is_exceeded and one.action is LimitAction.BLOCK for one in states)
    hint = _UNKNOWN_HINT if blind else f"{_SAY_IT}, {_HINT}" if assumed else _HINT
    return SpendVerdict(
        claim=claim,
        reserved_usd=reserved,
        allowed=not refusals,
        refusal="; ".join(refusals),
        hint=hint if refusals else "",
        warnings=tuple(text for text, blocks in told if not blocks),
        limits=states,
    )


def unknown_text(scope: str, limit: SpendLimit, book: Book, *, now: float, zone: tzinfo, without: str = "") -> str:
    """Whose cost a limit does not know, in half a sentence; empty where it knows all."""
    since, _ = span(limit.period, now, zone)
    found = book.not_known(since, None if scope == ALL else scope, without=without)
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"what job {', '.join(found[:_NAMED])}{more} has cost or may cost is not known"


_NAMED: Final = 3
_SAY_IT: Final = "say what it cost (stcloud cost JOB USD)"
_UNKNOWN_HINT: Final = f"{_SAY_IT}, limit single providers, let the limit warn, or wait for the next period"
_HINT: Final = "raise the limit or let it warn (stcloud limit), wait for the next period, or run it on cheaper hardware"


def _capped(amount: float | None, cap: float | None) -> float | None:
    if cap is None:
        return amount
    return cap if amount is None else min(amount, cap)


def _of_job(claim: Claim, limit: JobLimit, ending: str) -> Iterator[tuple[str, bool]]:
    """What the limit of a job says, and whether it refuses."""
    amount = limit.amount_usd
    if amount is None:
        return
    blocks, most = limit.action is LimitAction.BLOCK, claim.most_usd
    if claim.usd_per_hour is None:
        yield f"a job may cost {exact(amount)}, and what this one costs is not known", blocks
    elif claim.least_usd is not None and claim.least_usd > amount + CENT:
        yield (
            f"a job may cost {exact(amount)}, and this one is estimated at {dollars(claim.least_usd, digits_for([claim.least_usd], amount))} or more",
            blocks,
        )
    elif blocks and seconds_for(amount, claim.usd_per_hour) < SHORTEST_RUN_S:
        yield f"a job may cost {exact(amount)}, which pays for less than a minute of this hardware", True
    elif most is None or most > amount + CENT:
        most_text = (
            "there is no upper bound for this one"
            if most is None
            else f"this one may cost {dollars(most, digits_for([most], amount))}"
        )
        end = f": {ending}" if blocks and ending else ""
        yield f"a job may cost {exact(amount)}, and {most_text}{end}", False


def _of_period(state: LimitState, reserved_usd: float | None, unknown: str) -> Iterator[tuple[str, bool]]:
    blocks = state.action is LimitAction.BLOCK
    name = limit_text(state)
    if reserved_usd is None:
        yield f"{name}: what this job may cost is not known, and that is not nothing", blocks
    elif state.with_job_usd is None:
        yield f"{name}: {unknown}", blocks
    elif state.is_exceeded or state.is_warning:
        parts = (state.spent_usd or 0.0, state.committed_usd or 0.0, reserved_usd)
        spent, committed, asked = (dollars(part, digits_for(parts, state.amount_usd)) for part in parts)
        assumed = assumed_text(state, digits_for(parts, state.amount_usd))
        sums = f"{spent} spent{f' ({assumed})' if assumed else ''}, {committed} reserved by jobs under way, up to {asked} for this job"
        share = f"{100 * (state.share or 0.0):.0f} %"
        yield (
            f"{name} {'would be passed' if state.is_exceeded else f'is at {share}'}: {sums}",
            (blocks and state.is_exceeded),
        )


def assumed_text(state: LimitState, digits: int = USUAL_DIGITS) -> str:
    """How much of what is spent is only assumed; empty where nothing is."""
    if not state.assumed_runs:
        return ""
    runs = "1 run" if state.assumed_runs == 1 else f"{state.assumed_runs} runs"
    return f"{dollars(state.assumed_usd, digits)} of it assumed for {runs} whose cost nobody told"


def limit_text(state: LimitState) -> str:
    """A limit in words."""
    whose = "" if state.scope == ALL else f" for {state.scope}"
    return f"the {state.period} spend limit of {exact(state.amount_usd)}{whose} ({state.since} until {state.until})"
