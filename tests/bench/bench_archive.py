"""Packing beside `zip -0 -r` and a bare read with SHA-256 of every file. Prints ratios, asserts nothing.

python tests/bench/bench_archive.py [MEGABYTES] [ROUNDS]
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from simpletuner_lab.core.manifest import Manifest
from simpletuner_lab.services.archive import pack
from simpletuner_lab.services.scan import scan
from simpletuner_trainer.spec import DatasetConfig
from tests.services.dataset_kit import Remembered, image_bytes, later_ns


def make_set(root: Path, megabytes: int) -> None:
    """JPEGs of 200 kB on average (noise behind a real picture), each with a caption."""
    rng, picture, left, index = random.Random(7), image_bytes(kind="JPEG", size=64), megabytes << 20, 0
    root.mkdir()
    while left > 0:
        size = rng.randrange(50_000, 350_000)
        (root / f"{index:05}.jpg").write_bytes(picture + rng.randbytes(size))
        (root / f"{index:05}.txt").write_text("a photograph of something, taken somewhere, in soft light")
        left, index = left - size, index + 1


def floor(root: Path) -> None:
    for path in sorted(root.iterdir()):
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256").hexdigest()


def zip_it(root: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    if program := shutil.which("zip"):
        subprocess.run([program, "-0", "-q", "-r", target, "."], cwd=root, check=True)
    else:
        with zipfile.ZipFile(target, "w") as archive:
            for path in sorted(root.iterdir()):
                archive.write(path, path.name)


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def scan_it(root: Path, cache: Remembered) -> Manifest:
    return scan([DatasetConfig(id="set", instance_data_dir=str(root))], hashes=cache, now_ns=later_ns)


def main(megabytes: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root, cache = Path(scratch, "set"), Remembered()
        make_set(root, megabytes)
        manifest = scan_it(root, cache)
        cases = {
            "pack": lambda: pack(manifest, Path(scratch, "ours.zip")),
            "zip -0 -r" if shutil.which("zip") else "zipfile loop": lambda: zip_it(root, Path(scratch, "theirs.zip")),
            "read + sha256": lambda: floor(root),
            "scan, first": lambda: scan_it(root, Remembered()),
            "scan, again": lambda: scan_it(root, cache),
        }
        times: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, case in cases.items():
                os.sync()
                times[name].append(seconds(case))
        size = manifest.bytes / (1 << 20)
        print(f"{len(manifest.files)} files, {size:.0f} MiB, {rounds} interleaved rounds, {os.cpu_count()} cores")
        for name, taken in times.items():
            ratios = [ours / other for ours, other in zip(times["pack"], taken, strict=True)]
            middle = statistics.median(taken)
            print(
                f"{name:15} {middle:7.3f} s  {size / middle:7.0f} MiB/s   "
                f"pack takes {statistics.median(ratios):5.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main(*(int(argument) for argument in (sys.argv[1:] or ("200", "7"))))
