"""What happened to a job, in order: the timeline of its detail page and the feed of every front-end (SPEC J3)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None


class EventKind(enum.StrEnum):
    """Kinds of events. Never log text, never a secret."""

    CREATED = "created"
    STATE = "state"
    CONSENTED = "consented"
    SENT = "sent"
    """Bytes left this machine: what, where to, digest (SPEC C3); with a `problem`, if that they arrived is not confirmed.

    Of 0 bytes: an earlier try turned out to have arrived, as its `message` says."""
    DISCARDED = "discarded"
    """The provider's copy of the data is gone, or could not be shown to be."""
    CLAIMED = "claimed"
    """The job has a slot after a wait in the queue: it is sent and started now."""
    PRIORITISED = "prioritised"
    """Its place in the queue was changed by another priority."""
    STARTED = "started"
    RESUMED = "resumed"
    STAGE = "stage"
    CHECKPOINT = "checkpoint"
    IMAGE = "image"
    ARTIFACT = "artifact"
    """A verified result or checkpoint has arrived."""
    PUSHED = "pushed"
    """A checkpoint or the result has arrived at an S3 bucket or on the Hub: where, and as which commit."""
    PUSH_GIVEN_UP = "push_given_up"
    """The user no longer wants a model to be sent there."""
    CANCEL_REQUESTED = "cancel_requested"
    PROBLEM = "problem"
    SPEND_LIMIT = "spend_limit"
    """A limit on what may be spent is passed, or keeps a run from being started."""
    RESOLVED = "resolved"
    """The user decided about an uncertain start: sent again, or given up."""
    IMPORTED = "imported"
    """A run that was started elsewhere, and is followed here from now on."""
    DELETED = "deleted"
    """The job is gone, its timeline with it: only the feed of all jobs has this, as the last event of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDraft:
    """An event that is not stored yet."""

    kind: EventKind
    at: float
    data: Mapping[str, Scalar] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A stored event. `seq` grows over all jobs of the store, so `max(seq)` is a cursor."""

    seq: int
    job_id: str
    kind: EventKind
    at: float
    data: Mapping[str, Scalar]
