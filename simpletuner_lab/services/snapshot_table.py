"""Which commit has what a job was submitted with, and which jobs wait for theirs."""

from __future__ import annotations

import dataclasses
from typing import Final

from sqlalchemy import Connection, RowMapping, insert, select, update

from simpletuner_lab.core.snapshot import Snapshot
from simpletuner_lab.services import schema
from simpletuner_lab.services.database import Database

_OTHER_NAMES: Final = {"commit": "commit_id"}
"""Of members whose column cannot be called like them."""


class SnapshotTable:
    """The snapshots of the jobs that there are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: str) -> Snapshot | None:
        """That of a job; None where none was to be made."""
        query = select(schema.snapshots).where(schema.snapshots.c.job_id == job_id)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else _snapshot_from(row)

    def waiting(self, *, limit: int) -> tuple[Snapshot, ...]:
        """Those that are still to be written, the oldest first."""
        snapshots = schema.snapshots.c
        query = (
            select(schema.snapshots)
            .where(snapshots.commit_id == "")
            .order_by(snapshots.created_at, snapshots.job_id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(_snapshot_from(row) for row in connection.execute(query).mappings())

    def written(self, job_id: str, commit: str) -> None:
        """Notes the commit of a job. The first one stays."""
        snapshots = schema.snapshots.c
        ours = (snapshots.job_id == job_id) & (snapshots.commit_id == "")
        with self._database.write() as connection:
            connection.execute(update(schema.snapshots).where(ours).values(commit_id=commit))


def put_snapshot(connection: Connection, snapshot: Snapshot | None) -> None:
    """Stores a new snapshot together with its job."""
    if snapshot is not None:
        row = {_OTHER_NAMES.get(name, name): value for name, value in dataclasses.asdict(snapshot).items()}
        connection.execute(insert(schema.snapshots).values(row))


def _snapshot_from(row: RowMapping) -> Snapshot:
    names = (field.name for field in dataclasses.fields(Snapshot))
    return Snapshot(**{name: row[_OTHER_NAMES.get(name, name)] for name in names})
