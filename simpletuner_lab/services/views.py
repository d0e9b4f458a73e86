"""What front-ends see: the JSON shapes of REST, as values (reference names of the routes' fields in docs/rest.md).

Each view is made from domain values here, encoded and decoded by `codec`, and is the same object whether it came
from a lab in this process or over HTTP. Times are ISO 8601 in UTC; money is US dollars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simpletuner_lab.core.consent import ConsentMode, ConsentState
from simpletuner_lab.core.cost import Estimate, Rate
from simpletuner_lab.core.destination import DeliveryState, Destination, Push
from simpletuner_lab.core.event import Event, EventKind, Scalar
from simpletuner_lab.core.job import Failure, Job, JobState, Progress
from simpletuner_lab.core.job_queue import Standing
from simpletuner_lab.core.ledger import Charge
from simpletuner_lab.core.manifest import DatasetManifest, Manifest
from simpletuner_lab.core.metric import Points
from simpletuner_lab.core.plan import Credential, Plan
from simpletuner_lab.core.provider import Target
from simpletuner_lab.core.verdict import SpendVerdict
from simpletuner_lab.services.outputs import OutputFile
from simpletuner_lab.services.snapshot_views import JobMetadata
from simpletuner_lab.services.times import iso


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """One job of the list."""

    job_id: str
    job_type: str
    """`local` or `cloud`."""
    provider: str
    target: str
    status: JobState
    config_name: str
    hardware_type: str
    attempt: int
    created_at: str
    started_at: str | None
    completed_at: str | None
    duration_seconds: float | None
    is_terminal: bool
    is_active: bool
    cancel_requested: bool
    progress: Progress
    cost_usd: float | None
    waiting: str
    error: Failure | None
    error_message: str | None
    digest: str
    result_sha256: str
    """Set once every delivered file was compared with its checksum."""
    log_bytes: int
    uncertain: bool
    updated_at: str
    priority: int
    queue_position: int | None
    """While it waits for a slot: 1 is the next."""
    version: int
    """Raised by every write, so of two views of a job the one with the higher version is the newer."""

    @classmethod
    def of(cls, job: Job, standing: Standing | None = None) -> JobView:
        """The view of a job, and of where it stands in the queue."""
        end = job.completed_at if job.terminal else job.updated_at
        return cls(
            job_id=job.id,
            job_type="cloud" if job.remote else "local",
            provider=job.provider,
            target=job.target,
            status=job.state,
            config_name=job.name,
            hardware_type=job.hardware,
            attempt=job.attempt,
            created_at=iso(job.created_at),
            started_at=None if job.started_at is None else iso(job.started_at),
            completed_at=None if job.completed_at is None else iso(job.completed_at),
            duration_seconds=None if job.started_at is None or end is None else round(end - job.started_at, 3),
            is_terminal=job.terminal,
            is_active=not job.terminal,
            cancel_requested=job.cancel_requested_at is not None,
            progress=job.progress,
            cost_usd=job.cost_usd,
            waiting=job.waiting if standing is None else standing.why,
            error=job.failure,
            error_message=None if job.failure is None else job.failure.message,
            digest=job.digest,
            result_sha256=job.result_sha256,
            log_bytes=job.log_bytes,
            uncertain=job.uncertain,
            updated_at=iso(job.updated_at),
            priority=job.effective_priority,
            queue_position=None if standing is None else standing.position,
            version=job.version,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """What would be sent, to whom, for how much: all that a person agrees to by the digest."""

    name: str
    digest: str
    consent: ConsentState
    provider: str
    account: str
    endpoint: str
    remote: bool
    target: Target
    rate: Rate
    destination: Destination
    steps: int
    estimate: Estimate
    datasets: tuple[DatasetManifest, ...]
    total_files: int
    total_bytes: int
    credentials: tuple[Credential, ...]
    stays: tuple[str, ...]
    warnings: tuple[str, ...]
    config: Mapping[str, object]
    dataloader: tuple[Mapping[str, object], ...]
    spend: SpendVerdict | None = None

    @classmethod
    def of(cls, plan: Plan) -> PlanView:
        """The view of a plan."""
        identity = plan.identity
        return cls(
            name=plan.name,
            digest=plan.digest,
            consent=plan.consent,
            provider=identity.provider,
            account=identity.account,
            endpoint=identity.endpoint,
            remote=plan.remote,
            target=plan.target,
            rate=plan.rate,
            destination=identity.destination,
            steps=plan.steps,
            estimate=plan.estimate,
            datasets=identity.manifest.datasets,
            total_files=len(identity.manifest.files),
            total_bytes=identity.manifest.bytes,
            credentials=identity.credentials,
            stays=plan.stays,
            warnings=plan.warnings,
            config=identity.config,
            dataloader=tuple(identity.dataloader),
            spend=plan.spend,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewDataset:
    """One data set in short."""

    id: str
    type: str
    instance_data_dir: str
    file_count: int
    total_size_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewView:
    """What would leave, in counts; the plan has every file."""

    requires_upload: bool
    consent_mode: ConsentMode
    datasets: tuple[PreviewDataset, ...]
    total_files: int
    total_size_mb: float
    message: str

    @classmethod
    def of(cls, manifest: Manifest, mode: ConsentMode, *, remote: bool) -> PreviewView:
        """The view of a manifest; megabytes are of 1,000,000 bytes."""
        datasets = tuple(
            PreviewDataset(
                id=entry.id,
                type="local",
                instance_data_dir=entry.root,
                file_count=len(entry.files),
                total_size_mb=entry.bytes / 1e6,
            )
            for entry in manifest.datasets
        )
        withheld = sum(len(entry.withheld) for entry in manifest.datasets)
        where = "would be sent" if remote else "would be read here"
        return cls(
            requires_upload=remote,
            consent_mode=mode,
            datasets=datasets,
            total_files=len(manifest.files),
            total_size_mb=manifest.bytes / 1e6,
            message=f"{len(manifest.files)} files {where}, {withheld} stay where they are",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """One line of a job's timeline; `seq` is a cursor."""

    seq: int
    job_id: str
    kind: EventKind
    at: str
    data: Mapping[str, Scalar]

    @classmethod
    def of(cls, event: Event) -> EventView:
        """The view of an event."""
        return cls(seq=event.seq, job_id=event.job_id, kind=event.kind, at=iso(event.at), data=dict(event.data))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """One page of the job list, and how many jobs there are in all."""

    jobs: tuple[JobView, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """A piece of a job's log. `ended`: the job is over and this piece reaches the end."""

    job_id: str
    logs: str
    offset: int
    next_offset: int
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsView:
    """Columns of a job's curve: one entry a step, or a downsampled curve that keeps every peak."""

    job_id: str
    total: int
    step: tuple[int, ...]
    loss: tuple[float | None, ...]
    lr: tuple[float | None, ...]
    grad_norm: tuple[float | None, ...]

    @classmethod
    def of(cls, job_id: str, points: Points, *, total: int) -> MetricsView:
        """The view of some points; NaN becomes null."""
        return cls(
            job_id=job_id,
            total=total,
            step=tuple(points.step),
            loss=_finite(points.loss),
            lr=_finite(points.lr),
            grad_norm=_finite(points.grad_norm),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputView:
    """One delivered file."""

    path: str
    bytes: int
    modified_at: str
    sha256: str
    """Empty where the file was not compared with a checksum, or was written since."""

    @classmethod
    def of(cls, file: OutputFile) -> OutputView:
        """The view of an output."""
        return cls(path=file.path, bytes=file.bytes, modified_at=iso(file.modified_at), sha256=file.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryView:
    """A model on its way to a bucket or the Hub, or there. `url` is empty until something has arrived."""

    id: str
    state: DeliveryState
    destination: Destination
    url: str
    problem: str
    hint: str

    @classmethod
    def of(cls, push: Push) -> DeliveryView:
        """The view of a push."""
        return cls(
            id=push.id,
            state=push.state,
            destination=push.destination,
            url=push.url,
            problem=push.problem,
            hint=push.hint,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeView:
    """What one run of a job has cost, by the time that its provider charges for. Null: not known."""

    attempt: int
    hardware: str
    metered_s: float | None
    cost_usd: float | None
    usd_per_hour: float | None
    as_of: str
    final: bool
    """The run has ended: nothing is added to this."""

    @classmethod
    def of(cls, charge: Charge) -> ChargeView:
        """The view of a charge."""
        return cls(
            attempt=charge.attempt,
            hardware=charge.hardware,
            metered_s=charge.metered_s,
            cost_usd=charge.cost_usd,
            usd_per_hour=charge.usd_per_hour,
            as_of=charge.as_of,
            final=charge.final,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishingView:
    """Which destinations could be used now: the fields that users of the original know."""

    hf_configured: bool
    hf_token_valid: bool | None
    """Null: there is no token, or the Hub does not answer."""
    hf_username: str | None
    hub_model_id: str | None
    push_to_hub: bool
    s3_configured: bool
    local_upload_available: bool
    local_upload_dir: str | None
    message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputsView:
    """All delivered files of a job and the folder they lie in."""

    job_id: str
    folder: str
    verified: bool
    outputs: tuple[OutputView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetail:
    """A job with its plan as submitted, its timeline, and what became of its model beyond home."""

    job: JobView
    plan: PlanView
    events: tuple[EventView, ...]
    deliveries: tuple[DeliveryView, ...]
    """None where it stays at home; the one asked for last at the end."""
    charges: tuple[ChargeView, ...]
    """One a run, in the order of the attempts."""
    metadata: JobMetadata = field(default_factory=JobMetadata)


def _finite(values: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(None if value != value else value for value in values)  # noqa: PLR0124 - NaN alone differs from itself
