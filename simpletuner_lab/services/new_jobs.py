"""From a plan to the record of its job."""

from __future__ import annotations

import secrets
import time

from simpletuner_lab.core.consent import Agreement
from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.plan import Plan


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


def first_events(plan: Plan, agreement: Agreement) -> tuple[EventDraft, ...]:
    """What its timeline begins with."""
    agreed = {"digest": agreement.digest, "entry": agreement.entry, "mode": agreement.mode.value}
    return (
        EventDraft(kind=EventKind.CREATED, at=agreement.at, data=dict(plan.identity.manifest.summary())),
        EventDraft(kind=EventKind.CONSENTED, at=agreement.at, data=agreed),
    )
