"""The small tables: leases, grants, consents, transfers, charges, pushes, settings and hashes of files."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, or_, select, update

from simpletuner_lab.core.canonical import Json
from simpletuner_lab.core.consent import Agreement, ConsentMode
from simpletuner_lab.core.destination import DeliveryState, Push
from simpletuner_lab.core.errors import Conflict, OutputNotFound
from simpletuner_lab.core.grant import Grant
from simpletuner_lab.core.ledger import Charge, doubtful_ref
from simpletuner_lab.services import rows, schema
from simpletuner_lab.services.database import Database, draw_numbers, put
from simpletuner_lab.services.rows import FileStamp, Transfer

ALLOWED: Final = ConsentMode.ALLOW.value

_OPEN: Final = (DeliveryState.WAITING.value, DeliveryState.SENDING.value)

_BATCH: Final = 400
"""Values of one IN list."""


class RunBooked(Conflict):
    """A run is booked as another attempt's already: its provider gave one reference to two starts."""


class Leases:
    """Things that one process at a time may do. Times come from the caller."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, holder: str, *, ttl_s: float, now: float) -> bool:
        """Takes a lease that is free, run out, or already ours; False if another holds it."""
        leases = schema.leases.c
        with self._database.write() as connection:
            held = connection.execute(select(leases.holder, leases.expires_at).where(leases.name == name)).first()
            if held is not None and held.holder != holder and held.expires_at > now:
                return False
            put(connection, schema.leases, {"name": name}, {"holder": holder, "expires_at": now + ttl_s})
            return True

    def renew(self, name: str, holder: str, *, ttl_s: float, now: float) -> bool:
        """Holds on to a lease; False if it is no longer ours."""
        ours = and_(schema.leases.c.name == name, schema.leases.c.holder == holder)
        with self._database.write() as connection:
            return connection.execute(update(schema.leases).where(ours).values(expires_at=now + ttl_s)).rowcount == 1

    def release(self, name: str, holder: str) -> bool:
        """Gives a lease back; False if it was not ours."""
        ours = and_(schema.leases.c.name == name, schema.leases.c.holder == holder)
        with self._database.write() as connection:
            return connection.execute(delete(schema.leases).where(ours)).rowcount == 1


class GrantTable:
    """Credentials of the object endpoint, without their secrets."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert_grant(self, grant: Grant) -> None:
        """Stores a new grant.

        Raises:
            Conflict: its id is taken.
        """
        with self._database.write() as connection:
            connection.execute(insert(schema.grants).values(rows.grant_row(grant)))

    def grant(self, grant_id: str, /) -> Grant | None:
        """The grant of an access key id, whether or not it still holds."""
        with self._database.read() as connection:
            row = connection.execute(select(schema.grants).where(schema.grants.c.id == grant_id)).mappings().first()
        return None if row is None else rows.grant_from(row)

    def revoke_grants(self, job_id: str, at: float) -> None:
        """Ends every grant of a job that was not revoked before."""
        grants = schema.grants.c
        live = and_(grants.job_id == job_id, or_(grants.revoked_at.is_(None), grants.revoked_at > at))
        with self._database.write() as connection:
            connection.execute(update(schema.grants).where(live).values(revoked_at=at))

    def ids_of_job(self, job_id: str) -> tuple[str, ...]:
        """The access key ids of a job's grants, revoked ones too."""
        query = select(schema.grants.c.id).where(schema.grants.c.job_id == job_id)
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalars())

    def by_hand(self) -> tuple[Grant, ...]:
        """The grants that belong to no job, the newest first, revoked ones too."""
        grants = schema.grants.c
        query = select(schema.grants).where(grants.job_id.is_(None)).order_by(grants.created_at.desc(), grants.id)
        with self._database.read() as connection:
            return tuple(rows.grant_from(row) for row in connection.execute(query).mappings())

    def revoke_by_hand(self, grant_id: str, at: float) -> None:
        """Ends one grant that belongs to no job, if it has not ended before."""
        grants = schema.grants.c
        live = and_(grants.id == grant_id, grants.job_id.is_(None), grants.revoked_at.is_(None))
        with self._database.write() as connection:
            connection.execute(update(schema.grants).where(live).values(revoked_at=at))


class Consents:
    """Who agreed to which plan, when and through which entry; written together with the job. Nothing is ever taken out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def agreed(self, owner: str, digest: str) -> bool:
        """Whether this owner has agreed to this very plan; what the mode `allow` let through was not looked at."""
        consents = schema.consents.c
        query = (
            select(consents.at)
            .where(consents.owner == owner, consents.digest == digest, consents.mode != ALLOWED)
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(query).first() is not None


def put_agreement(connection: Connection, agreement: Agreement) -> None:
    """Puts an agreement on record."""
    keys = {"owner": agreement.owner, "digest": agreement.digest, "at": agreement.at}
    put(connection, schema.consents, keys, {"entry": agreement.entry, "mode": agreement.mode.value})


class Transfers:
    """What left this machine."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sent(
        self,
        job_id: str,
        *,
        what: str,
        where_to: str,
        digest: str,
        bytes: int,  # noqa: A002
        files: int,
        at: float,
    ) -> Transfer:
        """Puts on record that bytes are leaving, before the first does. Every try is an entry of its own.

        `bytes` and `files` are what the try sets out to bring there: the most that leaves with it, since what is there
        already is not sent again and a try may break off. What arrived whole is the timeline's to tell.
        """
        with self._database.write() as connection:
            transfer = Transfer(
                id=draw_numbers(connection, 1),
                job_id=job_id,
                what=what,
                where_to=where_to,
                digest=digest,
                bytes=bytes,
                files=files,
                sent_at=at,
            )
            connection.execute(insert(schema.transfers).values(dataclasses.asdict(transfer)))
        return transfer

    def discarded(self, job_id: str, *, what: str, at: float) -> None:
        """Notes that all copies of this at the other end were seen to be gone. The first time counts."""
        transfers = schema.transfers.c
        kept = and_(transfers.job_id == job_id, transfers.what == what, transfers.discarded_at.is_(None))
        with self._database.write() as connection:
            connection.execute(update(schema.transfers).where(kept).values(discarded_at=at))

    def of_job(self, job_id: str) -> tuple[Transfer, ...]:
        """What left for a job, in order; also after the job was deleted."""
        transfers = schema.transfers.c
        query = select(schema.transfers).where(transfers.job_id == job_id).order_by(transfers.id)
        with self._database.read() as connection:
            return tuple(rows.transfer_from(row) for row in connection.execute(query).mappings())


class Charges:
    """What runs have cost. They are written together with their job: `Jobs.record`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_job(self, job_id: str) -> tuple[Charge, ...]:
        """A job's charges in the order of its attempts; also after it was deleted."""
        return self._found(schema.charges.c.job_id == job_id)

    def of_run(self, provider: str, ref: str) -> Charge | None:
        """The charge of a run; None where none is booked."""
        charges = schema.charges.c
        return next(iter(self._found((charges.provider == provider) & (charges.ref == ref))), None)

    def of_provider(self, provider: str) -> tuple[Charge, ...]:
        """Every charge at a provider."""
        return self._found(schema.charges.c.provider == provider)

    def drop(self, doubt: Charge) -> None:
        """There was no such run, or it is booked as another's. Only what is in doubt can be dropped."""
        with self._database.write() as connection:
            _end_doubt(connection, doubt, cost_usd=0.0)

    def put(self, *charges: Charge) -> None:
        """What runs have cost whose job is gone: all of them or none.

        Raises:
            RunBooked: one of them is another attempt's.
        """
        with self._database.write() as connection:
            for charge in charges:
                put_charge(connection, charge)

    def _found(self, which: ColumnElement[bool]) -> tuple[Charge, ...]:
        charges = schema.charges
        query = select(charges).where(which).order_by(charges.c.job_id, charges.c.attempt, charges.c.ref)
        with self._database.read() as connection:
            return tuple(rows.charge_from(row) for row in connection.execute(query).mappings())


def put_charge(connection: Connection, charge: Charge) -> None:
    """Books a run, or what has changed of it. A run that is known takes the place of its start that was in doubt.

    Raises:
        RunBooked: it is another attempt's, whose money would be lost; the caller's transaction is to be undone.
    """
    booked = schema.charges.c
    ours = and_(booked.provider == charge.provider, booked.ref == charge.ref)
    first = connection.execute(select(booked.job_id, booked.attempt).where(ours)).first()
    if first is not None and (first.job_id, first.attempt) != (charge.job_id, charge.attempt):
        whose = f"attempt {first.attempt} of this job" if first.job_id == charge.job_id else f"job {first.job_id}"
        raise RunBooked(f"{charge.provider} gave it the id {charge.ref!r}, which is that of {whose}")
    if not charge.doubtful:
        _end_doubt(connection, charge, cost_usd=charge.cost_usd)
    row = rows.charge_row(charge)
    put(connection, schema.charges, {"provider": row.pop("provider"), "ref": row.pop("ref")}, row)


def _end_doubt(connection: Connection, run: Charge, *, cost_usd: float | None) -> None:
    """Takes out the start in doubt that was this run. What it counted for and did not cost is no longer reserved either.

    Else it would be left to the job's next runs, in a period that may have given it to others.
    """
    charges, held = schema.charges.c, schema.reservations.c
    ours = and_(charges.provider == run.provider, charges.ref == doubtful_ref(run.job_id, run.attempt))
    doubt = connection.execute(select(charges.most_usd).where(ours)).first()
    if doubt is None:
        return
    connection.execute(delete(schema.charges).where(ours))
    if doubt.most_usd is not None and cost_usd is not None and cost_usd < doubt.most_usd:
        left = held.reserved_usd - (doubt.most_usd - cost_usd)
        connection.execute(update(schema.reservations).where(held.job_id == run.job_id).values(reserved_usd=left))


class Pushes:
    """Models on their way to S3 buckets and the Hub. They are written together with their job: `Jobs.record`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, push_id: str) -> Push:
        """One push.

        Raises:
            OutputNotFound: there is none; its job may have been deleted.
        """
        with self._database.read() as connection:
            row = connection.execute(select(schema.pushes).where(schema.pushes.c.id == push_id)).mappings().first()
        if row is None:
            raise OutputNotFound(f"there is no push {push_id}", hint="its job may have been deleted")
        return rows.push_from(row)

    def of_job(self, job_id: str) -> tuple[Push, ...]:
        """A job's pushes, the one asked for last at the end."""
        return self._found(schema.pushes.c.job_id == job_id)

    def open(self, job_id: str | None = None) -> tuple[Push, ...]:
        """Pushes that are not done: all of them, or one job's, the oldest first."""
        pushes = schema.pushes.c
        undone = pushes.state.in_(_OPEN)
        return self._found(undone if job_id is None else and_(undone, pushes.job_id == job_id))

    def _found(self, which: ColumnElement[bool]) -> tuple[Push, ...]:
        pushes = schema.pushes
        query = select(pushes).where(which).order_by(pushes.c.asked_at, pushes.c.id)
        with self._database.read() as connection:
            return tuple(rows.push_from(row) for row in connection.execute(query).mappings())


class Settings:
    """Small values that every process of this store shares."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> Json:
        """The value of a key; None if it has none."""
        query = select(schema.settings.c.value).where(schema.settings.c.key == key)
        with self._database.read() as connection:
            text = connection.execute(query).scalar()
        value: Json = None if text is None else json.loads(text)
        return value

    def first(self, key: str, value: Json) -> Json:
        """Sets the value of a key that has none; returns what it has then. Of several that try at once, one sets it."""
        with self._database.write() as connection:
            text = connection.execute(select(schema.settings.c.value).where(schema.settings.c.key == key)).scalar()
            if text is None:
                put(connection, schema.settings, {"key": key}, {"value": rows.dump_json(value)})
                return value
        found: Json = json.loads(text)
        return found

    def change(self, key: str, change: Callable[[Json], Json]) -> None:
        """Sets the value of a key from what it is, None if it has none; nobody sets another one between. A refusal changes nothing."""
        with self._database.write() as connection:
            text = connection.execute(select(schema.settings.c.value).where(schema.settings.c.key == key)).scalar()
            value = change(None if text is None else json.loads(text))
            put(connection, schema.settings, {"key": key}, {"value": rows.dump_json(value)})

    def put(self, key: str, value: Json) -> None:
        """Sets the value of a key."""
        with self._database.write() as connection:
            put(connection, schema.settings, {"key": key}, {"value": rows.dump_json(value)})


class Hashes:
    """What was found out about files before, so that a second plan is instant (SPEC K2): short texts, opaque to us."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lookup_many(self, stamps: Sequence[FileStamp], /) -> dict[str, str]:
        """Texts by path, of those files whose stamp is the one they were stored with."""
        hashes = schema.hashes.c
        wanted = {os.fsencode(stamp.path): stamp for stamp in stamps}
        found: dict[str, str] = {}
        with self._database.read() as connection:
            for paths in _batches(list(wanted)):
                query = select(hashes.path, hashes.stamp, hashes.known).where(hashes.path.in_(paths))
                for path, stamp, known in connection.execute(query):
                    if wanted[path].text == stamp:
                        found[wanted[path].path] = known
        return found

    def store_many(self, hashed: Mapping[FileStamp, str], /, *, now: float, keep: int = 500_000) -> None:
        """Remembers texts, and forgets the oldest over `keep`."""
        hashes = schema.hashes
        new = {
            os.fsencode(stamp.path): {"stamp": stamp.text, "known": known, "at": now} for stamp, known in hashed.items()
        }
        if not new:
            return
        with self._database.write() as connection:
            for paths in _batches(list(new)):
                connection.execute(delete(hashes).where(hashes.c.path.in_(paths)))
                connection.execute(insert(hashes), [{"path": path} | new[path] for path in paths])
            last = select(hashes.c.at).order_by(hashes.c.at.desc()).limit(1).offset(keep)
            connection.execute(delete(hashes).where(hashes.c.at <= last.scalar_subquery()))


def _batches(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (values[start : start + _BATCH] for start in range(0, len(values), _BATCH))
