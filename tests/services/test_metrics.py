"""Thinning keeps every peak; the stored form comes back bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simpletuner_lab.core.errors import StoreUnusable
from simpletuner_lab.core.metric import COLUMNS, Points
from simpletuner_lab.services.metrics import Block, decode, downsample, encode, joined, to_block, to_points

values = st.one_of(st.floats(width=32), st.just(math.nan), st.integers(-3, 3).map(float))
tables = st.lists(st.tuples(values, values, values), max_size=120)


def block_of(table, first=0, stride=1) -> Block:
    step = np.arange(first, first + len(table) * stride, stride, dtype=np.int64)
    return Block(step=step, values=np.array(table, np.float64).reshape(-1, len(COLUMNS)).T)


def cut(block: Block, size: int) -> list[Block]:
    return [block.part(slice(start, start + size)) for start in range(0, len(block), size)]


def rows(points: Points):
    return dict(
        zip(points.step, zip(*(map(repr, getattr(points, name)) for name in COLUMNS), strict=True), strict=True)
    )


@given(table=tables)
def test_the_stored_form_comes_back(table):
    block = block_of(table, first=-5, stride=3)
    again = decode(encode(block))
    assert again.step.tolist() == block.step.tolist()
    assert again.values.tobytes() == block.values.tobytes()


@pytest.mark.parametrize("data", [b"", b"points\x00\x02" + bytes(32), b"points\x00\x01" + bytes(31)], ids=repr)
def test_what_cannot_be_read_is_said(data):
    with pytest.raises(StoreUnusable):
        decode(data)


def test_points_and_back():
    points = Points(step=(1, 5), loss=(1.0, 2.0), lr=(3.0, 4.0), grad_norm=(5.0, 6.0))
    assert to_points(to_block(points)) == points
    assert to_points(to_block(Points())) == Points()


@given(table=tables, count=st.integers(8, 60), size=st.integers(1, 50), lone=st.booleans())
def test_thinning_keeps_ends_peaks_and_true_rows(table, count, size, lone):
    whole = block_of(table)
    series = ("loss",) if lone else COLUMNS
    thin = downsample(cut(whole, size), total=len(whole), count=count, series=series)
    assert len(thin) <= count
    assert list(thin.step) == sorted(set(thin.step))
    assert rows(thin).items() <= rows(to_points(whole)).items(), "every row was measured"
    if len(table):
        assert (thin.step[0], thin.step[-1]) == (0, len(table) - 1)
    for name in series:
        real = [value for value in getattr(to_points(whole), name) if not math.isnan(value)]
        kept = [value for value in getattr(thin, name) if not math.isnan(value)]
        if real:
            assert (min(kept), max(kept)) == (min(real), max(real))
    once = downsample([whole], total=len(whole), count=count, series=series)
    assert rows(once).keys() == rows(thin).keys(), "how it is cut into blobs does not matter"


@given(table=tables, count=st.integers(4, 30))
def test_every_stretch_keeps_its_own_peaks(table, count):
    total, stretches = len(table), (count - 2) // 2
    if total <= count:
        return
    thin = downsample([block_of(table)], total=total, count=count, series=("loss",))
    kept = dict(zip(thin.step, thin.loss, strict=True))
    for stretch in range(stretches):
        inside = [index for index in range(total) if index * stretches // total == stretch]
        real = [table[index][0] for index in inside if not math.isnan(table[index][0])]
        assert any(index in kept for index in inside)
        if real:
            seen = [kept[index] for index in inside if index in kept and not math.isnan(kept[index])]
            assert (min(seen), max(seen)) == (min(real), max(real))


def test_one_spike_in_a_million_survives():
    size = 1_000_000
    loss = np.full(size, 0.5)
    loss[765_432] = 99.0
    whole = Block(step=np.arange(size, dtype=np.int64), values=np.stack([loss, loss, loss]))
    thin = downsample(cut(whole, 4096), total=size, count=1000)
    assert thin.loss[thin.step.index(765_432)] == 99.0
    assert len(thin) <= 1000


def test_a_gap_stays_a_gap():
    table = [(1.0, 1.0, 1.0)] * 100 + [(math.nan,) * 3] * 100 + [(2.0, 2.0, 2.0)] * 100
    thin = downsample([block_of(table)], total=300, count=20)
    assert any(math.isnan(value) for value in thin.loss)


def test_more_points_than_were_counted_go_to_the_last_stretch():
    whole = block_of([(float(number), 0.0, 0.0) for number in range(150)])
    thin = downsample(cut(whole, 7), total=100, count=10)
    assert len(thin) <= 10
    assert thin.step[-1] == 149


def test_room_for_less_than_one_stretch():
    with pytest.raises(ValueError):
        downsample([], total=100, count=7)


def test_nothing_joined_is_nothing():
    assert len(joined([])) == 0
    assert downsample([], total=0, count=100) == Points()
