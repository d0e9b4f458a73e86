"""A provider made of any class with the documented interface (`adapter.CloudTrainerService`).

What the interface lacks is made up for where that can be done honestly, and said in the plan where it cannot: a start is
noted before it is sent and looked for by its tag, a log is read from a cursor, a state that is not known changes nothing.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

from simpletuner_lab.core.cost import Rate, amount_or_none
from simpletuner_lab.core.errors import LabError, ProviderFailure, ProviderUnavailable, ProviderUncertain
from simpletuner_lab.core.provider import (
    Archive,
    Capabilities,
    Check,
    ListedRun,
    Options,
    ProgressCallback,
    ProviderContext,
    RunState,
    RunTag,
    Snapshot,
    StartOrder,
    Target,
)
from simpletuner_lab.core.redact import bare_url
from simpletuner_lab.providers._service_answers import (
    job_of,
    jobs_of,
    log_of,
    name_of,
    named_job_of,
    never_began,
    state_of,
    tag_of,
    tag_text,
    time_of,
    wrong,
)
from simpletuner_lab.providers._service_notes import Note, Notes
from simpletuner_lab.providers._service_thread import ServiceThread
from simpletuner_lab.providers.adapter import TAG, CloudJobInfo, CloudJobNotFoundError, CloudJobRefusedError

Make: TypeAlias = Callable[[ProviderContext], Any]
"""Makes a service with what a provider is given: an environment, a folder of its own, a folder of tokens."""

_MEMBERS: Final = (
    "provider_name", "supports_cost_tracking", "supports_live_logs", "validate_credentials", "list_jobs", "run_job",
    "cancel_job", "get_job_logs", "get_job_status",
)  # fmt: skip
_ENDED: Final = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})
_LISTED: Final = 50
_KNOWN_S: Final = 60.0
"""So long it is not asked again whose account it is."""
_log = logging.getLogger(__name__)
_HELD: Final = "held until the start"
"""Reference of data that leave with the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Settings of a service behind the documented interface."""

    usd_per_hour: float | None = None
    """What an hour there costs, for estimates and limits; the interface does not tell it."""
    hardware: str = ""
    """What it runs on, as `usd_per_hour` is of; the service is told it where it asks."""
    timeout_s: float = 120.0
    """How long an answer may take; a start may send the data meanwhile."""

    def __post_init__(self) -> None:
        if self.usd_per_hour is not None and amount_or_none(self.usd_per_hour) is None:
            raise ValueError("usd_per_hour is 0 to 1e12")
        if not 0 < self.timeout_s <= 86400:
            raise ValueError("timeout_s is a fraction of a second to 86400")


def provider_of(service: type[Any], *, id: str, label: str, make: Make | None = None) -> type[ServiceProvider]:  # noqa: A002 - it is the provider's
    """The provider that a service becomes.

    Args:
        service: a class with the members of `CloudTrainerService`, a subclass of it or not.
        id: of the provider, and of its entry point.
        label: what lists call it.
        make: how a service is made; by itself it takes no arguments.

    Raises:
        TypeError: it lacks members.
    """
    if missing := [name for name in _MEMBERS if not hasattr(service, name)]:
        raise TypeError(f"{service.__name__} has no {', '.join(missing)}")
    takes = frozenset(inspect.signature(service.run_job).parameters)
    keeps = f"{label} keeps its log and what it was given as long as it likes: this lab cannot delete that"
    members = {
        "id": id,
        "label": label,
        "capabilities": Capabilities(remote=True, stays=(keeps,)),
        "make": staticmethod(make or (lambda _context: service())),
        "takes": takes,
        "packed": "images" in takes and hasattr(service, "discard_data"),
        "__module__": service.__module__,
    }
    return type(f"{service.__name__}Provider", (ServiceProvider,), members)


class ServiceProvider:
    """Calls the service. `make`, `takes` and `packed` are `provider_of`'s."""

    id: ClassVar[str]
    label: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    Settings: ClassVar[type] = ServiceSettings
    make: ClassVar[Any]
    takes: ClassVar[frozenset[str]]
    """Arguments of its `run_job`."""
    packed: ClassVar[bool]
    """Whether it takes packed data sets, and deletes them."""

    def __init__(self, settings: ServiceSettings, context: ProviderContext) -> None:
        self._settings = settings
        self._service = self.make(context)
        self._thread = ServiceThread(self.label, settings.timeout_s)
        self._notes = Notes(context.home)
        self._known: tuple[float, Check] | None = None
        self._odd: set[str] = set()

    @property
    def endpoint(self) -> str:
        """By its name: the interface has no address."""
        return str(self._service.provider_name)

    def account(self) -> str:
        """Whose it is, as it was said a moment ago.

        Raises:
            ProviderUnavailable: it cannot be used now.
        """
        known = self._known
        if known is None or not known[1].ready or time.monotonic() - known[0] > _KNOWN_S:
            known = (time.monotonic(), self.check())
            self._known = known
        if not known[1].ready:
            raise ProviderUnavailable(known[1].message, hint=known[1].hint)
        return known[1].account

    def check(self) -> Check:
        """What it says of its credentials."""
        try:
            told = self._ask("validate_credentials")
            if not isinstance(told, dict | bool):
                raise wrong(self.label, "validate_credentials", told, "an object with `valid`")
        except (LabError, CloudJobNotFoundError) as error:
            return Check(ready=False, message=str(error), hint=f"look at what {self.label} needs, and try again")
        said = told if isinstance(told, dict) else {"valid": told}
        valid = bool(said.get("valid", not said.get("error")))
        if not valid:
            why = str(said.get("error") or "its credentials are not valid")
            return Check(ready=False, message=why, hint=f"look at what {self.label} needs")
        return Check(ready=True, account=name_of(said.get("user_info")))

    def options(self) -> Options:
        """One target, and the price that the settings name."""
        settings = self._settings
        rate = Rate(hardware=settings.hardware or "any", label=settings.hardware or "its own choice",
                    usd_per_hour=settings.usd_per_hour)  # fmt: skip
        inputs = {"hub", "s3"} | ({"archive"} if self.packed else set())
        target = Target(
            id="service", label=self.label, version="1", live_metrics=False, resume=False, inputs=frozenset(inputs),
            ours=False, mixes=True, manifest=False, delivers="delivery" in self.takes,
            deadline="deadline_s" in self.takes, lacks=tuple(self._lacks()),
        )  # fmt: skip
        return Options(targets=(target,), rates=(rate,), endpoint=self.endpoint)

    def upload(self, archive: Archive, tag: RunTag, progress: ProgressCallback) -> str:  # noqa: ARG002 - a provider's form
        """The data go with the start: the interface hands over all at once."""
        progress(archive.bytes, archive.bytes)
        return _HELD

    def start(self, order: StartOrder) -> str:
        """Starts a job, once: that it was tried is on disk before."""
        if (known := self._notes.read(order.tag)) and known.ref:
            return known.ref
        self._notes.write(order.tag, Note(packed=order.archive is not None))
        try:
            told = self._ask("run_job", dict(order.config), list(order.dataloader), **self._more(order))
            ref = named_job_of(self.label, "run_job", told).job_id
        except CloudJobRefusedError as error:
            self._notes.forget(order.tag)
            raise ProviderFailure(f"{self.label} refuses: {error}", hint="change what it objects to") from error
        except (ProviderFailure, CloudJobNotFoundError) as error:  # it may have begun one all the same
            raise ProviderUncertain(str(error)) from error
        self._notes.write(order.tag, Note(ref=ref, packed=order.archive is not None))
        return ref

    def find(self, tag: RunTag) -> str | None:
        """By our own note, else by the tag in its metadata."""
        note = self._notes.read(tag)
        if note is None or note.ref:
            return None if note is None else note.ref
        if TAG not in self.takes:
            raise ProviderUncertain(f"{self.label} does not keep the names of starts, and this one was not answered")
        found = self._jobs()
        ref = next((info.job_id for info in found if tag_of(info) == tag), None)
        if ref is not None:
            self._notes.write(tag, Note(ref=ref, packed=note.packed))
        elif len(found) >= _LISTED:
            raise ProviderUncertain(f"{self.label} lists no more than {len(found)} jobs, and it is not among them")
        return ref

    def list(self) -> Sequence[ListedRun]:
        """What it lists."""
        tags = self._notes.all()
        return [self._listed(info, tag_of(info) or tags.get(info.job_id)) for info in self._jobs()]

    def poll(self, ref: str, cursor: str) -> Snapshot:
        """Its state, and its log from the cursor on."""
        try:
            info = self._status(ref)
        except CloudJobNotFoundError as error:
            return Snapshot(state=RunState.LOST, cursor=cursor, error=str(error) or f"{self.label} has no job {ref}")
        state, at = state_of(info), int(cursor or 0)
        log = b""
        if state in _ENDED or self._service.supports_live_logs:
            log = self._log(ref, at, whole=state in _ENDED)
        return Snapshot(
            state=state,
            cursor=str(at + len(log)),
            log=log,
            raw_state=str(info.status),
            error=info.error_message or "" if state is RunState.FAILED else "",
            waiting=f"{self.label} has not begun it" if state is RunState.QUEUED else "",
            cost_usd=self._cost_usd(info),
            metered_s=0.0 if never_began(info) else None,
            results_url=bare_url(info.output_url or ""),
        )

    def cancel(self, ref: str) -> None:
        """Asks for its end."""
        try:
            self._ask("cancel_job", ref)
        except CloudJobNotFoundError:
            return  # it has ended, and is gone

    def discard(self, tag: RunTag, upload_ref: str) -> bool:  # noqa: ARG002 - a provider's form
        """Whether the data that went with each start of the job are gone.

        Raises:
            ProviderUncertain: whether there is a run that has them cannot be told.
        """
        doubt: ProviderUncertain | None = None
        gone = True
        for attempt in range(1, tag.attempt + 1):
            try:
                gone = self._discarded(RunTag(job_id=tag.job_id, attempt=attempt)) and gone
            except ProviderUncertain as error:
                doubt = error
        if gone and doubt is not None:
            raise doubt
        return gone

    def _discarded(self, tag: RunTag) -> bool:
        note = self._notes.read(tag)
        if note is None or not note.packed:
            return True
        ref = note.ref or self.find(tag)
        if not ref:
            return True
        try:
            if state_of(self._status(ref)) not in _ENDED:
                raise ProviderFailure(f"job {ref} has not ended", hint="cancel it first")
            return bool(self._ask("discard_data", ref))
        except CloudJobNotFoundError:
            return True

    def webhook(self, headers: Mapping[str, str], body: bytes) -> str | None:  # noqa: ARG002 - a provider's form
        """The interface has none."""
        return None

    def _lacks(self) -> Iterator[str]:
        yield f"how far a run is, {self.label} does not tell: its log is all there is to see"
        if not self._service.supports_live_logs:
            yield f"{self.label} shows a log when a run has ended"
        if not self._service.supports_cost_tracking:
            yield f"{self.label} does not tell what a run costs"
        if "deadline_s" not in self.takes:
            late = "" if self._service.supports_cost_tracking else ", by the clock and some minutes late"
            yield f"{self.label} is not told by when a run is to end: past what a spend limit leaves it, it is cancelled{late}"
        if not self.packed:
            yield f"{self.label} takes no files from this machine"
        if "delivery" not in self.takes:
            yield f"{self.label} is not told where the model goes: it stays where {self.label} puts it"

    def _more(self, order: StartOrder) -> dict[str, Any]:
        """What of an order the service asks for."""
        delivery = {name: getattr(order.delivery, name) for name in order.delivery.__slots__}
        offered: dict[str, Any] = {
            "images": None if order.archive is None else Path(order.archive.path),
            TAG: tag_text(order.tag),
            "hardware": self._settings.hardware,
            "delivery": {"kind": type(order.delivery).__name__.removesuffix("Delivery").lower()} | delivery,
            "secrets": {name: secret.reveal() for name, secret in order.secrets.items()},
            "webhook_url": order.webhook_url,
            "deadline_s": order.deadline_s,
        }
        return {name: value for name, value in offered.items() if name in self.takes}

    def _ask(self, member: str, *given: Any, **more: Any) -> Any:
        """What a member of the service answers.

        Raises:
            CloudJobNotFoundError, CloudJobRefusedError, ProviderUnavailable: as `ServiceThread.call`.
        """

        async def asked() -> Any:  # called on the loop too: what it raises is the service's fault
            told = getattr(self._service, member)(*given, **more)
            return await told if inspect.isawaitable(told) else told

        return self._thread.call(asked())

    def _status(self, ref: str) -> CloudJobInfo:
        """The job; one that is answered with nothing is none."""
        told = self._ask("get_job_status", ref)
        if told is None:
            raise CloudJobNotFoundError(f"{self.label} has no job {ref}")
        return job_of(self.label, "get_job_status", told)

    def _cost_usd(self, info: CloudJobInfo) -> float | None:
        """What it says that a job has cost. What is no amount is not known, which a limit does not take for nothing."""
        told = info.cost_usd if self._service.supports_cost_tracking else None
        cost_usd = amount_or_none(told)
        if told is not None and cost_usd is None and str(info.job_id) not in self._odd:
            self._odd.add(str(info.job_id))  # once: a run is asked for again and again
            _log.warning("%s says that job %s has cost %r: taken as not known", self.label, info.job_id, told)
        return cost_usd

    def _jobs(self) -> Sequence[CloudJobInfo]:
        return jobs_of(self.label, "list_jobs", self._ask("list_jobs", limit=_LISTED))

    def _log(self, ref: str, at: int, *, whole: bool) -> bytes:
        """Whole lines from there on; at the end the last text too, as a line."""
        try:
            log = log_of(self.label, "get_job_logs", self._ask("get_job_logs", ref))[at:]
        except CloudJobNotFoundError:
            return b""
        if whole:
            return log if not log or log.endswith(b"\n") else log + b"\n"
        return log[: log.rfind(b"\n") + 1]

    def _listed(self, info: CloudJobInfo, tag: RunTag | None) -> ListedRun:
        state = state_of(info)
        created = time_of(info.created_at)
        return ListedRun(
            ref=info.job_id,
            tag=tag,
            target="service",
            state=state,
            raw_state=str(info.status),
            hardware=info.hardware_type or "",
            created_at=time.time() if created is None else created,
            started_at=time_of(info.started_at),
            completed_at=time_of(info.completed_at) if state in _ENDED else None,
            cost_usd=self._cost_usd(info),
            error=info.error_message or "",
        )
