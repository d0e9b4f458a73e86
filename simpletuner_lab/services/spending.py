"""What is spent and reserved, as the store has it. A limit is looked at and a job let in within one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select

from simpletuner_lab.core.allowance import Allowance, allow
from simpletuner_lab.core.book import Book, Claim, Holding
from simpletuner_lab.core.errors import InvalidRequest, SpendLimitReached
from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.job import ACTIVE, Job
from simpletuner_lab.core.ledger import Charge
from simpletuner_lab.core.segments import WITH_CHECKPOINT
from simpletuner_lab.core.spend import Period, SpendLimits, span
from simpletuner_lab.core.verdict import LimitState, SpendVerdict, judge, state_of
from simpletuner_lab.services import rows, schema
from simpletuner_lab.services.codec import decode, encode
from simpletuner_lab.services.database import Database, put

_KEY: Final = "spend_limits"
_LONGEST: Final = (Period.WEEKLY, Period.MONTHLY)
"""One of these began first: a week may begin in the month before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a new job asks for. One that was started elsewhere runs already: it is counted, and never refused."""

    claim: Claim
    started: bool = False
    ending: str = WITH_CHECKPOINT
    """How its run ends whose money is used up, in words; empty: that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTally:
    """Jobs of a period."""

    by_state: Mapping[str, int]
    mean_duration_s: float | None


class Spending:
    """Limits, reservations and the ledger of a period."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def limits(self) -> SpendLimits:
        """The limits that are set."""
        with self._database.read() as connection:
            return _limits(connection)

    def change_limits(self, change: Callable[[SpendLimits], SpendLimits]) -> None:
        """Sets them from what they are, for every process, from the next submit or start of a run on."""
        with self._database.write() as connection:
            limits = change(_limits(connection))
            put(connection, schema.settings, {"key": _KEY}, {"value": rows.dump_json(encode(limits))})

    def verdict(self, asks: Request, provider: str, *, now: float) -> SpendVerdict:
        """What a submit would be told now; reserves nothing."""
        with self._database.read() as connection:
            return _judged(connection, asks, provider, now)

    def states(self, scopes: Iterable[str] | None = None, *, now: float) -> tuple[LimitState, ...]:
        """Where the limits that are on stand; `scopes` leaves out others."""
        with self._database.read() as connection:
            limits = _limits(connection)
            zone, book = zone_of(limits.time_zone), _book(connection, limits, now)
        own = [(scope, limit) for scope, limit in sorted(limits.providers.items()) if limit.enabled]
        on = own + ([("all", limits.total)] if limits.total.enabled else [])
        wanted = None if scopes is None else set(scopes)
        return tuple(
            state_of(scope, limit, book, now=now, zone=zone) for scope, limit in on if wanted is None or scope in wanted
        )

    def reserve(self, job: Job, usd_per_hour: float | None, run_limit_s: float | None, *, now: float) -> Allowance:
        """What the job's next run may cost and take; that much is set aside for it. A refusal changes nothing."""
        with self._database.write() as connection:
            limits = _limits(connection)
            book = _book(connection, limits, now)
            own = next((one for one in book.holdings if one.job_id == job.id), None) or Holding(
                job_id=job.id, provider=job.provider, reserved_usd=None, attempt=job.attempt
            )
            allowed = allow(own, usd_per_hour, run_limit_s, limits, book, now=now, zone=zone_of(limits.time_zone))
            if not allowed.refusal:
                values = {"reserved_usd": allowed.reserved_usd, "run_usd": allowed.run_usd}
                _put_reservation(connection, job.id, values)
        return allowed

    def run_usd(self, job_id: str) -> float | None:
        """What was set aside for the job's run; None: nothing bounds it."""
        query = select(schema.reservations.c.run_usd).where(schema.reservations.c.job_id == job_id)
        with self._database.read() as connection:
            found: float | None = connection.execute(query).scalar()
        return found

    def warning(self, job_id: str) -> str:
        """What a limit said when the job was submitted; empty where nothing."""
        query = select(schema.reservations.c.warning).where(schema.reservations.c.job_id == job_id)
        with self._database.read() as connection:
            return connection.execute(query).scalar() or ""

    def since(self, at: float, *, provider: str = "") -> tuple[Charge, ...]:
        """Every charge of a run that began since then, the oldest first."""
        charges = schema.charges.c
        which = charges.opened_at >= at if not provider else (charges.opened_at >= at) & (charges.provider == provider)
        query = select(schema.charges).where(which).order_by(charges.opened_at, charges.ref)
        with self._database.read() as connection:
            return tuple(rows.charge_from(row) for row in connection.execute(query).mappings())

    def names(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """What jobs are called, of those that are still there."""
        wanted = sorted(set(job_ids))
        found: dict[str, str] = {}
        with self._database.read() as connection:
            for start in range(0, len(wanted), _BATCH):
                ids = wanted[start : start + _BATCH]
                query = select(schema.jobs.c.id, schema.jobs.c.name).where(schema.jobs.c.id.in_(ids))
                found.update((job_id, name) for job_id, name in connection.execute(query))
        return found

    def jobs_since(self, at: float) -> JobTally:
        """How many jobs were made since then, by state, and how long those that have ended took."""
        jobs = schema.jobs.c
        took = jobs.completed_at - jobs.started_at
        query = (
            select(jobs.state, func.count(), func.sum(took), func.count(took))
            .where(jobs.created_at >= at)
            .group_by(jobs.state)
        )
        with self._database.read() as connection:
            found = connection.execute(query).all()
        timed = [(seconds, ended) for _, _, seconds, ended in found if ended]
        return JobTally(
            by_state={state: count for state, count, _, _ in found},
            mean_duration_s=sum(seconds for seconds, _ in timed) / sum(ended for _, ended in timed) if timed else None,
        )


_BATCH: Final = 400
"""Values of one IN list."""


def admit(connection: Connection, job: Job, asks: Request) -> SpendVerdict:
    """What the limits say of a job that is about to be stored.

    Raises:
        SpendLimitReached: it may cost more than a limit leaves; the caller's transaction is to be undone.
    """
    found = _judged(connection, asks, job.provider, job.created_at, without=job.id)
    if not found.allowed and not asks.started:
        raise SpendLimitReached(found.refusal, hint=found.hint)
    return found


def reserve_first(connection: Connection, job: Job, found: SpendVerdict) -> None:
    """Sets aside what a job may cost that was admitted, and has been stored, within the same transaction."""
    connection.execute(
        insert(schema.reservations).values(
            job_id=job.id, reserved_usd=found.reserved_usd, run_usd=found.claim.most_usd, warning="; ".join(found.told)
        )
    )


def told_of(found: SpendVerdict, *, at: float) -> tuple[EventDraft, ...]:
    """What a limit warns of, for the job's timeline."""
    return tuple(EventDraft(kind=EventKind.SPEND_LIMIT, at=at, data={"message": message}) for message in found.told)


def zone_of(name: str) -> tzinfo:
    """The zone of an IANA name.

    Raises:
        InvalidRequest: there is none.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequest(f"there is no time zone {name!r}", hint="for example Europe/Berlin, or UTC") from error


def _judged(connection: Connection, asks: Request, provider: str, now: float, *, without: str = "") -> SpendVerdict:
    limits, claim = _limits(connection), asks.claim
    needed = claim.usd_per_hour != 0 and any(True for _ in limits.of(provider))
    book = _book(connection, limits, now, without=without) if needed else Book(charges=(), holdings=())
    return judge(claim, provider, limits, book, now=now, zone=zone_of(limits.time_zone), ending=asks.ending)


def _limits(connection: Connection) -> SpendLimits:
    query = select(schema.settings.c.value).where(schema.settings.c.key == _KEY)
    text = connection.execute(query).scalar()
    return SpendLimits() if text is None else decode(SpendLimits, json.loads(text), what="the spend limits")


def _book(connection: Connection, limits: SpendLimits, now: float, *, without: str = "") -> Book:
    """What the limits read. Runs that cost nothing are left out; so is a job that is being let in."""
    zone, charges = zone_of(limits.time_zone), schema.charges.c
    paid = or_(charges.usd_per_hour.is_(None), charges.usd_per_hour != 0, charges.cost_usd > 0)
    since = min(span(period, now, zone)[0] for period in _LONGEST)
    jobs, held = schema.jobs.c, schema.reservations.c
    alive = (
        select(jobs.id, jobs.provider, jobs.attempt, held.reserved_usd)
        .select_from(schema.jobs.outerjoin(schema.reservations, held.job_id == jobs.id))
        .where(jobs.state.in_(sorted(ACTIVE)), or_(held.job_id.is_not(None), jobs.remote.is_(True)))
    )
    found = [row for row in connection.execute(alive).all() if row.id != without]
    of_jobs: dict[str, list[Charge]] = {row.id: [] for row in found}
    ids = sorted(of_jobs)
    for start in range(0, len(ids), _BATCH):
        for charge in _charges(connection, charges.job_id.in_(ids[start : start + _BATCH])):
            of_jobs[charge.job_id].append(charge)
    return Book(
        charges=_charges(connection, (charges.opened_at >= since) & paid),
        holdings=tuple(
            Holding(
                job_id=row.id, provider=row.provider, reserved_usd=row.reserved_usd, attempt=row.attempt,
                charges=tuple(of_jobs[row.id]),
            )
            for row in found
        ),
    )  # fmt: skip


def _charges(connection: Connection, which: ColumnElement[bool]) -> tuple[Charge, ...]:
    query = select(schema.charges).where(which)
    return tuple(rows.charge_from(row) for row in connection.execute(query).mappings())


def _put_reservation(connection: Connection, job_id: str, values: Mapping[str, float | None]) -> None:
    reservations = schema.reservations
    known = connection.execute(select(reservations.c.job_id).where(reservations.c.job_id == job_id)).first()
    put(connection, reservations, {"job_id": job_id}, values if known else {**values, "warning": ""})
