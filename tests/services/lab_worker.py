"""A process with a lab that watches: `lab_worker.py HOME`. It says who it is, then what it saw when a line names a job."""

from __future__ import annotations

import sys
from pathlib import Path

from simpletuner_lab.services.lab import Lab
from tests.lab_kit import settled


def main(root: str) -> None:
    with Lab.open(Path(root)) as lab:
        lab.watcher.start()
        print(lab.watcher._holder, flush=True)
        settled(lab, lab.store.jobs.get(sys.stdin.readline().strip()))
        print(*(event.seq for event in lab.store.events.after(0)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
