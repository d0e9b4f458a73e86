"""Pages of `GET /jobs` among 10,000 jobs beside the bare query. Run: python tests/bench/bench_lists.py."""

from __future__ import annotations

import dataclasses
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import bench_store
import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))

from simpletuner_lab.core.job import Job, SortKey
from simpletuner_lab.services.database import Database
from tests.lab_kit import quick_home
from tests.server.server_kit import Server

JOBS = 10_000
PAGE = 50
COLUMNS = {
    SortKey.CONFIG_NAME: "lower(name)",
    SortKey.STATUS: "state",
    SortKey.DURATION_SECONDS: "completed_at - started_at",
}


def mixed(make: Callable[[int], Job]) -> Callable[[int], Job]:
    """Jobs that differ in what lists are sorted by; the same ones on every run."""
    dice = random.Random(7)

    def made(number: int) -> Job:
        job = make(number)
        progress = dataclasses.replace(job.progress, loss=dice.random() if number % 10 else None)
        return dataclasses.replace(
            job,
            progress=progress,
            cost_usd=dice.random() * 5 if number % 3 else None,
            started_at=job.created_at - dice.random() * 1000,
            name=f"run {dice.randrange(100_000)} of cats",
        )

    return made


def fill(path: Path) -> None:
    bench_store.JOBS = JOBS
    bench_store.make = mixed(bench_store.make)
    database = Database.open(path)
    bench_store.fill(database)
    database.close()


def pages(http: httpx.Client, bare: sqlite3.Connection) -> None:
    for key in SortKey:
        for sign, direction in (("-", "DESC"), ("", "ASC")):
            for offset in (0, JOBS - PAGE):
                column = COLUMNS.get(key, key.value)
                order = f"{column} {direction} NULLS LAST, created_at DESC, id DESC"
                if key is SortKey.CREATED_AT:
                    order = f"created_at {direction}, id {direction}"
                query = f"SELECT * FROM jobs ORDER BY {order} LIMIT {PAGE} OFFSET {offset}"
                asked = {"sort": sign + key.value, "limit": PAGE, "offset": offset}

                def ours(asked: dict[str, str | int] = asked) -> None:
                    answer = http.get("/jobs", params=asked).json()
                    assert (len(answer["jobs"]), answer["total"]) == (PAGE, JOBS)

                def floor(query: str = query) -> None:
                    assert len(bare.execute(query).fetchall()) == PAGE

                where = "first page" if offset == 0 else "last page"
                bench_store.compare(f"GET /jobs?sort={sign}{key}, {where}", ours, floor)


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        home = quick_home(folder)
        fill(home.database)
        server = Server(folder, home.root).start()
        bare = sqlite3.connect(home.database)
        try:
            with server.http() as http:
                pages(http, bare)
                bench_store.compare("GET /health/live (bare: nothing)", lambda: http.get("/health/live"), lambda: None)
        finally:
            bare.close()
            server.stop()


if __name__ == "__main__":
    main()
