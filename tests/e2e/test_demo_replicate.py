"""`make demo-replicate` as a newcomer runs it: a real training in a real Cog server, and both books the same at the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

DEMO = Path(__file__).resolve().parents[2] / "scripts/demo_replicate.py"

STEPS = (
    "both servers",
    "settings, token",
    "plan",
    "upload",
    "train in Cog",
    "webhooks",
    "cancel another job",
    "bring home (SigV4)",
    "delete the data there",
    "costs",
    "load in diffusers",
)

pytestmark = pytest.mark.slow


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The script, with temporary files in the folder too; none of them is left, nor any process."""
    scratch = folder / "tmp"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, str(DEMO), "--folder", str(folder / "demo"), *options],
        env=os.environ | {"TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=1500,
    )
    assert [name for name in os.listdir(scratch) if name.startswith("replicate-emulator")] == []
    assert started_below(scratch) == []
    return done


def started_below(scratch: Path) -> list[list[str]]:
    """Command lines of what runs with temporary files in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR", "").startswith(str(scratch)):
                found.append(process.cmdline())
        except psutil.Error:
            continue  # it has ended, or is not ours to look at
    return found


def test_without_a_yes_nothing_is_sent(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 3, done.stderr
    assert "Nothing was sent. To agree: make demo-replicate YES=1" in done.stdout
    assert not list((tmp_path / "demo/home/cloud_outputs/outputs").glob("*"))


def test_the_whole_way(tmp_path: Path) -> None:
    done = run(tmp_path, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    told = {
        name: found[1]
        for name in STEPS
        if (found := re.search(rf"^  {re.escape(name)}  .*?  (\D?\S.*)$", done.stdout, re.MULTILINE))
    }
    assert tuple(told) == STEPS
    first, last = map(float, re.search(r"loss ([\d.]+) to ([\d.]+)", told["train in Cog"]).groups())
    assert last < first
    assert int(re.search(r"(\d+) nudges", told["webhooks"])[1]) > 1
    assert (
        re.search(r"2 deleted, 0 left", told["delete the data there"]) or "1 deleted" in told["delete the data there"]
    )
    assert "every checksum verified" in told["bring home (SigV4)"]
