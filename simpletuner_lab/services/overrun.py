"""What is told of a job that costs more than it may, each once, and how it is ended (SPEC M4)."""

from __future__ import annotations

import dataclasses
from typing import Final

from simpletuner_lab.core.diff import Change
from simpletuner_lab.core.errors import SpendLimitReached
from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.job import Failure, Job
from simpletuner_lab.core.ledger import Charge
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


def ended_for_money(change: Change, charge: Charge, *, now: float) -> Change:
    """The change with a request to end the job, which says why: it is to fail for that (`core.diff`)."""
    cost = "by the clock" if charge.cost_usd is None else f"{dollars(charge.cost_usd)} so far"
    message = (
        f"its run went on past the {dollars(charge.most_usd or 0.0)} that was set aside for it ({cost}): it is ended"
    )
    failure = Failure(code=SpendLimitReached.code, message=message, hint=_HINT)
    asked = EventDraft(kind=EventKind.CANCEL_REQUESTED, at=now, data={"by": SpendLimitReached.code})
    after = dataclasses.replace(change.job, cancel_requested_at=now, retry_at=None, updated_at=now, failure=failure)
    return dataclasses.replace(change, job=after, events=(*change.events, _event(message, now), asked))


_HINT: Final = "look at what ran there: nothing had ended it by then; raise the limit, and run it again"


def _event(message: str, now: float) -> EventDraft:
    return EventDraft(kind=EventKind.SPEND_LIMIT, at=now, data={"code": SpendLimitReached.code, "message": message})
