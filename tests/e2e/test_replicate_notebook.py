"""Notebook 04 from top to bottom in a real kernel: a training at an emulated Replicate, and what became of all of it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from tests.e2e.notebook_kit import executed, said_by


@pytest.mark.timeout(300)
def test_a_training_at_replicate_without_an_account(tmp_path: Path) -> None:
    book = executed("04_replicate.ipynb", tmp_path)
    said = said_by(book)
    assert said["settings"] == "account: ann\n"
    assert re.search(r"neon: Send 192 files .* to 127\.0\.0\.1:\d+\n", said["plan"])
    assert "travels along storage grant" in said["plan"]
    assert "stays there" in said["plan"]
    assert said["consent"].startswith("not sent: ")
    assert "waits for a machine" in said["waiting"]
    losses = [float(loss) for loss in re.findall(r"step +[1-9]\d*  loss ([\d.]+)", said["loss"])]
    assert losses
    assert losses == sorted(losses, reverse=True)
    assert said["cancel"].startswith("cancelled at $0")
    assert "every checksum verified" in said["outputs"]
    assert "a rehearsal" in said["card"]
    webhooks = re.fullmatch(r"(\d+) webhooks were taken; the forged one: (\d+)\n", said["webhooks"])
    assert webhooks
    assert (int(webhooks[1]) > 5, webhooks[2]) == (True, "403")
    booked, charged, *another = re.findall(r"\$([\d.]+)", said["costs"])
    assert booked == charged != "0.0000"
    assert len(another) == 2
    assert re.search(r"discarded +\{'data_left': False\}", said["deleted"])
    assert said["deleted"].endswith("files at Replicate: 0\n")
    assert not re.search(r"r8_[0-9a-f]{36}", nbformat.writes(book))
