"""`GET /jobs` over HTTP, a page of 50 from 100,000 jobs with the true total, on SQLite and PostgreSQL.

Beside it in the same run: the two bare queries (the rows of the page, the count of all) as SQLAlchemy Core sends them, and
Jupyter's own `GET /api/status`, which is what any authenticated answer of a notebook server costs.

Run: python tests/bench/bench_pages.py. It starts a PostgreSQL server of its own, which writes through to the disk, and
leaves it out where there is none.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import bench_store
import httpx
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[2]))

from simpletuner_lab.services import schema
from simpletuner_lab.services.database import Database
from simpletuner_lab.services.home import DATABASE_URL
from tests.bench.in_turn import taken_ms
from tests.lab_kit import quick_home
from tests.postgres_kit import postgres, programs
from tests.server.server_kit import Server
from tests.services.store_kit import target_of

PAGE = 50
ROUNDS = 200
MOST_TIMES, MOST_MS = 10, 50


def measure(name: str, server: Server, database: Database) -> None:
    with server.http() as http:
        status = f"{server.url}api/status"
        for where, offset in (("first page", 0), ("50,000 deep", 50_000)):
            ours, bare, jupyter = taken_ms(
                lambda o=offset: page(http, o),
                lambda o=offset: queries(database, o),
                lambda: http.get(status).raise_for_status(),
                rounds=ROUNDS,
            )
            middle, floor, least = map(statistics.median, (ours, bare, jupyter))
            p95 = statistics.quantiles(ours, n=20)[-1]
            print(
                f"{name:<11} GET /jobs, {where:<12} p50 {middle:7.2f} ms, p95 {p95:7.2f} ms (limit {MOST_MS}); "
                f"bare queries {floor:6.2f} ms, ratio {middle / floor:5.2f} (limit {MOST_TIMES}); "
                f"Jupyter's status {least:5.2f} ms, ratio {middle / least:5.2f}"
            )


def page(http: httpx.Client, offset: int) -> None:
    answer = http.get("/jobs", params={"limit": PAGE, "offset": offset}).json()
    assert (len(answer["jobs"]), answer["total"]) == (PAGE, bench_store.JOBS)


def queries(database: Database, offset: int) -> None:
    jobs = schema.jobs
    rows = sa.select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(PAGE).offset(offset)
    with database.read() as connection:
        assert len(connection.execute(rows).all()) == PAGE
        assert connection.execute(sa.select(sa.func.count()).select_from(jobs)).scalar_one() == bench_store.JOBS


def fill(address: Path | str) -> Database:
    """With jobs that want nothing more of the server."""
    database = Database.open(target_of(address))
    bench_store.fill(database)
    with database.write() as connection:
        connection.execute(sa.update(schema.jobs).values(settled_at=schema.jobs.c.created_at))
    return database


def on_sqlite(folder: Path) -> None:
    home = quick_home(folder)
    database = fill(home.database)
    server = Server(folder, home.root).start()
    try:
        measure("SQLite", server, database)
    finally:
        database.close()
        server.stop()


def on_postgresql(folder: Path) -> None:
    with postgres(safe=True) as running:
        url = running.tcp_url("postgres")
        database = fill(url)
        running.order("VACUUM ANALYZE")
        server = Server(folder, quick_home(folder).root, environment={DATABASE_URL: url}).start()
        try:
            measure("PostgreSQL", server, database)
        finally:
            database.close()
            server.stop()


def main() -> None:
    for run in (on_sqlite, *([on_postgresql] if programs() else ())):
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder))
    if programs() is None:
        print("PostgreSQL is not installed: left out")


if __name__ == "__main__":
    main()
