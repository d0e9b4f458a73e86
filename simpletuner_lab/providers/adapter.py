"""The documented interface of the original's cloud services: a class written to it plugs in as a provider (DESIGN §2.4).

    class AcmeTrainer(CloudTrainerService):
        ...

    Acme = provider_of(AcmeTrainer, id="acme", label="Acme")     # from simpletuner_lab.providers.adapted

An entry point `acme = "my_package:Acme"` of the group `simpletuner_lab.providers` does the rest; docs/developers.md tells
what such a class may do beyond the interface. Standard library alone.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TAG: str = "job_tag"
"""Under this key of its metadata a job may repeat the `job_tag` it was started with."""


class CloudJobStatus(enum.StrEnum):
    """Where a job stands. The last three are final."""

    PENDING = "pending"
    UPLOADING = "uploading"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(kw_only=True)
class CloudJobInfo:
    """A job as the service shows it. Times are ISO 8601, without a zone UTC; money is US dollars."""

    job_id: str
    job_type: str = "cloud"
    provider: str = ""
    status: CloudJobStatus | str = CloudJobStatus.PENDING
    config_name: str = ""
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    cost_usd: float | None = None
    """So far, for the run alone; only ever grows."""
    hardware_type: str | None = None
    error_message: str | None = None
    output_url: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


class CloudJobRefusedError(Exception):
    """`run_job` started nothing, and why. Any other exception of it leaves that open."""


class CloudJobNotFoundError(LookupError):
    """The service has no such job, for certain."""


class CloudTrainerService(ABC):
    """A place that trains. Its coroutines run on one event loop of their own, one provider one loop."""

    @property
    @abstractmethod
    def provider_name(self) -> str:
        """What people call it."""

    @property
    @abstractmethod
    def supports_cost_tracking(self) -> bool:
        """Whether `cost_usd` of its jobs counts."""

    @property
    @abstractmethod
    def supports_live_logs(self) -> bool:
        """Whether a job has a log before it has ended."""

    @abstractmethod
    async def validate_credentials(self) -> dict[str, Any]:
        """`valid`; `user_info`, a name or an object with one; `error`, where it is not valid."""

    @abstractmethod
    async def list_jobs(self, limit: int = 50) -> list[CloudJobInfo]:
        """The newest jobs, the newest first."""

    @abstractmethod
    async def run_job(
        self, config: Mapping[str, Any], dataloader: Sequence[Mapping[str, Any]], **more: Any
    ) -> CloudJobInfo:
        """Starts a job.

        Of these it is given what its signature names: `images` (path of a zip with the local data sets, whose folders the
        dataloader names; it wants `discard_data` too), `job_tag` (a text to be kept in the metadata), `hardware`,
        `delivery` (an object: where the model goes) with `secrets` (the keys for that, by name), `webhook_url`,
        `deadline_s` (seconds by which the run ends itself).

        Raises:
            CloudJobRefusedError: nothing was started.
        """

    @abstractmethod
    async def cancel_job(self, job_id: str) -> bool:
        """Asks a job to end; whether it will. Harmless on one that has ended."""

    @abstractmethod
    async def get_job_logs(self, job_id: str) -> str:
        """The whole log so far."""

    @abstractmethod
    async def get_job_status(self, job_id: str) -> CloudJobInfo:
        """The job as it is now.

        Raises:
            CloudJobNotFoundError: there is none.
        """
