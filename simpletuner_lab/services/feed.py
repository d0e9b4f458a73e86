"""The feed of everything that happened, followed by the numbers that every write draws (`schema.sequence`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select

from simpletuner_lab.core.event import Event, EventKind
from simpletuner_lab.core.job import Job
from simpletuner_lab.services import rows, schema
from simpletuner_lab.services.database import Database

_AT_ONCE: Final = 500
"""Jobs of one look at what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written since a number: each job as it is now, with the number of its newest event (0: none)."""

    jobs: tuple[tuple[Job, int], ...] = ()
    deletions: tuple[Event, ...] = ()
    seq: int
    """The number to go on from."""


class Feed:
    """Events in order, and which jobs were written, whichever process did it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(self, seq: int, *, job_id: str | None = None, limit: int = 1000) -> tuple[Event, ...]:
        """Events after a cursor, in order; of one job, or of all jobs with the deletions of the last days."""
        events = schema.events
        query = select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(limit)
        if job_id is not None:
            query = query.where(events.c.job_id == job_id)
        with self._database.read() as connection:
            found = [rows.event_from(row) for row in connection.execute(query).mappings()]
            if job_id is None:
                found += _deletions(connection, seq, limit)
        return tuple(sorted(found, key=_seq)[:limit])

    def of_kind(self, job_id: str, kind: EventKind) -> tuple[Event, ...]:
        """All events of one kind in a job's timeline."""
        events = schema.events
        query = select(events).where(events.c.job_id == job_id, events.c.kind == kind).order_by(events.c.seq)
        with self._database.read() as connection:
            return tuple(rows.event_from(row) for row in connection.execute(query).mappings())

    def max_seq(self) -> int:
        """The cursor after everything that has happened so far. Never falls, also when jobs are deleted."""
        with self._database.read() as connection:
            return _last(connection)

    def written(self, seq: int) -> Written:
        """What was written after a number; where nothing was, this is a look at one row."""
        with self._database.read() as connection:
            last = _last(connection)  # first: what is committed in between is found again, never missed
            if last <= seq:
                return Written(seq=seq)
            found = connection.execute(_written(seq)).all()
            deletions = _deletions(connection, seq, _AT_ONCE)
        ends = [last]
        if len(found) == _AT_ONCE:
            ends.append(found[-1][0])
        if len(deletions) == _AT_ONCE:
            ends.append(deletions[-1].seq)
        return Written(
            jobs=tuple((rows.job_from(tuple(row[2:])), row[1]) for row in found),
            deletions=tuple(deletions),
            seq=min(ends),
        )


def _last(connection: Connection) -> int:
    return int(connection.execute(select(schema.sequence.c.value)).scalar_one())


def _written(seq: int) -> Select[tuple[Any, ...]]:
    """Number, newest event and row of each job that was written after a number."""
    jobs, events = schema.jobs.c, schema.events.c
    newest = select(func.max(events.seq)).where(events.job_id == jobs.id).scalar_subquery()
    columns = (jobs.changed, func.coalesce(newest, 0), *rows.JOB_COLUMNS)
    return select(*columns).where(jobs.changed > seq).order_by(jobs.changed).limit(_AT_ONCE)


def _deletions(connection: Connection, seq: int, limit: int) -> list[Event]:
    deletions = schema.deletions
    query = select(deletions).where(deletions.c.seq > seq).order_by(deletions.c.seq).limit(limit)
    return [rows.deletion_from(row) for row in connection.execute(query).mappings()]


def _seq(event: Event) -> int:
    return event.seq
