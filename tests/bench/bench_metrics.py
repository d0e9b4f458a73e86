"""A million points to a thousand, from the store beside the same in memory. Run: python tests/bench/bench_metrics.py."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.metric import Points, PointsChange
from simpletuner_lab.services.curves import SEALED, change_curve
from simpletuner_lab.services.database import Database
from simpletuner_lab.services.metrics import Block, downsample, to_points
from simpletuner_lab.services.store import Store
from tests.bench.in_turn import taken_ms

SIZE = 1_000_000
COUNT = 1_000
ROUNDS = 11
T0 = 1_700_000_000.0


def medians_ms(*calls: Callable[[], object]) -> tuple[float, ...]:
    """Medians of calls made in turn, so that a busy machine is busy for all of them."""
    return tuple(map(statistics.median, taken_ms(*calls, rounds=ROUNDS)))


def curve() -> Block:
    random = np.random.default_rng(0)
    step = np.arange(SIZE, dtype=np.int64)
    loss = np.exp(-step / 3e5) + 0.1 * random.standard_normal(SIZE)
    values = np.stack([loss, 1e-4 * (1 - step / SIZE), random.random(SIZE)])
    return Block(step=step, values=values)


def main() -> None:
    whole = curve()
    parts = [whole.part(slice(start, start + SEALED)) for start in range(0, SIZE, SEALED)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lab.db"
        database = Database.open(path)
        store = Store(database)
        job = Job(
            id="j", owner="me", name="n", provider="local", target="t", hardware="cpu", remote=False, nonce="n",
            state=JobState.RUNNING, created_at=T0, updated_at=T0, digest="d",
        )  # fmt: skip
        store.jobs.insert(job, "{}")
        start = time.perf_counter()
        for part in parts:
            with database.write() as connection:
                change_curve(connection, "j", PointsChange(append=to_points(part)))
        print(
            f"1,000,000 points appended in blobs of 4,096: {time.perf_counter() - start:.2f} s, {path.stat().st_size >> 20} MiB"
        )
        points = store.points
        for series in (("loss",), ("loss", "lr", "grad_norm")):
            disk, ram = medians_ms(
                lambda s=series: downsample(points.blocks("j"), total=points.count("j"), count=COUNT, series=s),
                lambda s=series: downsample(parts, total=SIZE, count=COUNT, series=s),
            )
            print(
                f"to 1,000, peaks of {len(series)}: store {disk:8.2f} ms   memory {ram:8.2f} ms   ratio {disk / ram:5.2f}"
            )
        alone, tail = medians_ms(
            lambda: sum(map(len, points.blocks("j"))), lambda: points.read("j", after_step=SIZE - 50_001)
        )
        print(f"reading the blobs alone {alone:.2f} ms; the last 50,000 points as Points {tail:.2f} ms")
        appended(store, database)
        store.close()


def appended(store: Store, database: Database) -> None:
    """What a watcher does: two points a commit."""
    step = SIZE
    times = []
    for _ in range(3000):
        fresh = Points(step=(step, step + 1), loss=(0.5, 0.5), lr=(1e-4, 1e-4), grad_norm=(1.0, 1.0))
        start = time.perf_counter()
        with database.write() as connection:
            change_curve(connection, "j", PointsChange(append=fresh))
        times.append((time.perf_counter() - start) * 1e3)
        step += 2
    times.sort()
    print(f"append of 2 points: median {times[1500]:.2f} ms, 99 % {times[2970]:.2f} ms, worst {times[-1]:.2f} ms")
    print(f"append of 2 points, all told {store.points.count('j'):,} points")


if __name__ == "__main__":
    main()
