"""What is told of a job that costs more than it may, each once, and how it is ended (SPEC M4)."""

from __future__ import annotations

import dataclasses

from simpletuner_lab.core.diff import Change
from simpletuner_lab.core.errors import SpendLimitReached
from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.job import Job
from simpletuner_lab.core.spend import WARN_SHARE, JobLimit, dollars


def limit_passed(job: Job, cost_usd: float | None, limit: JobLimit, *, now: float) -> tuple[EventDraft, ...]:
    """An event as the job's cost passes 80 % of what a job may cost, and one as it passes all of that."""
    if limit.amount_usd is None or cost_usd is None:
        return ()
    before = job.cost_usd or 0.0
    steps = ((WARN_SHARE, "80 % of the limit"), (1.0, "the limit"))
    return tuple(
        _event(f"it has cost {dollars(cost_usd)} and passed {words} of {dollars(limit.amount_usd)} a job", now)
        for share, words in steps
        if before <= limit.amount_usd * share < cost_usd
    )


def ended_for_money(change: Change, *, now: float) -> Change:
    """The change with a request to end the job, as a user would make it."""
    cost = "" if change.job.cost_usd is None else f" ({dollars(change.job.cost_usd)} so far)"
    message = f"its run went on past what was reserved for it{cost}: it is ended"
    asked = EventDraft(kind=EventKind.CANCEL_REQUESTED, at=now, data={"by": SpendLimitReached.code})
    after = dataclasses.replace(change.job, cancel_requested_at=now, retry_at=None, updated_at=now)
    return dataclasses.replace(change, job=after, events=(*change.events, _event(message, now), asked))


def _event(message: str, now: float) -> EventDraft:
    return EventDraft(kind=EventKind.SPEND_LIMIT, at=now, data={"code": SpendLimitReached.code, "message": message})
