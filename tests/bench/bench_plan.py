"""A plan of many files, cold and warm, beside a bare walk and a bare SHA-256 of the same bytes. Prints ratios, asserts nothing.

python tests/bench/bench_plan.py [FILES] [BYTES EACH]
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from simpletuner_lab.core.manifest import Manifest
from simpletuner_lab.services.codec import encode
from simpletuner_lab.services.scan import scan
from simpletuner_lab.services.store import Store
from simpletuner_trainer.spec import DatasetConfig
from tests.services.dataset_kit import image_bytes, later_ns


def make_set(root: Path, files: int, size: int) -> None:
    """Half JPEGs, half captions, a thousand files a folder."""
    rng, picture = random.Random(7), image_bytes(kind="JPEG", size=16)
    for index in range(files // 2):
        folder = root / f"{index // 500:04}"
        if index % 500 == 0:
            folder.mkdir(parents=True)
        (folder / f"{index:06}.jpg").write_bytes(picture + rng.randbytes(max(0, size - len(picture))))
        (folder / f"{index:06}.txt").write_text(f"picture {index} of something, taken somewhere, in soft light")


def walk(root: str) -> list[tuple[str, int]]:
    """Names and sizes, by nothing but scandir and stat."""
    found, folders = [], [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    found.append((entry.path, entry.stat(follow_symlinks=False).st_size))
    return found


def digests(root: str) -> None:
    """SHA-256 of every file, one after the other."""
    for path, _ in walk(root):
        with open(path, "rb") as file:
            hashlib.file_digest(file, "sha256").hexdigest()


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main(files: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "set")
        make_set(root, files, size)
        found: list[Manifest] = []
        with contextlib.closing(Store.open(Path(scratch, "lab.db"))) as store:

            def plan(*, strip: bool = False) -> None:
                config = [DatasetConfig(id="set", instance_data_dir=str(root))]
                found[:] = [scan(config, hashes=store.hashes, now_ns=later_ns, strip_exif=strip)]

            walked, hashed = seconds(lambda: walk(str(root))), seconds(lambda: digests(str(root)))
            cold, warm = seconds(plan), min(seconds(plan) for _ in range(3))
            stripped, again = (
                seconds(lambda: plan(strip=True)),
                min(seconds(lambda: plan(strip=True)) for _ in range(3)),
            )
            text = json.dumps(encode(found[0]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{len(found[0].files)} files, {found[0].bytes >> 20} MiB, {os.cpu_count()} cores, peak {peak:.0f} MiB")
        print(f"bare walk and stat {walked:7.2f} s     bare sha256 {hashed:7.2f} s")
        for name, took in (("cold", cold), ("warm", warm), ("strip_exif, cold", stripped), ("strip_exif, warm", again)):
            print(f"plan, {name:17} {took:7.2f} s   {took / walked:6.1f} x the walk   {took / hashed:5.2f} x sha256")
        print(f"as JSON {len(text):,} bytes")


if __name__ == "__main__":
    main(*(int(argument) for argument in (sys.argv[1:] or ("100000", "4096"))))
