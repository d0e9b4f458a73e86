"""`make demo` as a newcomer runs it: a real LoRA, measured on captions that it never saw."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

DEMO = Path(__file__).resolve().parents[2] / "scripts/demo.py"


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMO), "--folder", str(folder), *options],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=1500,
    )


def test_without_a_yes_nothing_is_trained(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 3, done.stderr
    assert "Nothing was sent" in done.stdout
    assert list((tmp_path / "home/.simpletuner/cloud_outputs/outputs").iterdir()) == []


@pytest.mark.slow
def test_the_style_takes_on_captions_it_never_saw(tmp_path: Path) -> None:
    done = run(tmp_path, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    colour = measured(done.stdout, "mean-colour")
    edges = measured(done.stdout, "edge-strength")
    assert colour[1] < 15 < colour[0]
    assert edges[1] < 0.8 * edges[0]
    assert "every checksum verified" in done.stdout
    with Image.open(tmp_path / "before_after.png") as picture:
        assert picture.width > 4 * picture.height


def measured(said: str, name: str) -> tuple[float, float]:
    """Base and LoRA, as the demo prints them."""
    found = re.search(rf"{name} distance to the target: base ([\d.]+), with LoRA ([\d.]+)", said)
    assert found, said
    return float(found[1]), float(found[2])
