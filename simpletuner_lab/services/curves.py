"""Metric points in the database: sealed blobs of exactly 4,096 rows, and a short tail of smaller ones.

A watcher appends a few points a second. Each append becomes a small blob, which swallows the blobs before it that are
less than twice its size, as in a log-structured merge; so the tail stays about a dozen blobs long, and a point is
rewritten a dozen times at most. As soon as the tail has 4,096 rows they are sealed and never touched again, unless a
resumed run voids some of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from simpletuner_lab.core.metric import Points, PointsChange
from simpletuner_lab.services.database import Database
from simpletuner_lab.services.metrics import Block, decode, encode, joined, to_block, to_points
from simpletuner_lab.services.schema import points as table

SEALED: Final = 4096
"""Rows of a sealed blob: 128 KiB."""

_TAIL: Final = 24
"""More blobs than a tail can have: each holds at least twice the rows of the next, and all together under 4,096."""

_FETCH: Final = 8
"""Blobs in memory at a time while a curve is streamed."""


class Curves:
    """The training curves of all jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, job_id: str, after_step: int | None = None) -> Points:
        """Every point (after a step) at full resolution."""
        return to_points(joined(self.blocks(job_id, after_step)))

    def blocks(self, job_id: str, after_step: int | None = None) -> Iterator[Block]:
        """The same in stretches of up to 4,096 points, in constant memory. Holds a transaction until it is used up."""
        query = select(table.c.data).where(table.c.job_id == job_id).order_by(table.c.first_step)
        if after_step is not None:
            query = query.where(table.c.last_step > after_step)
        with self._database.read() as connection:
            for data in connection.execution_options(yield_per=_FETCH).execute(query).scalars():
                block = decode(data)
                yield block if after_step is None else block.part(block.step > after_step)

    def count(self, job_id: str) -> int:
        """How many points a job has."""
        query = select(func.coalesce(func.sum(table.c.size), 0)).where(table.c.job_id == job_id)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())


def change_curve(connection: Connection, job_id: str, change: PointsChange) -> None:
    """Drops what is void, then appends. What is reported again replaces what was there from its first step on.

    Raises:
        ValueError: the points to append are no curve (columns of unequal length, steps that do not rise).
    """
    block = to_block(change.append)
    keep = change.keep_through
    if len(block):
        before = int(block.step[0]) - 1
        keep = before if keep is None else min(keep, before)
    if keep is not None:
        _truncate(connection, job_id, keep)
    if len(block):
        _append(connection, job_id, block)


def _truncate(connection: Connection, job_id: str, keep_through: int) -> None:
    """Drops every point after a step. Only the blob that the step falls into is rewritten."""
    ours = table.c.job_id == job_id
    query = select(table.c.data).where(ours, table.c.first_step <= keep_through, table.c.last_step > keep_through)
    cut = connection.execute(query).scalar()
    connection.execute(delete(table).where(ours, table.c.last_step > keep_through))
    if cut is not None:
        block = decode(cut)
        _write(connection, job_id, block.part(block.step <= keep_through))


def _append(connection: Connection, job_id: str, block: Block) -> None:
    """Appends rows that come after all stored ones."""
    swallowed = []
    size, tail = len(block), _tail(connection, job_id)
    seals = size + sum(rows for _, rows in tail) >= SEALED
    for first_step, rows in tail:
        if not seals and rows >= 2 * size:
            break
        swallowed.append(first_step)
        size += rows
    if swallowed:
        which = (table.c.job_id == job_id) & (table.c.first_step >= swallowed[-1])
        stored = connection.execute(select(table.c.data).where(which).order_by(table.c.first_step)).scalars()
        block = joined([*(decode(data) for data in stored), block])
        connection.execute(delete(table).where(which))
    for start in range(0, len(block), SEALED):
        _write(connection, job_id, block.part(slice(start, start + SEALED)))


def _tail(connection: Connection, job_id: str) -> list[tuple[int, int]]:
    """First step and rows of the blobs after the last sealed one, the newest first."""
    query = (
        select(table.c.first_step, table.c.size)
        .where(table.c.job_id == job_id)
        .order_by(table.c.first_step.desc())
        .limit(_TAIL)
    )
    found = []
    for first_step, rows in connection.execute(query):
        if rows == SEALED:
            break
        found.append((first_step, rows))
    return found


def _write(connection: Connection, job_id: str, block: Block) -> None:
    row = {
        "job_id": job_id,
        "first_step": int(block.step[0]),
        "last_step": int(block.step[-1]),
        "size": len(block),
        "data": encode(block),
    }
    connection.execute(insert(table).values(row))
