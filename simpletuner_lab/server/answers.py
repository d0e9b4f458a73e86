"""Answers of routes that are more than one view, or less: what users of the original know them by."""

from __future__ import annotations

from dataclasses import dataclass

from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.errors import Problem
from simpletuner_lab.core.job import JobState
from simpletuner_lab.server.rooms import Part
from simpletuner_lab.services.provider_views import ProviderView
from simpletuner_lab.services.queue_views import CleanedUp, Concurrency, Dispatched, Reprioritised
from simpletuner_lab.services.recommending import Recommended
from simpletuner_lab.services.views import DeliveryView, EventView, JobView


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """Any answer that is an error: what a person reads, what a program reads, and what to do."""

    detail: str
    code: str
    hint: str
    problems: tuple[Problem, ...]
    message: str
    """The same as `detail`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTaken:
    """A job that was submitted, cancelled or decided about, as it is now."""

    success: bool = True
    job_id: str
    status: JobState
    job: JobView

    @classmethod
    def of(cls, job: JobView) -> JobTaken:
        """The answer about a job."""
        return cls(job_id=job.job_id, status=job.status, job=job)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmitted:
    """A job that was submitted, and what a spend limit says of it."""

    success: bool = True
    job_id: str
    status: JobState
    job: JobView
    cost_limit_warning: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRerun:
    """A new job of an older one's request."""

    success: bool = True
    job_id: str
    status: JobState
    job: JobView
    rerun_of: str
    same_digest: bool
    """What leaves is the same to the byte, and goes to the same place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDone:
    """What was asked of a job is done."""

    success: bool = True
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAlone:
    """A job without its plan and timeline."""

    job: JobView


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineProgress:
    """What a list row shows; `progress` is 0 to 100."""

    job_id: str
    stage: str
    last_log: str
    progress: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events in order, and the number of the last write on any job."""

    events: tuple[EventView, ...]
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentSetting:
    """The consent setting."""

    consent: ConsentMode


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentSet:
    """The consent setting as it is from now on."""

    success: bool = True
    consent: ConsentMode


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotsSetting:
    """Whether each submit makes a snapshot."""

    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotsSet:
    """Whether it does from now on."""

    success: bool = True
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PrioritySet(Reprioritised):
    """A job's priority before and after, as it was set."""

    success: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencySet(Concurrency):
    """How many jobs may hold a slot at once from now on."""

    success: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsGiven(Dispatched):
    """Free slots were given away, to these jobs."""

    success: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupDone(CleanedUp):
    """So many finished jobs were removed."""

    success: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderList:
    """Every installed provider, the usable ones first."""

    providers: tuple[ProviderView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKept:
    """A provider's token is kept."""

    success: bool = True
    file_path: str
    """On the lab's machine."""
    warning: str
    """Which jobs it has to suit; empty where none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGone:
    """A provider's token is not kept any more."""

    success: bool = True
    deleted: bool
    """False: there was none."""
    warning: str
    """Which jobs want one; empty where none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryList:
    """Ways of a model to a bucket or the Hub."""

    deliveries: tuple[DeliveryView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendedSet(Recommended):
    """The recommended destination is the default from now on."""

    success: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """The process lives. `home` is empty until the store is open; one `lab`: one home folder of one machine."""

    status: str = "alive"
    version: str
    home: str
    lab: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`healthy`, `starting`, `degraded` or `unhealthy`, and why."""

    status: str
    version: str
    components: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A webhook was taken."""

    received: bool = True
