"""A snapshot's commit beside `git commit` of the same files. Run: python tests/bench/bench_snapshots.py."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from simpletuner_lab.core.snapshot import Snapshot, commit_text, files_of, new_snapshot
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.snapshot_repository import SnapshotRepository
from tests.lab_kit import dataset, quick_home, request

ROUNDS = 41


def time_ms(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def by_git(folder: Path, files: dict[str, bytes], text: str) -> None:
    """What a person would do: write the files, add, commit."""
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", text)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = dataset(folder / "images")
        repository, peer = SnapshotRepository(folder / "snapshots"), folder / "peer"
        peer.mkdir()
        git(peer, "init", "-q", "-b", "main")
        ours, theirs = [], []
        with Lab.open(quick_home(folder).root) as lab:
            for number in range(ROUNDS):
                asked = request(images, learning_rate=1e-3 / (number + 1))
                plan = lab.plan(asked)
                snapshot: Snapshot = new_snapshot(asked, plan, f"job-{number}", now=1_700_000_000.0 + number)
                text, files = commit_text(snapshot, plan), files_of(plan)
                ours.append(time_ms(lambda: repository.write(snapshot, files, text)))  # noqa: B023 - called at once
                named = {f"{snapshot.folder}/{name}": data for name, data in files.items()}
                theirs.append(time_ms(lambda: by_git(peer, named, text)))  # noqa: B023 - called at once
        packed = statistics.median(ours[1:]), statistics.median(theirs[1:])
        print(f"snapshot {packed[0]:6.1f} ms (first {ours[0]:.1f}), git add and commit {packed[1]:6.1f} ms: ", end="")
        print(f"{packed[0] / packed[1]:.2f} x")


if __name__ == "__main__":
    main()
