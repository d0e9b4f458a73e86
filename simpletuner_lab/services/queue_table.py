"""The jobs table as a queue: who waits, who holds a slot, and the claim of a slot, which is one transaction (SPEC J10)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, insert, or_, select, true, update

from simpletuner_lab.core.event import Event, EventDraft, EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.job_queue import Held, Limits, Turn
from simpletuner_lab.services import rows, schema
from simpletuner_lab.services.database import Database, draw_numbers

_JOBS: Final = schema.jobs.c

_QUEUED: Final = _JOBS.state == JobState.QUEUED.value
_NEW: Final = and_(_JOBS.state == JobState.PENDING.value, _JOBS.claimed_at.is_(None))
_CAME_BACK: Final = and_(_QUEUED, _JOBS.claimed_at.is_(None), _JOBS.nonce != "", _JOBS.retry_at.is_(None))
"""Gave its slot back for want of money, and there is money for its next run again (`Job.waits_for_money`)."""
_BLOCKED: Final = and_(_QUEUED, _JOBS.claimed_at.is_(None), _JOBS.nonce != "", _JOBS.retry_at.is_not(None))
_WAITS: Final = or_(_CAME_BACK, _NEW)
_HOLDS: Final = or_(
    _JOBS.state.in_(sorted((JobState.UPLOADING.value, JobState.RUNNING.value))),
    and_(_QUEUED, or_(_JOBS.claimed_at.is_not(None), _JOBS.nonce == "")),
    and_(_JOBS.state == JobState.PENDING.value, _JOBS.claimed_at.is_not(None)),
)
"""A job that is under way, whoever started it: that of a run which was imported too."""

_ORDER: Final[tuple[ColumnElement[Any], ...]] = (_JOBS.rank, _JOBS.place, _JOBS.id)
_LINE: Final = (case((_QUEUED, 0), else_=1), *_ORDER)
"""The whole line. Those that came back are few, and are asked for by themselves where the rest is read by its index."""


_REMEMBERED: Final = 500
"""Rows whose jobs are remembered: the queue is looked at again and again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many jobs of one user wait and hold a slot, on this machine or elsewhere."""

    owner: str
    remote: bool
    waiting: int = 0
    held: int = 0


class QueueTable:
    """Claims are compare-and-set under the writers' lock, so that no slot is given twice, whichever process asks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._job_from = functools.lru_cache(_REMEMBERED)(rows.job_from)

    def claim(self, limits: Limits, *, now: float) -> tuple[tuple[Job, Event], ...]:
        """Gives every free slot to the job whose turn it is: all of it, or nothing.

        Where nobody waits, or nobody who waits may start, this is a look without the writers' lock.
        """
        if not self.ready(limits):
            return ()
        claimed = []
        with self._database.write() as connection:
            held = _held(connection)
            while found := _first(connection, limits, held, *rows.JOB_COLUMNS):
                job = rows.job_from(tuple(found[0]))
                claimed.append(_claim(connection, job, now))
                held.take(turn_of(job))
        return tuple(claimed)

    def ready(self, limits: Limits) -> bool:
        """Whether there is a free slot for somebody who waits."""
        with self._database.read() as connection:
            return bool(_first(connection, limits, _held(connection), _JOBS.id))

    def held(self) -> tuple[Job, ...]:
        """The jobs that hold a slot, the oldest first."""
        return self._found(select(*rows.JOB_COLUMNS).where(_HOLDS).order_by(_JOBS.created_at, _JOBS.id))

    def blocked(self) -> tuple[Job, ...]:
        """The jobs that gave their slot back and wait for money, the oldest first."""
        return self._found(select(*rows.JOB_COLUMNS).where(_BLOCKED).order_by(_JOBS.created_at, _JOBS.id))

    def waiting(self, *, owner: str | None = None, limit: int, offset: int = 0) -> tuple[Job, ...]:
        """The jobs that wait for a slot, in the order of the queue: all, or one user's."""
        whose = true() if owner is None else _JOBS.owner == owner
        first = self._found(select(*rows.JOB_COLUMNS).where(_CAME_BACK, whose).order_by(*_ORDER))
        found, offset = first[offset : offset + limit], max(0, offset - len(first))
        rest = select(*rows.JOB_COLUMNS).where(_NEW, whose).order_by(*_ORDER)
        return found + self._found(rest.limit(limit - len(found)).offset(offset)) if len(found) < limit else found

    def counts(self) -> tuple[Count, ...]:
        """How many jobs wait and hold a slot, by user and by where they run."""
        kind = (_JOBS.owner, _JOBS.remote)
        found: dict[tuple[str, bool], Count] = {}
        with self._database.read() as connection:
            for name, which in (("waiting", _WAITS), ("held", _HOLDS)):
                query = select(*kind, func.count()).where(which).group_by(*kind)
                for owner, remote, number in connection.execute(query):
                    one = found.get((owner, remote), Count(owner=owner, remote=bool(remote)))
                    found[owner, remote] = dataclasses.replace(one, **{name: number})
        return tuple(found.values())

    def by_state(self) -> dict[JobState, int]:
        """How many jobs there are in each state."""
        tallies = schema.tallies.c
        query = select(tallies.state, func.sum(tallies.jobs)).group_by(tallies.state)
        with self._database.read() as connection:
            return {JobState(state): int(number) for state, number in connection.execute(query)}

    def places(self, job_ids: Collection[str]) -> dict[str, int]:
        """The places in the line, from 1 on, of those jobs that wait."""
        if not job_ids:
            return {}
        place = func.row_number().over(order_by=_LINE).label("place")
        line = select(_JOBS.id, place).where(_WAITS).subquery()
        query = select(line.c.id, line.c.place).where(line.c.id.in_(sorted(job_ids)))
        with self._database.read() as connection:
            return {row.id: row.place for row in connection.execute(query)}

    def slots(self) -> Held:
        """How many slots are held, by whom and where."""
        with self._database.read() as connection:
            return _held(connection)

    def waits_s(self, *, limit: int = 100) -> tuple[float, ...]:
        """How long those waited who got their first slot last."""
        query = select(_JOBS.claimed_at - _JOBS.created_at).where(_JOBS.claimed_at.is_not(None), _JOBS.attempt == 1)
        with self._database.read() as connection:
            found = connection.execute(query.order_by(_JOBS.created_at.desc()).limit(limit)).scalars()
            return tuple(max(0.0, wait_s) for wait_s in found)

    def run_classes(self, job_ids: Collection[str]) -> dict[str, str]:
        """Which runs take about as long as those of these jobs (`steps.run_class`)."""
        query = select(_JOBS.id, _JOBS.run_class).where(_JOBS.id.in_(sorted(job_ids)))
        with self._database.read() as connection:
            return {row.id: row.run_class for row in connection.execute(query)}

    def past_runs_s(self, *, run_class: str = "", provider: str = "", limit: int = 20) -> tuple[float, ...]:
        """How long the newest completed runs of a class took, or of a provider, from their start to their end."""
        which = _JOBS.run_class == run_class if run_class else _JOBS.provider == provider
        newest = _JOBS.completed_at if run_class else _JOBS.created_at
        query = (
            select(_JOBS.completed_at - _JOBS.started_at)
            .where(which, _JOBS.state == JobState.COMPLETED.value, _JOBS.started_at.is_not(None))
            .order_by(newest.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalars())

    def ended_before(self, at: float, *, limit: int = 500) -> tuple[str, ...]:
        """Ids of jobs that are done with and ended before a time, the oldest first."""
        query = select(_JOBS.id).where(_JOBS.completed_at < at, _JOBS.settled_at.is_not(None))
        with self._database.read() as connection:
            return tuple(connection.execute(query.order_by(_JOBS.completed_at).limit(limit)).scalars())

    def _found(self, query: Select[tuple[Any, ...]]) -> tuple[Job, ...]:
        with self._database.read() as connection:
            return tuple(self._job_from(tuple(row)) for row in connection.execute(query))


def turn_of(job: Job) -> Turn:
    """What counts of a job in the queue."""
    return Turn(owner=job.owner, provider=job.provider, remote=job.remote)


def _held(connection: Connection) -> Held:
    kind = (_JOBS.owner, _JOBS.provider, _JOBS.remote)
    held = Held()
    for owner, provider, remote, number in connection.execute(
        select(*kind, func.count()).where(_HOLDS).group_by(*kind)
    ):
        held.take(Turn(owner=owner, provider=provider, remote=bool(remote)), number)
    return held


def _first(
    connection: Connection, limits: Limits, held: Held, *columns: ColumnElement[Any]
) -> Sequence[Row[tuple[Any, ...]]]:
    """Whose turn it is: the first in the queue whose own limits are not reached; nothing where there is none."""
    if held.total >= limits.total:
        return ()
    full = (
        _JOBS.owner.not_in(sorted(held.full_users(limits))),
        _JOBS.provider.not_in(sorted(held.full_providers(limits))),
    )
    for part in (_CAME_BACK, _NEW):
        if found := connection.execute(select(*columns).where(part, *full).order_by(*_ORDER).limit(1)).all():
            return found
    return ()


def _claim(connection: Connection, job: Job, now: float) -> tuple[Job, Event]:
    """The writers' lock is held, so nobody can have been faster."""
    draft = EventDraft(kind=EventKind.CLAIMED, at=now, data={"waited_s": max(0.0, round(now - job.created_at, 3))})
    event = rows.event_from_draft(draft, seq=draw_numbers(connection, 1), job_id=job.id)
    claimed = dataclasses.replace(job, claimed_at=now, updated_at=now, version=job.version + 1)
    ours = and_(_JOBS.id == job.id, _JOBS.version == job.version, _WAITS)
    new = {"claimed_at": now, "updated_at": now, "version": claimed.version, "changed": event.seq}
    written = connection.execute(update(schema.jobs).where(ours).values(new)).rowcount
    assert written == 1, "a job was claimed without the lock"
    connection.execute(insert(schema.events).values(rows.event_row(event)))
    return claimed, event
