"""The verbs of every front-end, answered with views: REST handlers and in-process clients both call these."""

from __future__ import annotations

import codecs
import contextlib
import os
from collections.abc import Iterator, Sequence

from simpletuner_lab.core.canonical import JsonObject
from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.destination import Destination, HubDestination, Push
from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.errors import (
    CredentialUnusable,
    OutputChanged,
    ProviderUnavailable,
    StaleRecord,
)
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import ALL_JOBS, NEWEST_FIRST, Job, JobFilter, JobOrder
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.looks import look_at, look_at_all, start
from simpletuner_lab.services.metrics import downsample
from simpletuner_lab.services.money import Money
from simpletuner_lab.services.outputs import Arrival
from simpletuner_lab.services.provider_looks import ProviderLooks
from simpletuner_lab.services.provider_setup import ProviderSetup
from simpletuner_lab.services.provider_views import ProviderView, SyncView, unusable_view
from simpletuner_lab.services.queue_front import QueueFront
from simpletuner_lab.services.snapshots import Snapshots
from simpletuner_lab.services.steady import read_steadily
from simpletuner_lab.services.views import (
    ChargeView,
    DeliveryView,
    EventView,
    JobDetail,
    JobPage,
    JobView,
    LogChunk,
    MetricsView,
    OutputsView,
    OutputView,
    PlanView,
    PreviewView,
    PublishingView,
)


class Front:
    """A lab as front-ends see it."""

    def __init__(self, lab: Lab, looks: ProviderLooks | None = None) -> None:
        self.lab = lab
        self._looks = looks or ProviderLooks()

    @property
    def lab_id(self) -> str:
        """Which lab this is: the same in every process over the same home folder of this machine."""
        return self.lab.home.id

    @property
    def setup(self) -> ProviderSetup:
        """How its providers are set up."""
        return self.lab.setup

    @property
    def money(self) -> Money:
        """Its limits and what was spent."""
        return self.lab.money

    @property
    def queue(self) -> QueueFront:
        """Its queue."""
        return QueueFront(self.lab)

    @property
    def snapshots(self) -> Snapshots:
        """What was submitted before."""
        return self.lab.snapshots

    def plan(self, request: SubmitRequest) -> PlanView:
        """What a submit would send, to whom, for how much, and the digest to approve."""
        return PlanView.of(self.lab.plan(request))

    def preview(self, dataloader: Sequence[JsonObject], provider: str) -> PreviewView:
        """What of these data sets would leave for a provider, in counts."""
        remote = self.lab.registry.get(provider).capabilities.remote
        return PreviewView.of(self.lab.preview(dataloader), self.lab.consent_mode(), remote=remote)

    def submit(
        self, request: SubmitRequest, *, approve: str | None = None, key: str | None = None, entry: str = "python"
    ) -> JobView:
        """Submits a plan that was agreed to."""
        return self._view(self.lab.submit(request, approve=approve, key=key, entry=entry))

    def jobs(
        self, chosen: JobFilter = ALL_JOBS, *, sort: str = NEWEST_FIRST, limit: int = 50, offset: int = 0
    ) -> JobPage:
        """A page of jobs, sorted as `core.job.JobOrder` reads it, and the true total."""
        page = self.lab.store.jobs.page(chosen, JobOrder.parse(sort), limit=limit, offset=offset)
        return JobPage(jobs=self._views(page.jobs), total=page.total)

    def job(self, job_id: str) -> JobView:
        """One job as the list shows it."""
        return self._view(self.lab.store.jobs.get(job_id))

    def detail(self, job_id: str) -> JobDetail:
        """A job with its plan and timeline."""
        job = self.lab.store.jobs.get(job_id)
        plan = self.lab.store.jobs.plan(job_id)
        return JobDetail(
            job=self._view(job),
            plan=PlanView.of(plan),
            events=tuple(self.events(0, job_id=job_id)),
            deliveries=self.deliveries(job_id),
            charges=tuple(map(ChargeView.of, self.lab.charges(job_id))),
            metadata=self.snapshots.metadata(job_id),
        )

    def events(self, after: int, *, job_id: str | None = None, limit: int = 1000) -> Sequence[EventView]:
        """Events after a sequence number: all of them, or one job's."""
        found = self.lab.store.events.after(after, job_id=job_id, limit=limit)
        return tuple(EventView.of(event) for event in found)

    def log(self, job_id: str, *, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """A piece of the log, cut at the end of a line where that is possible."""
        job = self.lab.store.jobs.get(job_id)
        limit = min(limit, job.log_bytes - offset)
        text = self.lab.logs.read(job_id, offset, limit) if limit > 0 else b""
        if offset + len(text) < job.log_bytes:
            text = text[: text.rfind(b"\n") + 1] or _whole_characters(text)
        end = offset + len(text)
        return LogChunk(
            job_id=job_id,
            logs=text.decode(errors="replace"),
            offset=offset,
            next_offset=end,
            ended=job.terminal and end >= job.log_bytes,
        )

    def metrics(self, job_id: str, *, points: int | None = None, after_step: int | None = None) -> MetricsView:
        """The curve: at full resolution, or thinned to about `points` with every peak kept."""
        self.lab.store.jobs.get(job_id)
        curves = self.lab.store.points
        total = curves.count(job_id)
        if points is None or after_step is not None:
            return MetricsView.of(job_id, curves.read(job_id, after_step), total=total)
        thinned = downsample(curves.blocks(job_id), total=total, count=points, series=("loss",))
        return MetricsView.of(job_id, thinned, total=total)

    def outputs(self, job_id: str) -> OutputsView:
        """What has arrived, and where it lies."""
        job = self.lab.store.jobs.get(job_id)
        files = tuple(OutputView.of(file) for file in self.lab.outputs.list(job_id, self.arrivals(job)))
        folder = str(self.lab.outputs.folder(job_id))
        return OutputsView(
            job_id=job_id,
            folder=folder,
            verified=bool(job.result_sha256),
            outputs=files,
        )

    def push(self, job_id: str, destination: Destination, *, entry: str = "python") -> DeliveryView:
        """Sends a completed job's verified outputs on to a bucket or the Hub, now or again."""
        return DeliveryView.of(self.lab.push(job_id, destination, entry=entry))

    def deliveries(self, job_id: str) -> tuple[DeliveryView, ...]:
        """Each way of its model beyond home, the one asked for last at the end."""
        return _deliveries(self.lab.store.pushes.of_job(self.lab.store.jobs.get(job_id).id))

    def hasten(self, job_id: str) -> Sequence[DeliveryView]:
        """Tries now what of a job waits to be sent."""
        return _deliveries(self.lab.hasten(job_id))

    def give_up(self, job_id: str, push_id: str = "", *, entry: str = "python") -> Sequence[DeliveryView]:
        """Ends what of a job waits to be sent: all of it, or one delivery."""
        return _deliveries(self.lab.give_up(job_id, push_id, entry=entry))

    def settle(self, job_id: str) -> Sequence[DeliveryView]:
        """After the end of a job that somebody waited for: where else its model goes. The watcher brings it there."""
        return self.deliveries(job_id)

    def destination(self) -> Destination:
        """Where models go when a request does not say."""
        return self.lab.destination()

    def set_destination(self, destination: Destination) -> None:
        """Changes that."""
        self.lab.set_destination(destination)

    def publishing(self) -> PublishingView:
        """Which destinations could be used now; the Hub is asked who the token is of."""
        return _publishing(self.lab)

    def arrivals(self, job: Job) -> tuple[Arrival, ...]:
        """What of a job was compared with its checksums when it arrived: the result, and checkpoints."""
        checkpoints = self.lab.store.events.of_kind(job.id, EventKind.CHECKPOINT)
        found = [
            Arrival(prefix=str(event.data["key"]), sha256=str(event.data["sha256"]), verified_at=event.at)
            for event in checkpoints
            if event.data.get("verified")
        ]
        if job.result_sha256 and job.completed_at is not None:
            found.append(Arrival(sha256=job.result_sha256, verified_at=job.completed_at))
        return tuple(found)

    def read_output(self, job_id: str, path: str, *, offset: int = 0, sha256: str = "") -> Iterator[bytes]:
        """The bytes of one file from an offset on; a file that changes meanwhile is an error."""
        job = self.lab.store.jobs.get(job_id)
        with self.lab.outputs.open(job_id, path) as stream:
            known = self.lab.outputs.known(job_id, self.arrivals(job))
            if sha256 and known.sha256(path, os.fstat(stream.fileno())) != sha256:
                raise OutputChanged(f"{path} is not the file that was asked for any more", hint="list the outputs anew")
            yield from read_steadily(stream, path, offset=offset)

    def cancel(self, job_id: str) -> JobView:
        """Asks for the end of a job."""
        return JobView.of(self.lab.cancel(job_id))

    def resolve(self, job_id: str, decision: Decision, *, entry: str = "python") -> JobView:
        """Decides about a start of which nobody can tell whether it arrived."""
        return JobView.of(self.lab.resolve(job_id, decision, entry=entry))

    def sync(self, provider: str = "") -> SyncView:
        """Imports runs that were started elsewhere."""
        found = self.lab.sync(provider)
        jobs = tuple(map(JobView.of, found.imported))
        return SyncView(synced=len(jobs), updated=len(found.seen), jobs=jobs)

    def delete(self, job_id: str, *, outputs: bool = False) -> None:
        """Removes a finished job."""
        self.lab.delete(job_id, outputs=outputs)

    def providers(self) -> Sequence[ProviderView]:
        """Every installed provider, the usable ones first; one that does not answer soon is told as that."""
        views = self._looks.views(self.lab.registry)
        views += [
            unusable_view(listed.id, listed.label, reason="coming soon", soon=True)
            for listed in self.lab.registry.announced
        ]
        views += [unusable_view(broken.id, broken.id, reason=broken.reason) for broken in self.lab.registry.broken]
        return tuple(views)

    def consent(self) -> ConsentMode:
        """The consent setting."""
        return self.lab.consent_mode()

    def set_consent(self, mode: ConsentMode) -> None:
        """Changes the consent setting."""
        self.lab.set_consent_mode(mode)

    def _views(self, jobs: Sequence[Job]) -> tuple[JobView, ...]:
        standings = self.lab.queue.standings(jobs)
        return tuple(JobView.of(job, standings.get(job.id)) for job in jobs)

    def _view(self, job: Job) -> JobView:
        return self._views((job,))[0]


class InProcess(Front):
    """The verbs without a server: nobody else watches, so each look at jobs first brings them up to date.

    What waits to be sent on is carried by `push`, `hasten` and `settle` alone: a look never waits for a destination.
    """

    def submit(
        self, request: SubmitRequest, *, approve: str | None = None, key: str | None = None, entry: str = "python"
    ) -> JobView:
        """Submits, and stays until the run exists, or it waits for a slot: a run lives without this process."""
        return self._view(start(self.lab, self.lab.submit(request, approve=approve, key=key, entry=entry)))

    def job(self, job_id: str) -> JobView:
        """One job, after a look at its run."""
        look_at(self.lab, job_id)
        return super().job(job_id)

    def detail(self, job_id: str) -> JobDetail:
        """Job, plan and timeline, after a look at its run."""
        look_at(self.lab, job_id)
        return super().detail(job_id)

    def deliveries(self, job_id: str) -> tuple[DeliveryView, ...]:
        """Deliveries, after a look at its run."""
        look_at(self.lab, job_id)
        return super().deliveries(job_id)

    def log(self, job_id: str, *, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """A piece of the log, after a look at the run."""
        look_at(self.lab, job_id)
        return super().log(job_id, offset=offset, limit=limit)

    def jobs(
        self, chosen: JobFilter = ALL_JOBS, *, sort: str = NEWEST_FIRST, limit: int = 50, offset: int = 0
    ) -> JobPage:
        """A page of jobs, after a look at every run."""
        look_at_all(self.lab)
        return super().jobs(chosen, sort=sort, limit=limit, offset=offset)

    def cancel(self, job_id: str) -> JobView:
        """Asks for the end of a job, and tells its provider."""
        super().cancel(job_id)
        return self.job(job_id)

    def resolve(self, job_id: str, decision: Decision, *, entry: str = "python") -> JobView:
        """Decides, and stays for what follows: nobody else would do it."""
        super().resolve(job_id, decision, entry=entry)
        return self.job(job_id)

    def push(self, job_id: str, destination: Destination, *, entry: str = "python") -> DeliveryView:
        """Sends the outputs on, and stays for the first try: nobody else would make it."""
        push = self.lab.push(job_id, destination, entry=entry)
        with contextlib.suppress(StaleRecord):
            push = self.lab.courier.carry(push)
        return DeliveryView.of(push)

    def hasten(self, job_id: str) -> Sequence[DeliveryView]:
        """Sends what waits, and stays for one try of each."""
        look_at(self.lab, job_id)
        super().hasten(job_id)
        return self.settle(job_id)

    def settle(self, job_id: str) -> Sequence[DeliveryView]:
        """Clears up after a job that has ended, and stays for a try of each push that is due."""
        look_at(self.lab, job_id)
        for push in self.lab.courier.due(job_id):
            with contextlib.suppress(StaleRecord):
                self.lab.courier.carry(push)
        return super().settle(job_id)

    @property
    def queue(self) -> QueueFront:
        """Its queue, after a look at every run."""
        return QueueFront(self.lab, look=lambda: look_at_all(self.lab))


def _deliveries(pushes: Sequence[Push]) -> tuple[DeliveryView, ...]:
    return tuple(map(DeliveryView.of, pushes))


def _whole_characters(text: bytes) -> bytes:
    """A piece of a line without the character that its end cuts in two; never nothing of something."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(text)
    begun, _ = decoder.getstate()
    return text[: len(text) - len(begun)] or text


def _publishing(lab: Lab) -> PublishingView:
    said: str | None = None
    name: str | None = None
    configured, valid = False, None
    try:
        token = lab.tokens.hub()
        if token is not None:
            configured = True
            name, valid = lab.tokens.account(token).name, True
    except CredentialUnusable as error:
        configured, valid, said = True, False, error.message
    except ProviderUnavailable as error:
        said = error.message
    try:
        s3 = bool(lab.tokens.s3())
    except CredentialUnusable as error:
        s3, said = False, said or error.message
    default = lab.destination()
    repo_id = default.repo_id if isinstance(default, HubDestination) else None
    return PublishingView(
        hf_configured=configured,
        hf_token_valid=valid,
        hf_username=name,
        hub_model_id=repo_id,
        push_to_hub=repo_id is not None,
        s3_configured=s3,
        local_upload_available=True,
        local_upload_dir=str(lab.home.outputs),
        message=said,
    )
