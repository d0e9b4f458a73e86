"""The SQL of a page of jobs: what a filter passes, in which order, and how many there are in all."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Table, func, or_, select

from simpletuner_lab.core.job import JobFilter, JobOrder, SortKey
from simpletuner_lab.services import rows, schema

_JOBS: Final = schema.jobs.c

_SORTED_BY: Final[Mapping[SortKey, ColumnElement[Any]]] = MappingProxyType(
    {
        SortKey.UPDATED_AT: _JOBS.updated_at,
        SortKey.CONFIG_NAME: func.lower(_JOBS.name),
        SortKey.STATUS: _JOBS.state,
        SortKey.PROVIDER: _JOBS.provider,
        SortKey.COST_USD: _JOBS.cost_usd,
        SortKey.DURATION_SECONDS: func.coalesce(_JOBS.completed_at, _JOBS.updated_at) - _JOBS.started_at,
        SortKey.LOSS: _JOBS.loss,
    }
)


def stretch(chosen: JobFilter, order: JobOrder, *, limit: int, offset: int) -> Select[tuple[Any, ...]]:
    """Some of the jobs that a filter passes, as `rows.JOB_COLUMNS`.

    The ids are sorted first and the rows fetched for those of the page alone: sorting whole rows takes ten times as
    long where no index has the order.
    """
    where = (*_passes(schema.jobs, chosen), *_of_jobs_alone(chosen))
    ids = select(_JOBS.id).where(*where).order_by(*_ordered(order)).limit(limit).offset(offset).subquery()
    return select(*rows.JOB_COLUMNS).join(ids, ids.c.id == _JOBS.id).order_by(*_ordered(order))


def tallied(connection: Connection, chosen: JobFilter) -> int | None:
    """The true number of jobs that a filter passes; None where it asks for more than the tallies know."""
    if _of_jobs_alone(chosen):
        return None
    query = select(func.coalesce(func.sum(schema.tallies.c.jobs), 0)).where(*_passes(schema.tallies, chosen))
    return int(connection.execute(query).scalar_one())


def counted(connection: Connection, chosen: JobFilter) -> int:
    """The same by a look at every job."""
    query = select(func.count()).select_from(schema.jobs)
    return int(connection.execute(query.where(*_passes(schema.jobs, chosen), *_of_jobs_alone(chosen))).scalar_one())


def _passes(table: Table, chosen: JobFilter) -> list[ColumnElement[bool]]:
    """What a filter asks of the columns that jobs and tallies share."""
    asked = {"provider": chosen.provider, "owner": chosen.owner, "remote": chosen.remote}
    found: list[ColumnElement[bool]] = [table.c[name] == value for name, value in asked.items() if value is not None]
    if chosen.states:
        found.append(table.c.state.in_(sorted(chosen.states)))
    return found


def _of_jobs_alone(chosen: JobFilter) -> list[ColumnElement[bool]]:
    """What it asks of the other columns."""
    found: list[ColumnElement[bool]] = []
    if chosen.text:
        contains = {"other": chosen.text, "autoescape": True}
        found.append(or_(_JOBS.name.icontains(**contains), _JOBS.id.icontains(**contains)))
    if chosen.key is not None:
        found.append(_JOBS.idempotency_key == chosen.key)
    return found


def _ordered(order: JobOrder) -> list[ColumnElement[Any]]:
    """The columns to sort by; the last one is unique, so that pages neither overlap nor leave a job out."""
    if order.key is SortKey.CREATED_AT:
        columns = (_JOBS.created_at, _JOBS.id)
        return [column.desc() if order.descending else column.asc() for column in columns]
    key = _SORTED_BY[order.key]
    first = key.desc() if order.descending else key.asc()
    return [first.nulls_last(), _JOBS.created_at.desc(), _JOBS.id.desc()]
