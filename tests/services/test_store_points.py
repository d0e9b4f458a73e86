"""Curves in the store, on SQLite and PostgreSQL alike: whatever is appended and cut, they equal a plain list."""

from __future__ import annotations

import math
import tracemalloc

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simpletuner_lab.core.metric import COLUMNS, Points, PointsChange
from simpletuner_lab.services import schema
from simpletuner_lab.services.curves import SEALED, change_curve
from simpletuner_lab.services.database import Database
from simpletuner_lab.services.store import Store
from tests.services.store_kit import SLOW_ON_POSTGRESQL, new_job, target_of


@pytest.fixture
def database(address):
    database = Database.open(target_of(address))
    Store(database).jobs.insert(new_job(), "{}")
    yield database
    database.close()


def curve(first: int, size: int, stride: int = 1) -> Points:
    steps = tuple(range(first, first + size * stride, stride))
    loss = tuple(math.nan if step % 97 == 0 else 1.0 / (step + 1) for step in steps)
    return Points(step=steps, loss=loss, lr=tuple(step * 1e-9 for step in steps), grad_norm=tuple(map(float, steps)))


def rows(points: Points) -> list[tuple[float, ...]]:
    columns = (points.step, *(map(_like_itself, getattr(points, name)) for name in COLUMNS))
    return list(zip(*columns, strict=True))


def _like_itself(value: float) -> float:
    return -1.0 if math.isnan(value) else value  # NaN is not equal to itself; -1 stands nowhere else


def blobs(database) -> list[tuple[int, int, int]]:
    table = schema.points.c
    with database.read() as connection:
        query = sa.select(table.first_step, table.last_step, table.size).order_by(table.first_step)
        return [tuple(row) for row in connection.execute(query)]


sizes = st.one_of(st.integers(1, 20), st.sampled_from([500, SEALED - 1, SEALED, SEALED + 1, 2 * SEALED + 7]))
change = st.fixed_dictionaries(
    {"back": st.integers(0, 9000), "keep": st.booleans(), "size": sizes, "stride": st.integers(1, 3)}
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.one_of(change, change.map(lambda c: c | {"back": 0, "keep": False})), max_size=10))
def test_any_interleaving_equals_a_plain_list(database, changes):
    with database.write() as connection:
        connection.execute(sa.delete(schema.points))
    plain: list[tuple[int, tuple[float, ...]]] = []
    for each in changes:
        last = plain[-1][0] if plain else 0
        keep = max(0, last - each["back"]) if each["keep"] else None
        new = curve((last if keep is None else keep) + 1, each["size"], each["stride"])
        with database.write() as connection:
            change_curve(connection, "job-1", PointsChange(keep_through=keep, append=new))
        plain = [pair for pair in plain if keep is None or pair[0] <= keep] + list(
            zip(new.step, rows(new), strict=True)
        )
    points = Store(database).points
    assert rows(points.read("job-1")) == [row for _, row in plain]
    assert points.count("job-1") == len(plain)
    middle = plain[len(plain) // 2][0] if plain else 0
    assert rows(points.read("job-1", after_step=middle)) == [row for step, row in plain if step > middle]
    sealed = [size for _, _, size in blobs(database) if size == SEALED]
    assert sum(sealed) == len(plain) // SEALED * SEALED
    assert [size for _, _, size in blobs(database)][: len(sealed)] == sealed, "sealed blobs come first"


@SLOW_ON_POSTGRESQL
def test_a_few_points_a_second_make_few_blobs(database):
    longest = 0
    for first in range(1, 1200, 3):
        with database.write() as connection:
            change_curve(connection, "job-1", PointsChange(append=curve(first, 3)))
        longest = max(longest, len(blobs(database)))
    assert longest <= 12
    with database.write() as connection:
        change_curve(connection, "job-1", PointsChange(append=curve(1201, 3000)))
    assert [size for _, _, size in blobs(database)] == [SEALED, 4200 - SEALED]


def test_what_is_reported_again_replaces_what_was_there(database):
    for first, size in ((1, 100), (51, 10)):
        with database.write() as connection:
            change_curve(connection, "job-1", PointsChange(append=curve(first, size)))
    assert Store(database).points.read("job-1").step == tuple(range(1, 61))


def test_cutting_leaves_exactly_what_it_says(database):
    with database.write() as connection:
        change_curve(connection, "job-1", PointsChange(append=curve(1, 10_000)))
        for keep in (20_000, 10_000, 9_000, SEALED, 7, 0):
            change_curve(connection, "job-1", PointsChange(keep_through=keep))
            kept = connection.execute(sa.select(sa.func.sum(schema.points.c.size))).scalar() or 0
            assert kept == min(keep, 10_000)


@pytest.mark.parametrize(
    "crooked",
    [
        Points(step=(1, 1), loss=(1.0, 1.0), lr=(1.0, 1.0), grad_norm=(1.0, 1.0)),
        Points(step=(1, 2), loss=(1.0,), lr=(1.0, 1.0), grad_norm=(1.0, 1.0)),
    ],
    ids=["steps", "columns"],
)
def test_crooked_curves_are_refused(database, crooked):
    with pytest.raises(ValueError), database.write() as connection:
        change_curve(connection, "job-1", PointsChange(append=crooked))
    assert blobs(database) == []


def test_a_long_curve_is_streamed_in_constant_memory(database):
    size = 400_000
    with database.write() as connection:
        change_curve(connection, "job-1", PointsChange(append=curve(1, size)))
    tracemalloc.start()
    seen = sum(len(block) for block in Store(database).points.blocks("job-1"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == size
    assert peak < size * 32 / 4


def test_two_jobs_do_not_mix(database):
    Store(database).jobs.insert(new_job("job-2"), "{}")
    with database.write() as connection:
        change_curve(connection, "job-1", PointsChange(append=curve(1, 5)))
        change_curve(connection, "job-2", PointsChange(append=curve(1, 7)))
        change_curve(connection, "job-1", PointsChange(keep_through=2))
    points = Store(database).points
    assert (points.count("job-1"), points.count("job-2"), points.count("job-3")) == (2, 7, 0)
    assert len(points.read("job-3")) == 0
