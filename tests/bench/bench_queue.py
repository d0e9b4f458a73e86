"""Claims of the queue beside the bare statements, among 100,000 jobs of which 1,000 wait.

Run: python tests/bench/bench_queue.py [DATABASE_URL]; without a URL in a SQLite file and a PostgreSQL server of its own.
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

from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.job_queue import Limits
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services import rows, schema
from simpletuner_lab.services.database import Database, draw_numbers
from simpletuner_lab.services.store import Store
from tests.bench.bench_store import JOBS, T0, compare, fill, make
from tests.postgres_kit import postgres, programs

WAITING = 1_000
CLAIMS = 200
LIMITS = Limits(total=100, user=20, local=10)
"""Those under way of the 100,000 hold twenty slots of a user who wants no more."""


def fill_queue(database: Database) -> None:
    with database.write() as connection:
        for number in range(JOBS, JOBS + WAITING):
            new = {
                "owner": f"user {number % 40}",
                "state": JobState.PENDING,
                "priority": number % 5,
                "settled_at": None,
            }
            job = dataclasses.replace(make(number), completed_at=None, **new)
            own = {"version": 1, "run_class": "c", "place": number}
            connection.execute(sa.insert(schema.jobs).values(rows.job_row(job) | own))


def bare_claim(database: Database) -> str:
    """The first in the queue by compare-and-set, and the number of the write: no limits, no event."""
    jobs = schema.jobs.c
    waits = sa.and_(jobs.state == JobState.PENDING.value, jobs.claimed_at.is_(None))
    first = sa.select(jobs.id, jobs.version).where(waits).order_by(jobs.rank, jobs.place).limit(1)
    with database.write() as connection:
        found = connection.execute(first).one()
        new = {"claimed_at": T0, "version": found.version + 1, "changed": draw_numbers(connection, 1)}
        ours = sa.and_(jobs.id == found.id, jobs.version == found.version, waits)
        assert connection.execute(sa.update(schema.jobs).where(ours).values(new)).rowcount == 1
    return str(found.id)


def end(database: Database, job_id: str) -> None:
    with database.write() as connection:
        ended = sa.update(schema.jobs).where(schema.jobs.c.id == job_id).values(state=JobState.FAILED.value)
        connection.execute(ended)


def claims(store: Store, database: Database) -> None:
    """One slot after the other, in turn with the bare statements, so that a busy machine is busy for both."""

    def ours() -> str:
        (claim,) = store.queue.claim(limits, now=T0)
        return claim[0].id

    held = store.queue.slots()
    limits = dataclasses.replace(LIMITS, total=held.total + 1)
    taken: dict[Callable[[], str], list[float]] = {ours: [], (lambda: bare_claim(database)): []}
    for _ in range(CLAIMS):
        for claim, times in taken.items():
            start = time.perf_counter()
            job_id = claim()
            times.append(time.perf_counter() - start)
            end(database, job_id)
    mine, bare = (statistics.median(times) for times in taken.values())
    print(f"{'claims a second':<52}{1 / mine:9.0f} /s   bare {1 / bare:9.0f} /s   ratio {bare / mine:6.2f}")


def looks(store: Store, database: Database) -> None:
    jobs = schema.jobs.c
    waits = sa.and_(jobs.state == JobState.PENDING.value, jobs.claimed_at.is_(None))
    page = sa.select(schema.jobs).where(waits).order_by(jobs.rank, jobs.place).limit(50)
    count = sa.select(sa.func.count()).where(waits)

    def bare(query: sa.Select[tuple]) -> Callable[[], object]:
        def call() -> object:
            with database.read() as connection:
                return connection.execute(query).all()

        return call

    full = dataclasses.replace(LIMITS, total=1)
    last = [job.id for job in store.queue.waiting(limit=50)]
    compare("50 of those that wait", lambda: store.queue.waiting(limit=50), bare(page))
    compare("places of 50 jobs (bare: the 50 jobs)", lambda: store.queue.places(last), bare(page))
    compare("a look for work, every slot held (bare: a count)", lambda: store.queue.claim(full, now=T0), bare(count))


def measure(name: str, target: Path | Secret) -> None:
    print(f"-- {name}")
    database = Database.open(target)
    fill(database)
    fill_queue(database)
    store = Store(database)
    claims(store, database)
    looks(store, database)
    store.close()


def main() -> None:
    if sys.argv[1:]:
        measure("the database that was named", Secret(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        measure("SQLite", Path(folder) / "lab.db")
    if programs() is None:
        print("PostgreSQL is not installed: left out")
        return
    with postgres(safe=True) as running:
        measure("PostgreSQL", Secret(running.tcp_url("postgres")))


if __name__ == "__main__":
    main()
