"""Notebook 04 from top to bottom in a real kernel: a training at an emulated Replicate, and what became of all of it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks/04_replicate.ipynb"


@pytest.mark.timeout(300)
def test_a_training_at_replicate_without_an_account(tmp_path: Path) -> None:
    shutil.copy(NOTEBOOK, tmp_path)
    book = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    assert all(not cell.get("outputs") for cell in book.cells)
    NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = {cell["id"]: text_of(cell) for cell in book.cells if cell.cell_type == "code"}
    assert said["settings"] == "account: ann\n"
    assert re.search(r"neon: Send 192 files .* to 127\.0\.0\.1:\d+\n", said["plan"])
    assert "travels along storage grant" in said["plan"]
    assert "stays there" in said["plan"]
    assert said["consent"].startswith("not sent: ")
    assert "waits for a machine" in said["waiting"]
    losses = [float(loss) for loss in re.findall(r"step +[1-9]\d*  loss ([\d.]+)", said["loss"])]
    assert len(losses) >= 3
    assert losses[-1] < losses[0]
    assert said["cancel"].startswith("cancelled at $0")
    assert "every checksum verified" in said["outputs"]
    assert "a rehearsal" in said["card"]
    webhooks = re.fullmatch(r"(\d+) webhooks were taken; the forged one: (\d+)\n", said["webhooks"])
    assert webhooks
    assert (int(webhooks[1]) > 5, webhooks[2]) == (True, "403")
    booked, charged = re.findall(r"\$([\d.]+)", said["costs"])
    assert booked == charged != "0.0000"
    assert re.search(r"discarded +\{'data_left': False\}", said["deleted"])
    assert said["deleted"].endswith("files at Replicate: 0\n")
    assert not re.search(r"r8_[0-9a-f]{36}", nbformat.writes(book))


def text_of(cell: nbformat.NotebookNode) -> str:
    """What a cell printed, and what it gave."""
    parts = [out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in cell.outputs]
    return "\n".join(parts)
