"""A file system that is soon full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def mounted(place: Path, size: str, *options: str) -> Iterator[Path]:
    """A file system of `size` (`24m`) at a new folder, until the block ends."""
    place.mkdir(parents=True)
    told = ",".join([f"size={size}", *options])
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", told, "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        if os.environ.get("CI_REQUIRE_ALL"):
            pytest.fail(f"no small file system: {made.stderr.decode()}")
        pytest.skip("no leave to mount a small file system here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(path: Path) -> None:
    """A file as large as there is room."""
    with path.open("wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), b"\0" * 65536)
