"""Rows of the store as values of the core, and back. JSON columns are encoded here and nowhere else."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import RowMapping

from simpletuner_lab.core.destination import AwayDestination, DeliveryState, Push
from simpletuner_lab.core.event import Event, EventDraft, EventKind
from simpletuner_lab.core.grant import Grant, Verb
from simpletuner_lab.core.job import Failure, Job, JobState, Progress, RunRef
from simpletuner_lab.core.job_queue import HIGHEST
from simpletuner_lab.core.ledger import Charge
from simpletuner_lab.services import schema
from simpletuner_lab.services.codec import dumps, loads


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A stretch of the list of jobs, and how many jobs the filter passes in all."""

    jobs: tuple[Job, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Bytes that left this machine: what, where to, when, and when the copy there was deleted (SPEC C3)."""

    id: int
    job_id: str
    what: str
    where_to: str
    digest: str
    bytes: int
    files: int
    sent_at: float
    discarded_at: float | None = None


@dataclass(frozen=True, slots=True)
class FileStamp:
    """A file as it was when it was hashed: another size, time or inode means that the hash is worthless."""

    path: str
    size: int = field(kw_only=True)
    mtime_ns: int = field(kw_only=True)
    ctime_ns: int = field(kw_only=True)
    inode: int = field(kw_only=True)

    @property
    def text(self) -> str:
        """Everything but the path."""
        return f"{self.size} {self.mtime_ns} {self.ctime_ns} {self.inode}"


_OWN: Final = {"run_class", "changed", "loss", "rank", "place"}
"""Columns of the store alone: what is written beside a job, and what repeats it."""
JOB_COLUMNS: Final = tuple(column for column in schema.jobs.c if column.name not in _OWN)
_JOB_NAMES: Final = tuple(column.name for column in JOB_COLUMNS)
_INNER: Final = {"progress": Progress, "failure": Failure, "run": RunRef}
_PLAIN: Final = tuple(f.name for f in dataclasses.fields(Job) if f.name not in {"state", "version", *_INNER})
_DEFAULTS: Final = {cls: {f.name: f.default for f in dataclasses.fields(cls)} for cls in _INNER.values()}


def dump_json(value: object) -> str:
    """Compact JSON. NaN is allowed: a loss may be one, and only we read it back."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def job_row(job: Job) -> dict[str, Any]:
    """Every column of a job but its version, and what the store writes beside it."""
    return {name: getattr(job, name) for name in _PLAIN} | {
        "state": job.state.value,
        "progress": _dump(job.progress),
        "failure": None if job.failure is None else _dump(job.failure),
        "run": _dump(job.run),
        "rank": HIGHEST - job.effective_priority,
        "loss": None if job.progress.loss is None or math.isnan(job.progress.loss) else job.progress.loss,
    }


def run_of(text: str) -> RunRef:
    """The run of a job, as its column has it."""
    return RunRef(**json.loads(text))


def job_from(row: tuple[Any, ...]) -> Job:
    """The job of a row of `JOB_COLUMNS`."""
    found = dict(zip(_JOB_NAMES, row, strict=True))
    found["state"] = JobState(found["state"])
    found["progress"] = Progress(**json.loads(found["progress"]))
    found["run"] = run_of(found["run"])
    if found["failure"] is not None:
        found["failure"] = Failure(**json.loads(found["failure"]))
    return Job(**found)


def _dump(value: Progress | Failure | RunRef) -> str:
    """Only what is not the default: most jobs of a long list have little to say."""
    found = ((name, getattr(value, name), default) for name, default in _DEFAULTS[type(value)].items())
    return dump_json({name: given for name, given, default in found if given != default})


def event_from_draft(draft: EventDraft, *, seq: int, job_id: str) -> Event:
    """A draft with its place in the order of all events."""
    return Event(seq=seq, job_id=job_id, kind=draft.kind, at=draft.at, data=dict(draft.data))


def event_row(event: Event) -> dict[str, Any]:
    """Every column of an event."""
    return {
        "seq": event.seq,
        "job_id": event.job_id,
        "kind": event.kind.value,
        "at": event.at,
        "data": dump_json(event.data),
    }


def event_from(row: RowMapping) -> Event:
    """The event of a row."""
    return Event(
        seq=row["seq"], job_id=row["job_id"], kind=EventKind(row["kind"]), at=row["at"], data=json.loads(row["data"])
    )


def deletion_from(row: Mapping[Any, Any]) -> Event:
    """A deletion as the last event of its job; its data have the version that the job would have next."""
    return Event(
        seq=row["seq"], job_id=row["job_id"], kind=EventKind.DELETED, at=row["at"], data={"version": row["version"]}
    )


def grant_row(grant: Grant) -> dict[str, Any]:
    """Every column of a grant."""
    row = {f.name: getattr(grant, f.name) for f in dataclasses.fields(Grant)}
    return row | {"verbs": " ".join(sorted(grant.verbs))}


def grant_from(row: RowMapping) -> Grant:
    """The grant of a row."""
    return Grant(**{**row, "verbs": frozenset(Verb(verb) for verb in row["verbs"].split())})


def push_row(push: Push) -> dict[str, Any]:
    """Every column of a push."""
    row = {f.name: getattr(push, f.name) for f in dataclasses.fields(Push)}
    return row | {
        "destination": dumps(push.destination),
        "state": push.state.value,
        "checkpoints": dump_json(push.checkpoints),
    }


def push_from(row: RowMapping) -> Push:
    """The push of a row."""
    kind: Any = AwayDestination
    destination = loads(kind, row["destination"], what="the stored destination")
    read = {"destination": destination, "state": DeliveryState(row["state"])}
    return Push(**{**row, **read, "checkpoints": tuple(json.loads(row["checkpoints"]))})


def charge_row(charge: Charge) -> dict[str, Any]:
    """Every column of a charge."""
    return {f.name: getattr(charge, f.name) for f in dataclasses.fields(Charge)}


def charge_from(row: RowMapping) -> Charge:
    """The charge of a row."""
    return Charge(**row)


def transfer_from(row: RowMapping) -> Transfer:
    """The transfer of a row."""
    return Transfer(**row)
