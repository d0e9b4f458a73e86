"""Training curves as arrays: how they are stored, and how they are thinned out so that every peak survives.

Thinning is MinMax: the curve is cut into stretches of equally many points, and of each the rows with the smallest and
the largest value of each series stay, besides the very first and the very last row. That is M4 (Jugel et al., "M4: A
Visualization-Oriented Time Series Data Aggregation", VLDB 2014) without each stretch's first and last row, which
Van Der Donckt et al. ("MinMaxLTTB", 2023) find to look no worse at the same number of points. Every row that is
returned is one that was measured, with all its values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simpletuner_lab.core.errors import StoreUnusable
from simpletuner_lab.core.metric import COLUMNS, Points

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Rows: TypeAlias = slice | Ints | NDArray[np.bool_]

_HEADER: Final = b"points\x00\x01"
"""Eight bytes, so that the columns after it lie aligned in memory; the last one is the version of the format."""

_ROW_BYTES: Final = 8 * (1 + len(COLUMNS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A stretch of a curve: `step` of shape (n,), strictly rising, and `values` of shape (len(COLUMNS), n)."""

    step: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.step)

    def part(self, rows: Rows) -> Block:
        """Some of the rows, in order."""
        return Block(step=self.step[rows], values=self.values[:, rows])


EMPTY: Final = Block(step=np.empty(0, np.int64), values=np.empty((len(COLUMNS), 0), np.float64))


def encode(block: Block) -> bytes:
    """The stored form: a header, then little-endian columns (step as 64-bit integers, the others as doubles)."""
    return b"".join((_HEADER, block.step.astype("<i8").tobytes(), block.values.astype("<f8").tobytes()))


def decode(data: bytes) -> Block:
    """Reads the stored form without copying it.

    Raises:
        StoreUnusable: it is damaged, or of a format that this release does not know.
    """
    size, rest = divmod(len(data) - len(_HEADER), _ROW_BYTES)
    if not data.startswith(_HEADER) or rest:
        raise StoreUnusable("stored metrics cannot be read", hint="upgrade simpletuner-lab, or restore the database")
    step = np.frombuffer(data, "<i8", size, len(_HEADER))
    values = np.frombuffer(data, "<f8", size * len(COLUMNS), len(_HEADER) + 8 * size)
    return Block(step=step, values=values.reshape(len(COLUMNS), size))


def to_block(points: Points) -> Block:
    """Points as arrays.

    Raises:
        ValueError: columns of unequal length, or steps that do not rise.
    """
    columns = [getattr(points, name) for name in COLUMNS]
    if any(len(column) != len(points) for column in columns):
        raise ValueError("columns of unequal length")
    step = np.array(points.step, np.int64)
    if np.any(np.diff(step) <= 0):
        raise ValueError("steps do not rise")
    return Block(step=step, values=np.array(columns, np.float64))


def to_points(block: Block) -> Points:
    """Arrays as points."""
    loss, lr, grad_norm = (tuple(column.tolist()) for column in block.values)
    return Points(step=tuple(block.step.tolist()), loss=loss, lr=lr, grad_norm=grad_norm)


def joined(blocks: Iterable[Block]) -> Block:
    """Consecutive blocks as one."""
    parts = list(blocks) or [EMPTY]
    if len(parts) == 1:
        return parts[0]
    return Block(
        step=np.concatenate([part.step for part in parts]),
        values=np.concatenate([part.values for part in parts], axis=1),
    )


def downsample(blocks: Iterable[Block], *, total: int, count: int, series: Sequence[str] = COLUMNS) -> Points:
    """At most `count` rows of a curve of `total` rows; the peaks of each of `series` are among them.

    One pass in constant memory. NaN is no peak; a stretch of nothing but NaN leaves one such row, so a gap stays a
    gap. Fewer series make finer stretches: there are `(count - 2) // (2 * len(series))` of them.

    Raises:
        ValueError: `count` has no room for one stretch.
    """
    if total <= count:
        return to_points(joined(blocks))
    stretches = (count - 2) // (2 * len(series))
    if stretches < 1:
        raise ValueError(f"count must be at least {2 + 2 * len(series)}")
    thinning = _Thinning(total=total, stretches=stretches, series=tuple(COLUMNS.index(name) for name in series))
    for block in blocks:
        thinning.add(block)
    return to_points(thinning.result())


@dataclass(slots=True, kw_only=True)
class _Thinning:
    """A curve while it flows by: finished stretches, and the peaks so far of the one under way."""

    total: int
    stretches: int
    series: tuple[int, ...]
    seen: int = 0
    stretch: int = 0
    kept: list[Block] = field(default_factory=list)
    under_way: list[Block] = field(default_factory=list)
    last: Block = EMPTY

    def add(self, block: Block) -> None:
        if not len(block):
            return
        if not self.seen:
            self.kept.append(block.part(slice(0, 1)))
        for start, stop, stretch in self._cuts(len(block)):
            if stretch != self.stretch:
                self._finish()
                self.stretch = stretch
            self.under_way.append(self._peaks(block.part(slice(start, stop))))
        self.seen += len(block)
        self.last = block.part(slice(-1, None))

    def result(self) -> Block:
        self._finish()
        rows = joined([*self.kept, self.last])
        _, unique = np.unique(rows.step, return_index=True)
        return rows.part(unique)

    def _cuts(self, size: int) -> Iterator[tuple[int, int, int]]:
        """Cuts a block where stretches end: (first row, row after the last, stretch)."""
        start = 0
        while start < size:
            stretch = min((self.seen + start) * self.stretches // self.total, self.stretches - 1)
            end = -(-(stretch + 1) * self.total // self.stretches) - self.seen
            stop = size if stretch == self.stretches - 1 else min(size, end)
            yield start, stop, stretch
            start = stop

    def _finish(self) -> None:
        if self.under_way:
            self.kept.append(self._peaks(joined(self.under_way)))
            self.under_way = []

    def _peaks(self, block: Block) -> Block:
        found = {index for number in self.series for index in _extremes(block.values[number])}
        return block.part(np.array(sorted(found) or [0], np.int64))


def _extremes(column: Floats) -> tuple[int, ...]:
    """Where the smallest and the largest value stand; nowhere if all are NaN."""
    low, high = int(column.argmin()), int(column.argmax())
    if not np.isnan(column[low]):
        return low, high
    real = np.flatnonzero(~np.isnan(column))  # argmin takes NaN for the smallest of all
    if not len(real):
        return ()
    return int(real[column[real].argmin()]), int(real[column[real].argmax()])
