"""A process that writes snapshots: `snapshot_worker.py FOLDER FIRST COUNT`. It starts when a line comes in."""

from __future__ import annotations

import sys
from pathlib import Path

from simpletuner_lab.core.snapshot import Snapshot
from simpletuner_lab.services.snapshot_repository import SnapshotRepository


def snapshot_of(number: int) -> Snapshot:
    return Snapshot(
        job_id=f"job-{number}", name=f"n{number}", message="m", auto_generated=True, folder=f"c{number % 3}", created_at=1.7e9
    )  # fmt: skip


def write(repository: SnapshotRepository, number: int) -> str:
    files = {"config.json": f'{{"number": {number}}}\n'.encode(), "plan.json": b"{}\n"}
    return repository.write(snapshot_of(number), files, f"m\n\nSnapshot: n{number}\nJob-Id: job-{number}\n")


def main(folder: str, first: str, count: str) -> None:
    repository = SnapshotRepository(Path(folder))
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(first), int(first) + int(count)):
        print(number, write(repository, number), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
