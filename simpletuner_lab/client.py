"""One verb set, two bodies: a notebook server over REST where one of this user runs, else the lab in this process.

client = connect()
job = client.submit(request, approve=client.plan(request).digest)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import httpx

from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.destination import Destination
from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.job import ALL_JOBS, NEWEST_FIRST, JobFilter
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.rest import LabClient
from simpletuner_lab.rest_money import MoneyDesk
from simpletuner_lab.rest_queue import Queue
from simpletuner_lab.rest_setup import Setup
from simpletuner_lab.rest_snapshots import Snapshots
from simpletuner_lab.servers import FoundServer, find_servers
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.provider_views import ProviderView, SyncView
from simpletuner_lab.services.views import (
    DeliveryView,
    EventView,
    JobDetail,
    JobPage,
    JobView,
    LogChunk,
    MetricsView,
    OutputsView,
    PlanView,
    PublishingView,
)

__all__ = ["Client", "LabClient", "answering", "connect"]


@runtime_checkable
class Client(Protocol):
    """The verbs; `services.front.Front` has the same, and its words on each."""

    @property
    def lab_id(self) -> str:
        """Which lab this is."""

    @property
    def setup(self) -> Setup:
        """How its providers are set up."""

    @property
    def money(self) -> MoneyDesk:
        """Its limits and what was spent."""

    @property
    def queue(self) -> Queue:
        """Its queue."""

    @property
    def snapshots(self) -> Snapshots:
        """What was submitted before."""

    def plan(self, request: SubmitRequest) -> PlanView:
        """What a submit would do."""

    def submit(
        self, request: SubmitRequest, *, approve: str | None = None, key: str | None = None, entry: str = "python"
    ) -> JobView:
        """Submits an approved plan."""

    def jobs(
        self, chosen: JobFilter = ALL_JOBS, *, sort: str = NEWEST_FIRST, limit: int = 50, offset: int = 0
    ) -> JobPage:
        """A page of jobs."""

    def job(self, job_id: str) -> JobView:
        """One job."""

    def detail(self, job_id: str) -> JobDetail:
        """One job with plan and timeline."""

    def events(self, after: int, *, job_id: str | None = None, limit: int = 1000) -> Sequence[EventView]:
        """Events after a cursor."""

    def log(self, job_id: str, *, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """A piece of the log."""

    def metrics(self, job_id: str, *, points: int | None = None, after_step: int | None = None) -> MetricsView:
        """The curve."""

    def outputs(self, job_id: str) -> OutputsView:
        """What has arrived."""

    def read_output(self, job_id: str, path: str, *, offset: int = 0, sha256: str = "") -> Iterator[bytes]:
        """The bytes of one file."""

    def push(self, job_id: str, destination: Destination, *, entry: str = "python") -> DeliveryView:
        """Sends a completed job's outputs on."""

    def deliveries(self, job_id: str) -> Sequence[DeliveryView]:
        """Where else a job's model goes, and how far it has come; none: it stays at home."""

    def hasten(self, job_id: str) -> Sequence[DeliveryView]:
        """Tries now what waits to be sent."""

    def give_up(self, job_id: str, push_id: str = "", *, entry: str = "python") -> Sequence[DeliveryView]:
        """Ends what waits to be sent: all, or one."""

    def settle(self, job_id: str) -> Sequence[DeliveryView]:
        """After a job's end: its deliveries. Without a server they are tried now."""

    def destination(self) -> Destination:
        """The default destination."""

    def set_destination(self, destination: Destination) -> None:
        """Changes it."""

    def publishing(self) -> PublishingView:
        """Which destinations could be used now."""

    def cancel(self, job_id: str) -> JobView:
        """Asks for the end."""

    def resolve(self, job_id: str, decision: Decision, *, entry: str = "python") -> JobView:
        """Decides about an uncertain start."""

    def sync(self, provider: str = "") -> SyncView:
        """Imports runs that were started elsewhere."""

    def delete(self, job_id: str, *, outputs: bool = False) -> None:
        """Removes a finished job."""

    def providers(self) -> Sequence[ProviderView]:
        """Installed providers."""

    def consent(self) -> ConsentMode:
        """The consent setting."""

    def set_consent(self, mode: ConsentMode) -> None:
        """Changes it."""


def answering(servers: Iterator[FoundServer], home: Home) -> LabClient | None:
    """The first server that runs our extension over this very home folder."""
    for server in servers:
        client = LabClient(server.url, server.token)
        try:
            answer = client._http.get("/health/live", timeout=2.0)  # noqa: SLF001
            if answer.status_code == 200 and answer.json().get("home") == str(home.root):
                return client
        except (httpx.HTTPError, ValueError, AttributeError):
            pass  # a stale runtime file, or no server of ours
        client.close()
    return None


def connect(url: str | None = None, token: str = "", *, environment: Mapping[str, str] | None = None) -> Client:
    """A client: of the server at `url`, else of this user's running server, else of the lab in this process.

    Raises:
        ServerUnreachable: `url` was given and nothing answers there.
        StoreUnusable: no server runs, and the lab's own database cannot be used.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    environment = os.environ if environment is None else environment
    if url is not None:
        client = LabClient(url, token)
        client.consent()
        return client
    home = Home.find(environment)
    found = answering(find_servers(environment, Path(jupyter_runtime_dir())), home)
    if found is not None:
        return found
    from simpletuner_lab.services.front import InProcess
    from simpletuner_lab.services.lab import Lab

    return InProcess(Lab.open(home.root))
