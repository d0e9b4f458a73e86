"""What a provider is (DESIGN §2.4): data the front-ends draw, and ten methods the lab calls.

A provider is one module and one entry point in the group `simpletuner_lab.providers`. Its methods are synchronous,
may block on I/O, and raise `ProviderFailure` or `ProviderUnavailable`. `simpletuner_lab.testing.provider_contract`
is the test suite that every provider passes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Final, Protocol, runtime_checkable

from simpletuner_lab.core.canonical import JsonObject
from simpletuner_lab.core.cost import Rate, amount_or_none
from simpletuner_lab.core.destination import Delivery
from simpletuner_lab.core.errors import Problem
from simpletuner_lab.core.secret import Secret

ENTRY_POINTS: Final = "simpletuner_lab.providers"

WEBHOOK_PATH: Final = "/api/webhooks"
"""Below it, by a provider's id, what it calls back at: under the URL of this server as it is seen from outside."""


class RunState(enum.StrEnum):
    """A provider's word for a run, translated. UNKNOWN keeps the job where it is and shows a problem on it."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Ended before its time, with a checkpoint; can go on."""
    LOST = "lost"
    """Gone without a word: killed, machine restarted."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something a provider can run, and what it can do: plans say what a target lacks."""

    id: str
    label: str
    version: str
    live_metrics: bool
    resume: bool
    inputs: frozenset[str] = frozenset({"archive"})
    """How data reach it: packed (`archive`), or read where they lie (`hub`, `s3`)."""
    ours: bool = True
    """It runs our trainer, so what that refuses is refused by the plan; another one judges a config by itself."""
    mixes: bool = False
    """Data sets of this machine and data sets elsewhere may be in one run."""
    manifest: bool = True
    """Its results end with a manifest of checksums; without one, that they arrived whole cannot be checked."""
    delivers: bool = True
    """It is told where results go. One that is not leaves them where its provider puts them: none comes home, and what a
    config says about publishing is handed on as it is."""
    deadline: bool = True
    """It can be told by when a run is to end. One of another that costs too much is cancelled when that is seen."""
    lacks: tuple[str, ...] = ()
    """Sentences for the plan: what a run there does otherwise than the config says, or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Limits and habits of a provider, as its documents give them."""

    remote: bool
    """Data leave this machine."""
    max_upload_bytes: int | None = None
    warn_upload_bytes: int | None = None
    poll_s: float = 5.0
    """How often a run is asked for when nothing nudges."""
    status_page: str = ""
    stays: tuple[str, ...] = ()
    """What remains at the provider after a run, and for how long (SPEC C3)."""
    archive_stays: str = ""
    """The same of the packed data sets: first of all where there are any."""
    coming_soon: bool = False
    """Announced, not open (SPEC P6): listed, not selectable, and never built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Whether the provider can be used now, by whom, and if not why."""

    ready: bool
    account: str = ""
    message: str = ""
    hint: str = ""
    unused: bool = False
    """Nobody has set it up yet, so nothing is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a form offers: targets and hardware, the default first."""

    targets: tuple[Target, ...]
    rates: tuple[Rate, ...]
    endpoint: str
    """Where the data go, as it stands in the plan: a host, or `this machine`."""
    run_limit_s: float | None = None
    """How long one run may take; a longer job goes on in the next one, where its target resumes. None: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTag:
    """Names one attempt of one job at the provider; `find` looks runs up by it."""

    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The packed data sets, in the 0600 spool, as verified against the plan."""

    path: Path
    bytes: int
    sha256: str
    files: int
    content_bytes: int
    """Size of all files once unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOrder:
    """Everything a run needs. `secrets` go to the run's environment, by name, and nowhere else."""

    tag: RunTag
    target: str
    version: str = ""
    """Of the target, as the plan pinned it; empty: the newest."""
    hardware: str
    nonce: str
    config: JsonObject
    dataloader: Sequence[JsonObject]
    plan_digest: str
    archive: Archive | None
    """None: no data of this machine are needed."""
    upload_ref: str
    """Empty without an archive."""
    delivery: Delivery
    deadline_s: float | None
    """The run is to end within this time of its start, with a checkpoint; the provider's own deadline lies behind it."""
    limit_s: float | None = None
    """After this time the provider ends the run itself, whatever it does, where it can be told so: it is not paid for."""
    webhook_url: str = ""
    """Where the provider may call back from outside; empty where nothing of this lab can be reached."""
    secrets: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProgress:
    """How far a run is by the words of its log, where what runs there writes no report lines."""

    step: int
    total_steps: int = 0
    """0: not told."""
    loss: float | None = None
    lr: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A run as the provider shows it now: its state, and the log text since the cursor."""

    state: RunState
    cursor: str
    log: bytes = b""
    """Whole lines (each with its newline) that came after the cursor that was asked for."""
    raw_state: str = ""
    exit_code: int | None = None
    error: str = ""
    """The provider's own words, or the last meaningful line of the log."""
    waiting: str = ""
    cost_usd: float | None = None
    """What this run has cost so far by the provider's own metered time; None where that is not known."""
    metered_s: float | None = None
    """The seconds that it charges for."""
    progress: LogProgress | None = None
    """Counts only where the log has no report lines."""
    results_url: str = ""
    """Where its results are, of a target that does not deliver."""

    def __post_init__(self) -> None:
        """What is told and is no amount (not finite, below 0) is not known: it would pass every limit."""
        object.__setattr__(self, "cost_usd", amount_or_none(self.cost_usd))
        object.__setattr__(self, "metered_s", amount_or_none(self.metered_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """A run at the provider as its list shows it, whoever started it. Times are seconds since the epoch."""

    ref: str
    tag: RunTag | None
    """None: it was not started by a lab, or that cannot be told."""
    target: str
    """The id of the target that it runs; runs of anything else are not listed."""
    state: RunState
    raw_state: str = ""
    hardware: str = ""
    created_at: float
    started_at: float | None = None
    completed_at: float | None = None
    cost_usd: float | None = None
    error: str = ""

    def __post_init__(self) -> None:
        """As of a `Snapshot`."""
        object.__setattr__(self, "cost_usd", amount_or_none(self.cost_usd))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderContext:
    """What the composition root gives each provider: a folder of its own under the lab's state."""

    home: Path
    environment: Mapping[str, str]
    secrets: Path | None = None
    """Folder of the user's own tokens, a 0600 file each, named like the variable of the environment; None: there is none."""


ProgressCallback = Callable[[int, int], None]
"""Called with (bytes done, bytes in all); may raise to stop the transfer. No more than 0 done: they were there already."""


class Provider(Protocol):
    """A place where jobs run.

    One that needs a token of its user says under which name in a class attribute `token_name`, and in `token_prefix` what
    every such token begins with.
    """

    id: ClassVar[str]
    label: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    Settings: ClassVar[type]
    """A frozen dataclass of settings with defaults; front-ends draw its form, cattrs reads it."""

    def check(self) -> Check:
        """Whether it can be used now."""

    def options(self) -> Options:
        """Targets, hardware and rates."""

    def upload(self, archive: Archive, tag: RunTag, progress: ProgressCallback) -> str:
        """Hands the archive over; returns the reference that `start` and `discard` understand. Safe to repeat."""

    def start(self, order: StartOrder) -> str:
        """Starts a run; returns its reference. Never retried blindly: `find` decides what became of a lost answer.

        Raises:
            UploadGone: nothing was started, since the data of `upload_ref` are not there any more.
        """

    def find(self, tag: RunTag) -> str | None:
        """The reference of the run with this tag, or None if there certainly is none.

        Raises:
            ProviderUnavailable: it cannot be told now.
            ProviderUncertain: it cannot be told, and waiting will not help.
        """

    def list(self) -> Sequence[ListedRun]:
        """Runs of our targets that the provider still shows, the newest first."""

    def poll(self, ref: str, cursor: str) -> Snapshot:
        """State and new log text. An empty cursor reads from the start."""

    def cancel(self, ref: str) -> None:
        """Asks the run to end, for good. Returns at once; harmless on one that has ended."""

    def discard(self, tag: RunTag, upload_ref: str) -> bool:
        """Deletes the provider's copy of the data; True once it is seen to be gone. Only after the run ended.

        An empty `upload_ref`: they were sent, and the answer was lost or was none.

        Raises:
            ProviderUncertain: it cannot be told, and waiting will not help; that is put on record, and not asked again.
        """

    def webhook(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Verifies a webhook and returns the run reference it speaks of; None for a provider without webhooks."""


@runtime_checkable
class Located(Protocol):
    """What a provider elsewhere has besides: where and for whom it works, so cheap that every step of a job may ask.

    One without it is asked by `options` and `check`.
    """

    @property
    def endpoint(self) -> str:
        """As in `Options`, by the settings alone: nothing is asked."""

    def account(self) -> str:
        """As in `Check`; kept for a while, for each token.

        Raises:
            TokenUnusable: there is no token, or it is refused.
            ProviderUnavailable: it cannot be told now.
        """


@runtime_checkable
class HoldsToken(Protocol):
    """What a provider with a token may have besides: it looks for its token itself, and so says whether it finds it."""

    def holds_token(self) -> bool:
        """Whether there is a token; asks nobody outside.

        Raises:
            CredentialUnusable, TokenUnusable: there is one that cannot be used.
        """


@runtime_checkable
class JudgesSettings(Protocol):
    """What a provider may have besides: it looks at what its settings name on this machine; nobody outside is asked."""

    def setting_problems(self) -> Iterable[Problem]:
        """Settings that cannot work here, such as the name of a file that is not there; asked when they are changed."""

    def setting_doubts(self) -> Sequence[str]:
        """What is unsafe about the others, in sentences for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CausedWebhook:
    """A webhook that a provider was made to send."""

    said: str
    """What was done and costs, in a sentence."""
    ref: str = ""
    """Of the run that sends it, as the provider calls it; empty where that is not known."""


@runtime_checkable
class CausesWebhooks(Protocol):
    """What a provider may have besides: it can be made to send a webhook, so that the way from there is tested."""

    def test_webhook(self, url: str) -> CausedWebhook:
        """Has the provider call this URL soon, signed as ever.

        Raises:
            ProviderFailure, ProviderUnavailable: nothing will come, and why.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """How a provider's service stands by its own status page: names of what is going on, or is to come."""

    operational: bool | None = None
    """False while there is an incident or a maintenance; None: that cannot be told."""
    ongoing_incidents: tuple[str, ...] = ()
    in_progress_maintenances: tuple[str, ...] = ()
    scheduled_maintenances: tuple[str, ...] = ()
    status_page_url: str = ""
    error: str = ""
    """Why it cannot be told."""


@runtime_checkable
class TellsStatus(Protocol):
    """What a provider with a status page may have besides."""

    def service_status(self) -> ServiceStatus:
        """What the page says, kept for a while; a page that does not answer is an `error` in it."""
