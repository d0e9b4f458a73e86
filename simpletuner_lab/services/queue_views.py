"""The queue as front-ends see it: the answers of `/api/queue`, in the names that users of the original know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.job_queue import Limits, Standing, priority_name
from simpletuner_lab.services.times import iso

BLOCKED = "blocked"
"""Waits for money: a spend limit leaves nothing for its next run, and it holds no slot meanwhile."""


def queue_status(job: Job) -> str:
    """How a job stands in the queue: `pending` until it has a slot, `ready` with one until its run is seen to run."""
    if job.waits_for_slot:
        return "pending"
    if job.waits_for_money:
        return BLOCKED
    return job.state.value if job.terminal or job.state is JobState.RUNNING else "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueEntry:
    """One job of the queue."""

    id: str
    job_id: str
    user_id: str
    provider: str
    config_name: str
    priority: int
    priority_name: str
    """Of the priority that counts."""
    priority_override: int | None
    effective_priority: int
    status: str
    position: int | None
    queued_at: str
    started_at: str | None
    completed_at: str | None
    estimated_cost: float | None
    """Null: the plan has the estimate."""
    requires_approval: bool
    attempt: int
    error_message: str | None
    estimated_wait_seconds: float | None
    """Until it has a slot, as runs took so far; null where no run tells it."""
    waiting: str
    """One sentence: why it waits."""

    @classmethod
    def of(cls, job: Job, standing: Standing | None = None, wait_s: float | None = None) -> QueueEntry:
        """The entry of a job, where it stands, and how long it may wait."""
        return cls(
            id=job.id,
            job_id=job.id,
            user_id=job.owner,
            provider=job.provider,
            config_name=job.name,
            priority=job.priority,
            priority_name=priority_name(job.effective_priority),
            priority_override=job.priority_override,
            effective_priority=job.effective_priority,
            status=queue_status(job),
            position=None if standing is None else standing.position,
            queued_at=iso(job.created_at),
            started_at=None if job.started_at is None else iso(job.started_at),
            completed_at=None if job.completed_at is None else iso(job.completed_at),
            estimated_cost=None,
            requires_approval=False,
            attempt=job.attempt,
            error_message=None if job.failure is None else job.failure.message,
            estimated_wait_seconds=None if wait_s is None else round(wait_s, 1),
            waiting=job.waiting if standing is None else standing.why,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePage:
    """A stretch of the queue: who holds a slot, then who waits, in their order, then who has ended, if asked for."""

    entries: tuple[QueueEntry, ...]
    total_pending: int
    total_running: int
    """Jobs that hold a slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQueue:
    """The jobs of the user who asks."""

    pending_count: int
    running_count: int
    blocked_count: int
    best_position: int | None
    pending_jobs: tuple[QueueEntry, ...]
    running_jobs: tuple[QueueEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePosition:
    """Where one job stands."""

    job_id: str
    position: int | None
    """Null: it does not wait."""
    status: str
    priority: int
    """The one that counts."""
    queued_at: str
    estimated_wait_seconds: float | None
    waiting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSlots:
    """This machine. No graphics card is set aside for a job by its number, so nothing is told of them."""

    running_jobs: int
    pending_jobs: int
    max_concurrent_jobs: int
    allocated_gpus: tuple[int, ...] | None = None
    available_gpus: tuple[int, ...] | None = None
    total_gpus: int | None = None
    max_concurrent_gpus: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSlots:
    """Workers of one's own, of which there are none yet."""

    total_workers: int = 0
    idle_workers: int = 0
    busy_workers: int = 0
    offline_workers: int = 0
    draining_workers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """The queue in numbers."""

    by_status: Mapping[str, int]
    by_user: Mapping[str, int]
    """Jobs that wait or hold a slot."""
    queue_depth: int
    """Jobs that wait."""
    running: int
    """Jobs that hold a slot."""
    avg_wait_seconds: float | None
    """Of the last hundred that got a slot."""
    max_concurrent: int
    user_max_concurrent: int
    team_max_concurrent: int | None
    enable_fair_share: bool
    local_gpu_max_concurrent: int | None
    local_job_max_concurrent: int
    local: LocalSlots
    workers: WorkerSlots = field(default_factory=WorkerSlots)


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """How many jobs may hold a slot at once. There are no teams, no fair share and no numbered graphics cards."""

    max_concurrent: int
    user_max_concurrent: int
    local_job_max_concurrent: int
    """Of one provider on this machine."""
    providers: Mapping[str, int | None]
    """Limits of single providers; null: none of its own."""
    team_max_concurrent: int | None = None
    enable_fair_share: bool = False
    local_gpu_max_concurrent: int | None = None

    @classmethod
    def of(cls, limits: Limits, installed: Mapping[str, bool]) -> Concurrency:
        """The view of limits; `installed` has every provider, and whether it is elsewhere."""
        own: dict[str, int | None] = {name: None if remote else limits.local for name, remote in installed.items()}
        return cls(
            max_concurrent=limits.total,
            user_max_concurrent=limits.user,
            local_job_max_concurrent=limits.local,
            providers=own | dict(limits.providers),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyChange:
    """What of it is to change; None: nothing. A provider with null has the usual limit again."""

    max_concurrent: int | None = None
    user_max_concurrent: int | None = None
    local_job_max_concurrent: int | None = None
    providers: Mapping[str, int | None] = field(default_factory=dict)
    team_max_concurrent: int | None = None
    enable_fair_share: bool | None = None
    local_gpu_max_concurrent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reprioritised:
    """A job's priority before and after."""

    job_id: str
    previous_effective_priority: int
    new_effective_priority: int
    priority_override: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """The jobs that were given a slot just now."""

    dispatched: int
    job_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedUp:
    """How many finished jobs were removed."""

    deleted: int
    days: int
