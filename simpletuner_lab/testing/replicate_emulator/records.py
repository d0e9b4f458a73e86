"""What an emulated Replicate knows: accounts, hardware, models, predictions, and what it tells about them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final


class Refusal(Exception):
    """An answer that is not 2xx: its status, and what `application/problem+json` says."""

    def __init__(self, status: int, detail: str, title: str = "") -> None:
        self.status, self.detail, self.title = status, detail, title
        super().__init__(detail)


class Status(StrEnum):
    """Of a prediction."""

    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    ABORTED = "aborted"

    @property
    def is_terminal(self) -> bool:
        """Whether it stays so for good."""
        return self not in {Status.STARTING, Status.PROCESSING}


class Word(StrEnum):
    """Of `webhook_events_filter`: what a webhook can tell. A failure and a cancellation are told as `completed`."""

    START = "start"
    OUTPUT = "output"
    LOGS = "logs"
    COMPLETED = "completed"


class Shape(StrEnum):
    """Of answers about predictions: all members of the OpenAPI document, or the few that were recorded in 2024."""

    FULL = "full"
    YEAR_2024 = "2024"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose a token is: a `user` or an `organization`."""

    username: str
    name: str = ""
    type: str = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a model runs on, with its price; the API tells the sku and the name alone."""

    sku: str
    name: str
    usd_per_s: float
    as_of: str
    """Date of the price list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a model.

    `inputs` are JSON Schema properties by name, `required` the names of those without a default; `x-cog-secret` marks
    what is never told again.
    """

    id: str
    model: str
    created_at: float
    hardware: str
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    output: Mapping[str, Any] = field(default_factory=lambda: {"title": "Output"})
    cog_version: str = "0.23.1"

    def openapi_schema(self) -> dict[str, Any]:
        """As the API tells it."""
        given = {
            "type": "object",
            "title": "Input",
            "properties": {name: dict(one) for name, one in self.inputs.items()},
        }
        if self.required:
            given["required"] = list(self.required)
        return {
            "openapi": "3.0.2",
            "info": {"title": "Cog", "version": "0.1.0"},
            "paths": {},
            "components": {"schemas": {"Input": given, "Output": dict(self.output)}},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model with its versions, the newest first. An official one is run by its name, and hides its version."""

    owner: str
    name: str
    versions: tuple[Version, ...]
    description: str = ""
    visibility: str = "public"
    official: bool = False

    @property
    def id(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"


@dataclass(slots=True, kw_only=True)
class Conduct:
    """How the emulator behaves where that is its own choice. Times are seconds of its clock; all may be set at any time."""

    queue_s: float = 0.0
    """From a create until a worker may take it."""
    boot_s: float = 0.0
    """What a worker needs before its first run."""
    idle_s: float = 60.0
    """After so long without work it is cold again."""
    cancel_s: float = 0.0
    """How long a cancel of a running prediction takes; 0: its answer already says canceled."""
    run_limit_s: float = 1800.0
    keep_data_s: float = 3600.0
    keep_files_s: float = 24 * 3600.0
    max_file_bytes: int = 100 << 20
    page_size: int = 100
    creates_per_min: int = 600
    others_per_min: int = 3000
    credit_usd: float | None = None
    """Prepaid: at 0 new work is refused."""
    shape: Shape = Shape.FULL
    default_words: tuple[Word, ...] = (Word.OUTPUT, Word.COMPLETED)
    """Of a create that names a webhook and no filter."""
    tells_aborted: bool = True
    """Whether a webhook tells of an aborted prediction."""
    throttle_s: float = 0.5
    """Between two webhooks about output, and two about logs."""
    retry_after_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 29.0)
    """Between tries of the last webhook: the last try is a minute after the first."""


@dataclass(slots=True, kw_only=True, eq=False)
class Prediction:
    """One run of a model, or one training: what it was given and what has become of it."""

    id: str
    number: int
    """Counts creates: lists are sorted by it."""
    kind: str
    """`predictions` or `trainings`, as in addresses."""
    owner: str
    model: str
    version: Version
    version_shown: str
    given: dict[str, Any]
    """The input with its secrets, for the engine alone."""
    input: dict[str, Any]
    created_at: float
    deadline: float | None = None
    webhook: str | None = None
    words: frozenset[Word] = frozenset()
    deployment: str | None = None
    destination: str | None = None
    status: Status = Status.STARTING
    started_at: float | None = None
    completed_at: float | None = None
    logs: str = ""
    output: Any = None
    error: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    data_removed: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request that was answered: the route's name, the method, the path, the status (0: no answer)."""

    route: str
    method: str
    path: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One try of a webhook: the status of its receiver's answer, 0 if there was none."""

    message_id: str
    prediction_id: str
    word: Word
    attempt: int
    at: float
    status: int


REDACTED: Final = "[REDACTED]"
"""What stands for a secret in answers; what Replicate writes there is not known."""


def moment(seconds: float) -> str:
    """As the API writes a time: UTC, microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def milliseconds(seconds: float) -> str:
    """As it writes the times of a file."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
