"""Everything the lab remembers. The jobs table is the queue; every change of a job is one transaction.

Writers take turns (SQLite: `BEGIN IMMEDIATE`; PostgreSQL: a lock on the row of `sequence`), so a transaction that
reads and then writes needs no retries, and events get their numbers in the order in which others come to see them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, delete, insert, select, update

from simpletuner_lab.core.consent import Agreement
from simpletuner_lab.core.destination import Push
from simpletuner_lab.core.errors import Conflict, IllegalTransition, InvalidRequest, JobNotFound, StaleRecord
from simpletuner_lab.core.event import Event, EventDraft
from simpletuner_lab.core.job import ACTIVE, TRANSITIONS, Job, JobFilter, JobOrder, JobState
from simpletuner_lab.core.ledger import Charge
from simpletuner_lab.core.metric import PointsChange
from simpletuner_lab.core.plan import Plan
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.core.snapshot import Snapshot
from simpletuner_lab.services import pages, rows, schema
from simpletuner_lab.services.codec import loads
from simpletuner_lab.services.curves import Curves, change_curve
from simpletuner_lab.services.database import Database, draw_numbers, put
from simpletuner_lab.services.feed import Feed
from simpletuner_lab.services.queue_table import QueueTable
from simpletuner_lab.services.registers import (
    Charges,
    Consents,
    GrantTable,
    Hashes,
    Leases,
    Pushes,
    Settings,
    Transfers,
    put_agreement,
    put_charge,
)
from simpletuner_lab.services.rows import Page
from simpletuner_lab.services.snapshot_table import SnapshotTable, put_snapshot
from simpletuner_lab.services.spending import Request, Spending, admit, reserve_first, told_of

IDEMPOTENCY_S: Final = 24 * 3600.0
"""So long the same key returns the first job (SPEC J7)."""

MAX_PAGE: Final = 500

_REMEMBER_DELETIONS_S: Final = 7 * 24 * 3600.0
"""So long a deletion stays in the feed, for those who follow it."""

_REMEMBERED: Final = 1000
"""Rows of lists whose jobs are remembered: front-ends ask for the same page again and again."""


class Store:
    """One database, seen as the few things that are kept in it. Safe with several threads and processes at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.jobs = Jobs(database)
        self.queue = QueueTable(database)
        self.events = Feed(database)
        self.points = Curves(database)
        self.leases = Leases(database)
        self.grants = GrantTable(database)
        self.consents = Consents(database)
        self.transfers = Transfers(database)
        self.charges = Charges(database)
        self.spending = Spending(database)
        self.pushes = Pushes(database)
        self.snapshots = SnapshotTable(database)
        self.settings = Settings(database)
        self.hashes = Hashes(database)

    @classmethod
    def open(cls, target: Path | Secret) -> Store:
        """Opens a SQLite file or the URL of a PostgreSQL database, and brings its tables up to date.

        Raises:
            StoreUnusable: on a network file system, damaged, of a newer release, not ours to write, not there.
            StoreUnreachable: the server does not answer.
            DiskFull: no room to create it.
        """
        return cls(Database.open(target))

    def close(self) -> None:
        """Closes every connection."""
        self._database.close()


class Jobs:
    """The jobs, their plans, and the events and points that change together with them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._job_from = functools.lru_cache(_REMEMBERED)(rows.job_from)

    def insert(
        self,
        job: Job,
        plan: str,
        events: Sequence[EventDraft] = (),
        *,
        run_class: str = "",
        push: Push | None = None,
        charge: Charge | None = None,
        asks: Request | None = None,
        snapshot: Snapshot | None = None,
        agreement: Agreement | None = None,
    ) -> Job:
        """Stores a new job; with an idempotency key its owner used in the last 24 h, returns that first job instead.

        All or nothing, and one after the other: of two submits under a key the second one sees the first.

        Args:
            job: what to store; the first job is told from it by its id.
            plan: the plan's JSON text, kept byte for byte.
            events: what goes on its timeline; what a limit warns of follows.
            run_class: names runs that take alike long for a step, for `past_step_s`.
            push: where its model goes when it is trained, if it leaves the lab.
            charge: of the run that it has already.
            asks: for what it may cost; nothing is reserved for a job that does not ask.
            snapshot: what is to be written of it, if anything.
            agreement: the consent to its plan; it counts from then on, so not for a job that is refused.

        Raises:
            Conflict: its id is taken, its key stands for another plan, or its run is another job's.
            SpendLimitReached: a limit does not let it be paid for.
        """
        with self._database.write() as connection:
            if job.idempotency_key is not None:
                first = _first_of_key(connection, job.owner, job.idempotency_key, now=job.created_at)
                if first is not None:
                    require_same_plan(first, job.digest)
                    return first
            stored = dataclasses.replace(job, version=1)
            verdict = None if asks is None else admit(connection, stored, asks)
            events = (*events, *(() if verdict is None else told_of(verdict, at=job.created_at)))
            numbers = _draw(connection, events)
            own = {"version": 1, "run_class": run_class, "changed": numbers[-1], "place": numbers[-1]}
            connection.execute(insert(schema.jobs).values(rows.job_row(stored) | own))
            connection.execute(insert(schema.plans).values(job_id=job.id, plan=plan))
            _remember_key(connection, job)
            _tally(connection, stored, 1)
            _append_events(connection, job.id, events, numbers)
            _put_push(connection, push)
            if charge is not None:
                put_charge(connection, charge)
            if verdict is not None:
                reserve_first(connection, stored, verdict)
            put_snapshot(connection, snapshot)
            if agreement is not None:
                put_agreement(connection, agreement)
        return stored

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            JobNotFound: there is none.
        """
        with self._database.read() as connection:
            return _job(connection, job_id)

    def by_key(self, owner: str, key: str, *, now: float) -> Job | None:
        """The job that an idempotency key stands for; None if it was not used in the last 24 h."""
        with self._database.read() as connection:
            return _first_of_key(connection, owner, key, now=now)

    def snapshot(self, job_id: str) -> str:
        """The plan of a job, as the JSON text that was stored at submit.

        Raises:
            JobNotFound: there is none.
        """
        query = select(schema.plans.c.plan).where(schema.plans.c.job_id == job_id)
        with self._database.read() as connection:
            text = connection.execute(query).scalar()
        if text is None:
            raise _not_found(job_id)
        return str(text)

    def plan(self, job_id: str) -> Plan:
        """The plan of a job as it was submitted.

        Raises:
            JobNotFound: there is none.
            InvalidRequest: another release stored it in a form that this one does not know.
        """
        return loads(Plan, self.snapshot(job_id), what="the stored plan")

    def page(self, chosen: JobFilter, order: JobOrder | None = None, *, limit: int = 50, offset: int = 0) -> Page:
        """Some of the jobs that a filter passes, in an order (the newest first), and how many there are in all.

        Raises:
            InvalidRequest: `limit` is not 1 to 500, or `offset` is negative.
        """
        if not 1 <= limit <= MAX_PAGE or offset < 0:
            raise InvalidRequest(f"limit must be 1 to {MAX_PAGE} and offset at least 0")
        with self._database.read() as connection:
            total = pages.tallied(connection, chosen)
            if total is not None and total <= offset:
                return Page(jobs=(), total=total)
            query = pages.stretch(chosen, order or JobOrder(), limit=limit, offset=offset)
            jobs = _jobs(connection, query, self._job_from)
            if total is None:
                ends_here = 0 < len(jobs) < limit or (not jobs and not offset)
                total = offset + len(jobs) if ends_here else pages.counted(connection, chosen)
            return Page(jobs=jobs, total=total)

    def record(
        self,
        before: Job,
        after: Job,
        events: Sequence[EventDraft] = (),
        points: PointsChange | None = None,
        *,
        push: Push | None = None,
        charges: Sequence[Charge] = (),
        alongside: Callable[[], None] | None = None,
    ) -> tuple[Job, tuple[Event, ...]]:
        """Replaces `before` with `after`, with events, points, a push and charges that go with it: all or nothing.

        `alongside` runs once it is certain that nobody else wrote the job, before the commit, while every other
        writer waits: for a file that must not be written by two. If it raises, nothing is stored.

        Raises:
            StaleRecord: the job was written since `before` was read.
            IllegalTransition: the table of states has no such edge.
            JobNotFound: it was deleted.
            RunBooked: a charge of it is another attempt's.
        """
        if after.state is not before.state and after.state not in TRANSITIONS[before.state]:
            raise IllegalTransition(f"a {before.state} job cannot become {after.state}")
        stored = dataclasses.replace(after, id=before.id, version=before.version + 1)
        jobs = schema.jobs.c
        ours = and_(jobs.id == before.id, jobs.version == before.version)
        with self._database.write() as connection:
            numbers = _draw(connection, events)
            own = {"version": stored.version, "changed": numbers[-1]}
            found = connection.execute(update(schema.jobs).where(ours).values(rows.job_row(stored) | own))
            if not found.rowcount:
                _job(connection, before.id)
                raise StaleRecord(f"job {before.id} changed in between", hint="read the job again and decide again")
            if stored.state is not before.state:
                _tally(connection, before, -1)
                _tally(connection, stored, 1)
            if points is not None:
                change_curve(connection, before.id, points)
            written = _append_events(connection, before.id, events, numbers)
            _put_push(connection, push)
            for charge in charges:
                put_charge(connection, charge)
            if alongside is not None:
                alongside()
        return stored, written

    def active(self) -> tuple[Job, ...]:
        """Every job that has not ended, the oldest first."""
        jobs = schema.jobs.c
        query = select(*rows.JOB_COLUMNS).where(jobs.state.in_(sorted(ACTIVE))).order_by(jobs.created_at, jobs.id)
        with self._database.read() as connection:
            return _jobs(connection, query, self._job_from)

    def unsettled(self) -> tuple[Job, ...]:
        """Every job that still needs care, ended or not, the oldest first."""
        jobs = schema.jobs.c
        query = select(*rows.JOB_COLUMNS).where(jobs.settled_at.is_(None)).order_by(jobs.created_at, jobs.id)
        with self._database.read() as connection:
            return _jobs(connection, query, self._job_from)

    def of_run(self, provider: str, ref: str) -> tuple[str, ...]:
        """Ids of the jobs that still need care and whose run at the provider this is."""
        jobs = schema.jobs.c
        query = select(jobs.id, jobs.run).where(jobs.settled_at.is_(None), jobs.provider == provider)
        with self._database.read() as connection:
            found = connection.execute(query).all()
        return tuple(job_id for job_id, run in found if rows.run_of(run).ref == ref)

    def delete(self, job_id: str, *, at: float) -> Event:
        """Deletes a job with its plan, events, points and grants; returns the event that the feed keeps for a while.

        Whether it may go is the caller's to check.

        Raises:
            JobNotFound: there is none.
        """
        deletions = schema.deletions
        with self._database.write() as connection:
            job = _job(connection, job_id)
            _tally(connection, job, -1)
            connection.execute(delete(schema.grants).where(schema.grants.c.job_id == job_id))
            connection.execute(delete(schema.jobs).where(schema.jobs.c.id == job_id))
            connection.execute(delete(deletions).where(deletions.c.at < at - _REMEMBER_DELETIONS_S))
            gone = {"seq": draw_numbers(connection, 1), "job_id": job_id, "version": job.version + 1, "at": at}
            connection.execute(insert(deletions).values(gone))
        return rows.deletion_from(gone)

    def past_step_s(self, run_class: str, *, limit: int = 20) -> tuple[float, ...]:
        """Seconds a step of the newest completed jobs of a class, the newest first."""
        jobs = schema.jobs.c
        query = (
            select(jobs.progress)
            .where(jobs.run_class == run_class, jobs.state == JobState.COMPLETED.value)
            .order_by(jobs.completed_at.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            texts = connection.execute(query).scalars().all()
        found = (json.loads(text).get("step_s") for text in texts)
        return tuple(step_s for step_s in found if step_s)


def _not_found(job_id: str) -> JobNotFound:
    return JobNotFound(f"there is no job {job_id}", hint="list the jobs to see their ids")


def _job(connection: Connection, job_id: str) -> Job:
    found = _jobs(connection, select(*rows.JOB_COLUMNS).where(schema.jobs.c.id == job_id))
    if not found:
        raise _not_found(job_id)
    return found[0]


def _jobs(
    connection: Connection, query: Select[tuple[Any, ...]], job_from: Callable[[tuple[Any, ...]], Job] = rows.job_from
) -> tuple[Job, ...]:
    return tuple(job_from(tuple(row)) for row in connection.execute(query))


def _first_of_key(connection: Connection, owner: str, key: str, *, now: float) -> Job | None:
    keys = schema.idempotency.c
    ours = and_(keys.owner == owner, keys.key == key, keys.at > now - IDEMPOTENCY_S)
    first = connection.execute(select(keys.job_id).where(ours)).scalar()
    return None if first is None else _job(connection, first)


def require_same_plan(first: Job, digest: str) -> None:
    """Checks that an idempotency key is used again for the plan of the first job.

    Raises:
        Conflict: it is not.
    """
    if first.digest != digest:
        raise Conflict("this idempotency key stands for another plan", hint="use a new key for a new plan")


def _remember_key(connection: Connection, job: Job) -> None:
    if job.idempotency_key is not None:
        keys = {"owner": job.owner, "key": job.idempotency_key}
        put(connection, schema.idempotency, keys, {"job_id": job.id, "at": job.created_at})


def _draw(connection: Connection, events: Sequence[EventDraft]) -> range:
    """A number for each event; the last one, or the only one where there is no event, is also that of the write."""
    first = draw_numbers(connection, count := max(1, len(events)))
    return range(first, first + count)


def _append_events(
    connection: Connection, job_id: str, drafts: Sequence[EventDraft], numbers: Sequence[int]
) -> tuple[Event, ...]:
    events = tuple(
        rows.event_from_draft(draft, seq=seq, job_id=job_id) for seq, draft in zip(numbers, drafts, strict=False)
    )
    if events:
        connection.execute(insert(schema.events), [rows.event_row(event) for event in events])
    return events


def _put_push(connection: Connection, push: Push | None) -> None:
    if push is not None:
        row = rows.push_row(push)
        put(connection, schema.pushes, {"id": row.pop("id")}, row)


def _tally(connection: Connection, job: Job, difference: int) -> None:
    keys = {"owner": job.owner, "provider": job.provider, "remote": job.remote, "state": job.state.value}
    jobs = schema.tallies.c.jobs
    ours = and_(*(schema.tallies.c[name] == value for name, value in keys.items()))
    if not connection.execute(update(schema.tallies).where(ours).values(jobs=jobs + difference)).rowcount:
        connection.execute(insert(schema.tallies).values(keys | {"jobs": difference}))
