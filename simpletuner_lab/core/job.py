"""A job, its states, and the one table of legal transitions (SPEC J1, J2)."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from simpletuner_lab.core.errors import IllegalTransition, InvalidRequest, SpendLimitReached
from simpletuner_lab.core.job_queue import DEFAULT_PRIORITY


class JobState(enum.StrEnum):
    """Where a job stands. The last three are terminal: such a job never changes state again."""

    PENDING = "pending"
    UPLOADING = "uploading"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = MappingProxyType(
    {
        JobState.PENDING: frozenset({JobState.UPLOADING, JobState.QUEUED, JobState.CANCELLED, JobState.FAILED}),
        JobState.UPLOADING: frozenset({JobState.QUEUED, JobState.CANCELLED, JobState.FAILED}),
        JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
        JobState.RUNNING: frozenset({JobState.COMPLETED, JobState.CANCELLED, JobState.FAILED, JobState.QUEUED}),
        JobState.COMPLETED: frozenset(),
        JobState.FAILED: frozenset(),
        JobState.CANCELLED: frozenset(),
    }
)
"""Edges of the state machine. running → queued is a requeue or the next segment, and raises `attempt`."""

TERMINAL: Final = frozenset(state for state, targets in TRANSITIONS.items() if not targets)
ACTIVE: Final = frozenset(JobState) - TERMINAL


MAX_STALLED: Final = 3
"""So many attempts in a row after which the next would begin no further on, and a resumable job is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the run is (SPEC J9). Zero totals mean: not known yet."""

    stage: str = ""
    stage_label: str = ""
    stage_done: int = 0
    stage_total: int = 0
    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    loss: float | None = None
    lr: float | None = None
    step_s: float | None = None
    images_per_s: float | None = None
    eta_s: float | None = None
    memory_mb: float | None = None

    @property
    def fraction(self) -> float:
        """Share of the optimiser steps done, 0 to 1."""
        return min(1.0, self.step / self.total_steps) if self.total_steps else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job failed, or what is wrong with it now: a stable code, one sentence, what to do."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRef:
    """The run at the provider: its reference for this attempt, and how far its log has been read."""

    ref: str = ""
    cursor: str = ""
    start_tried: bool = False
    """A start was sent whose answer is not known yet: `find` decides whether it arrived (SPEC J7)."""
    tried_at: float | None = None
    """When it was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training run as its owner sees it. Times are seconds since the epoch, UTC; money is US dollars."""

    id: str
    owner: str
    name: str
    provider: str
    target: str
    hardware: str
    remote: bool
    """Whether data leave this machine for it (the list's `job_type`: cloud or local)."""
    state: JobState
    attempt: int = 1
    created_at: float
    updated_at: float
    started_at: float | None = None
    completed_at: float | None = None
    cancel_requested_at: float | None = None
    retry_at: float | None = None
    """Not touched before this time: a transient fault is waited out."""
    digest: str
    nonce: str
    idempotency_key: str | None = None
    progress: Progress = field(default_factory=Progress)
    attempt_step: int = 0
    """The step at which the last attempt began that told of it; 0: from nothing."""
    stalled: int = 0
    """Attempts that ended since one began further on than the one before; at `MAX_STALLED` the job fails.

    Steps that were taken and then lost, for want of a checkpoint, are no headway: they would be paid for again for ever.
    """
    cost_usd: float | None = None
    failure: Failure | None = None
    waiting: str = ""
    """One sentence: why it does not run yet."""
    run: RunRef = field(default_factory=RunRef)
    log_bytes: int = 0
    upload_ref: str = ""
    """The provider's reference of the data it was handed."""
    settled_at: float | None = None
    """After the end: data discarded at the provider, grant revoked, spool removed."""
    result_sha256: str = ""
    """SHA-256 of the result's manifest once every file of it was verified on arrival."""
    uncertain: bool = False
    """Whether a run of this attempt exists cannot be told: no other is started until the user says so (SPEC J7)."""
    priority: int = DEFAULT_PRIORITY
    """As submitted, 0 to 50."""
    priority_override: int | None = None
    """Set later on; None: that of the submit counts."""
    claimed_at: float | None = None
    """When it got its slot (SPEC J10); it is sent and started only then."""
    version: int = 0
    """Raised by the store at each write; a write with an older one is refused."""

    @property
    def terminal(self) -> bool:
        """Whether the job has ended for good."""
        return self.state in TERMINAL

    @property
    def effective_priority(self) -> int:
        """The priority that counts."""
        return self.priority if self.priority_override is None else self.priority_override

    @property
    def waits_for_slot(self) -> bool:
        """Whether it stands in the queue: it may have been packed, and no run of it exists."""
        return self.claimed_at is None and (
            self.state is JobState.PENDING or (self._came_back and self.retry_at is None)
        )

    @property
    def waits_for_money(self) -> bool:
        """Whether it gave its slot back until a spend limit leaves something for its next run (SPEC M3)."""
        return self.claimed_at is None and self._came_back and self.retry_at is not None

    @property
    def _came_back(self) -> bool:
        return self.state is JobState.QUEUED and not self.imported

    @property
    def ended_for_money(self) -> bool:
        """Whether its end was asked for because its run passed what was set aside for it, not by a user (SPEC M4)."""
        code = None if self.failure is None else self.failure.code
        return self.cancel_requested_at is not None and code == SpendLimitReached.code

    @property
    def imported(self) -> bool:
        """Whether its run was started elsewhere: its log has no lines for us, and nothing of it comes home."""
        return not self.nonce

    def moved(self, state: JobState, *, now: float) -> Job:
        """This job in another state, with the times that go with it.

        Raises:
            IllegalTransition: the table has no such edge.
        """
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"a {self.state} job cannot become {state}", hint="reload the job and look again")
        requeued = self.state is JobState.RUNNING and state is JobState.QUEUED
        return dataclasses.replace(
            self,
            state=state,
            updated_at=now,
            attempt=self.attempt + 1 if requeued else self.attempt,
            stalled=self.stalled + 1 if requeued else self.stalled,
            run=RunRef() if requeued else self.run,
            started_at=now if state is JobState.RUNNING and self.started_at is None else self.started_at,
            completed_at=now if state in TERMINAL else None,
            waiting="" if state in TERMINAL or state is JobState.RUNNING else self.waiting,
            uncertain=False if state in TERMINAL else self.uncertain,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list shows. Empty and None let everything pass; `text` looks in names and ids.

    `key` is the idempotency key that a job was submitted under: who sent a submit and lost sight of the answer finds
    the job by it.
    """

    states: frozenset[JobState] = frozenset()
    provider: str | None = None
    text: str = ""
    owner: str | None = None
    remote: bool | None = None
    key: str | None = None


ALL_JOBS: Final = JobFilter()


class SortKey(enum.StrEnum):
    """What a list may be sorted by, in the names of its columns."""

    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    CONFIG_NAME = "config_name"
    STATUS = "status"
    PROVIDER = "provider"
    COST_USD = "cost_usd"
    DURATION_SECONDS = "duration_seconds"
    LOSS = "loss"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrder:
    """The order of a list. What is not known comes last both ways; the newest job comes first among equals."""

    key: SortKey = SortKey.CREATED_AT
    descending: bool = True

    @classmethod
    def parse(cls, text: str) -> JobOrder:
        """The order that a text such as `-created_at` names; a minus turns it round.

        Raises:
            InvalidRequest: there is no such key.
        """
        try:
            return cls(key=SortKey(text.removeprefix("-")), descending=text.startswith("-"))
        except ValueError as error:
            keys = ", ".join(SortKey)
            raise InvalidRequest(f"jobs cannot be sorted by {text!r}", hint=f"one of {keys}; -: descending") from error


NEWEST_FIRST: Final = "-created_at"
"""The order of a list that names none."""
