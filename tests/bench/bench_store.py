"""Pages and writes of the store beside the bare statements, among 100,000 jobs, on SQLite and PostgreSQL.

Run: python tests/bench/bench_store.py. PostgreSQL is a server of its own that writes through to the disk.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[2]))

from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.job import ACTIVE, Job, JobFilter, JobState, Progress, RunRef
from simpletuner_lab.core.metric import Points, PointsChange
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services import rows, schema
from simpletuner_lab.services.database import Database
from simpletuner_lab.services.store import Store
from tests.bench.in_turn import taken_ms
from tests.postgres_kit import postgres, programs

JOBS = 100_000
ROUNDS = 41
PROVIDERS = ("replicate", "local", "local", "local")
T0 = 1_700_000_000.0


def make(number: int) -> Job:
    last = JobState.COMPLETED if number % 20 else JobState.FAILED
    return Job(
        id=f"{number:016x}", owner="me", name=f"run {number} of cats", provider=PROVIDERS[number % 4] if number % 10_000 else "ray",
        target="process", hardware="cpu", remote=number % 4 == 0, state=JobState.RUNNING if number % 5000 == 0 else last,
        created_at=T0 + number, updated_at=T0 + number, completed_at=T0 + number, settled_at=T0 if number % 5000 else None,
        digest="d" * 64, nonce="n" * 16, version=1, run=RunRef(ref=f"run-{number}", cursor="65536"), log_bytes=65536,
        progress=Progress(stage="train", stage_label="Training", step=2000, total_steps=2000, epoch=20.0, loss=0.0731,
                          lr=1e-4, step_s=0.51, images_per_s=7.8, eta_s=0.0, memory_mb=20_480.0),
    )  # fmt: skip


def fill(database: Database) -> None:
    with database.write() as connection:
        tallies: dict[tuple[str, str, bool, str], int] = {}
        for start in range(0, JOBS, 1000):
            jobs = [make(number) for number in range(start, start + 1000)]
            connection.execute(
                sa.insert(schema.jobs), [rows.job_row(j) | {"version": 1, "run_class": "c"} for j in jobs]
            )
            for job in jobs:
                key = (job.owner, job.provider, job.remote, job.state.value)
                tallies[key] = tallies.get(key, 0) + 1
        names = ("owner", "provider", "remote", "state")
        connection.execute(
            sa.insert(schema.tallies), [dict(zip(names, key, strict=True)) | {"jobs": n} for key, n in tallies.items()]
        )


def medians_ms(*calls: Callable[[], object]) -> tuple[float, ...]:
    """Medians of calls made in turn, so that a busy machine is busy for all of them."""
    return tuple(map(statistics.median, taken_ms(*calls, rounds=ROUNDS)))


def compare(what: str, ours: Callable[[], object], bare: Callable[[], object]) -> None:
    mine, floor = medians_ms(ours, bare)
    print(f"{what:<52}{mine:9.3f} ms   bare {floor:9.3f} ms   ratio {mine / floor:6.2f}")


def pages(store: Store, database: Database) -> None:
    def bare(where: sa.ColumnElement[bool], offset: int = 0) -> Callable[[], object]:
        jobs = schema.jobs
        order = (jobs.c.created_at.desc(), jobs.c.id.desc())
        query = sa.select(jobs).where(where).order_by(*order).limit(50).offset(offset)

        def call() -> object:
            with database.read() as connection:
                return connection.execute(query).all()

        return call

    jobs = schema.jobs.c
    mine = jobs.owner == "me"
    ended = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
    for what, chosen, where, offset in [
        ("all", JobFilter(), sa.true(), 0),
        ("owner", JobFilter(owner="me"), mine, 0),
        ("owner, 90,000 deep", JobFilter(owner="me"), mine, 90_000),
        *(
            (f"owner, {what}", JobFilter(owner="me", states=states), mine & jobs.state.in_(sorted(states)), 0)
            for what, states in {
                "one state (5 %)": frozenset({JobState.FAILED}),
                "the running ones": frozenset({JobState.RUNNING}),
                "no such state": frozenset({JobState.QUEUED}),
                "every ended state": ended,
            }.items()
        ),
        *(
            (f"owner, {what}", JobFilter(owner="me", provider=name), mine & (jobs.provider == name), 0)
            for what, name in {"provider": "replicate", "a rare provider": "ray", "no such provider": "none"}.items()
        ),
        (
            "owner, text (scans)",
            JobFilter(owner="me", text="99999"),
            mine & (jobs.name.icontains("99999") | jobs.id.icontains("99999")),
            0,
        ),
    ]:
        compare(f"page of 50: {what}", lambda c=chosen, o=offset: store.jobs.page(c, offset=o), bare(where, offset))
    with database.read() as connection:
        count = sa.select(sa.func.count()).where(jobs.owner == "me")
        (counting,) = medians_ms(lambda: connection.execute(count).scalar())
        print(f"{'for comparison: count(*) of an owner':<52}{counting:9.3f} ms")
    compare("active jobs", store.jobs.active, bare(jobs.state.in_(sorted(ACTIVE))))
    compare("unsettled jobs", store.jobs.unsettled, bare(jobs.settled_at.is_(None)))


def writes(store: Store, database: Database) -> None:
    state = {"job": store.jobs.get(f"{5000:016x}"), "step": 0}

    def record() -> None:
        job, step = state["job"], state["step"]
        fresh = Points(step=(step, step + 1), loss=(0.5, 0.5), lr=(1e-4, 1e-4), grad_norm=(1.0, 1.0))
        events = (EventDraft(kind=EventKind.STAGE, at=T0),)
        after = dataclasses.replace(job, log_bytes=step)
        state["job"], _ = store.jobs.record(job, after, events, PointsChange(append=fresh))
        state["step"] += 2

    def bare() -> None:
        row = rows.job_row(make(10_000))
        with database.write() as connection:
            connection.execute(sa.update(schema.jobs).where(schema.jobs.c.id == row["id"]).values(row))

    compare("record (row, event, points; bare: the row alone)", record, bare)
    new = iter(range(JOBS, 10 * JOBS))

    def bare_insert() -> None:
        row = rows.job_row(make(next(new))) | {"version": 1, "run_class": "c"}
        with database.write() as connection:
            connection.execute(sa.insert(schema.jobs).values(row))

    compare(
        "insert (job, plan, event; bare: the job alone)", lambda: store.jobs.insert(make(next(new)), "{}"), bare_insert
    )


def measure(name: str, target: Path | Secret) -> None:
    start = time.perf_counter()
    database = Database.open(target)
    created = time.perf_counter() - start
    fill(database)
    database.close()
    start = time.perf_counter()
    database = Database.open(target)
    print(f"{name}: create {created * 1e3:.1f} ms, open {(time.perf_counter() - start) * 1e3:.1f} ms")
    store = Store(database)
    pages(store, database)
    writes(store, database)
    store.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        measure("SQLite", Path(folder) / "lab.db")
    if programs() is None:
        print("PostgreSQL is not installed: left out")
        return
    with postgres(safe=True) as server:
        measure("PostgreSQL", Secret(server.tcp_url("postgres")))


if __name__ == "__main__":
    main()
