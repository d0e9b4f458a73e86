"""From a plan to the record of its job."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from simpletuner_lab.core.consent import Agreement
from simpletuner_lab.core.errors import Conflict
from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.plan import Plan, SubmitRequest, asked_of
from simpletuner_lab.services.store import require_same_plan


def new_job(plan: Plan, owner: str, key: str | None, now: float) -> Job:
    """The record of a plan that was agreed to: pending, with an id and a nonce of its own."""
    return Job(
        id=f"{time.strftime('%y%m%d', time.gmtime(now))}-{secrets.token_hex(5)}",
        owner=owner,
        name=plan.name,
        provider=plan.identity.provider,
        target=plan.identity.target,
        hardware=plan.identity.hardware,
        remote=plan.remote,
        state=JobState.PENDING,
        created_at=now,
        updated_at=now,
        digest=plan.digest,
        nonce=secrets.token_hex(8),
        idempotency_key=key,
        cost_usd=0.0 if plan.rate.usd_per_hour == 0 else None,
    )


def first_of_key(
    first: Job | None, request: SubmitRequest, approve: str | None,
    *, plan: Callable[[Job], Plan], digest: Callable[[], str],
) -> Job | None:  # fmt: skip
    """The job that an idempotency key stands for, where this request is that of it; None where there is none.

    The same request is the same job whatever its files are by now, unless another plan of it was agreed to.

    Raises:
        Conflict: the key stands for another plan.
    """
    if first is None:
        return None
    require_same_plan(first, first.digest if approve is None else approve)
    if plan(first).asked != asked_of(request):  # the same, said otherwise?
        require_same_plan(first, digest())
    return first


def once(first: Callable[[], Job | None], make: Callable[[], Job]) -> Job:
    """The job that an idempotency key stands for already, else a new one; also where another submit is faster meanwhile.

    Raises:
        Conflict: the key stands for another plan, or it cannot be made.
    """
    found = first()
    if found is not None:
        return found
    try:
        return make()
    except Conflict:  # of two at once: its plan may be of other files, and of the same request all the same
        found = first()
        if found is None:
            raise
        return found


def first_events(plan: Plan, agreement: Agreement) -> tuple[EventDraft, ...]:
    """What its timeline begins with."""
    agreed = {"digest": agreement.digest, "entry": agreement.entry, "mode": agreement.mode.value}
    return (
        EventDraft(kind=EventKind.CREATED, at=agreement.at, data=dict(plan.identity.manifest.summary())),
        EventDraft(kind=EventKind.CONSENTED, at=agreement.at, data=agreed),
    )
