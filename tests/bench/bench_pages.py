"""`GET /jobs` over HTTP, a page of 50 from 100,000 jobs, on SQLite and PostgreSQL beside the driver's bare query.

Run: python tests/bench/bench_pages.py. It starts a PostgreSQL server of its own, which writes through to the disk, and
leaves it out where there is none.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import bench_store
import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))

from simpletuner_lab.services.database import Database
from simpletuner_lab.services.home import DATABASE_URL
from tests.bench.in_turn import taken_ms
from tests.lab_kit import quick_home
from tests.postgres_kit import postgres, programs
from tests.server.server_kit import Server
from tests.services.store_kit import target_of

PAGE = 50
ROUNDS = 200
QUERY = "SELECT * FROM jobs ORDER BY created_at DESC, id DESC LIMIT 50 OFFSET {offset}"
MOST_TIMES, MOST_MS = 10, 50


def measure(name: str, server: Server, fetch: Callable[[str], int]) -> None:
    with server.http() as http:
        for where, offset in (("first page", 0), ("50,000 deep", 50_000)):
            query = QUERY.format(offset=offset)
            ours, bare = taken_ms(lambda o=offset: page(http, o), lambda q=query: fetch(q), rounds=ROUNDS)
            middle, floor = statistics.median(ours), statistics.median(bare)
            p95 = statistics.quantiles(ours, n=20)[-1]
            print(
                f"{name:<11} GET /jobs, {where:<12} p50 {middle:7.2f} ms, p95 {p95:7.2f} ms (limit {MOST_MS}); "
                f"bare {floor:6.2f} ms, ratio {middle / floor:5.2f} (limit {MOST_TIMES})"
            )


def page(http: httpx.Client, offset: int) -> None:
    answer = http.get("/jobs", params={"limit": PAGE, "offset": offset}).json()
    assert (len(answer["jobs"]), answer["total"]) == (PAGE, bench_store.JOBS)


def fill(address: Path | str) -> None:
    database = Database.open(target_of(address))
    bench_store.fill(database)
    database.close()


def on_sqlite(folder: Path) -> None:
    home = quick_home(folder)
    fill(home.database)
    server = Server(folder, home.root).start()
    bare = sqlite3.connect(home.database)
    try:
        measure("SQLite", server, lambda query: len(bare.execute(query).fetchall()))
    finally:
        bare.close()
        server.stop()


def on_postgresql(folder: Path) -> None:
    import psycopg

    with postgres(safe=True) as running:
        url = running.tcp_url("postgres")
        fill(url)
        running.order("ANALYZE")
        server = Server(folder, quick_home(folder).root, environment={DATABASE_URL: url}).start()
        try:
            with psycopg.connect(url, autocommit=True) as bare:
                measure("PostgreSQL", server, lambda query: len(bare.execute(query).fetchall()))
        finally:
            server.stop()


def main() -> None:
    for run in (on_sqlite, *([on_postgresql] if programs() else ())):
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder))
    if programs() is None:
        print("PostgreSQL is not installed: left out")


if __name__ == "__main__":
    main()
