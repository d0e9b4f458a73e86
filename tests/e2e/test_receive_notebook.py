"""Notebook 02 from top to bottom in a real kernel: a real training, and its model home, on the Hub and in a bucket."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks/02_receive_models.ipynb"


@pytest.mark.timeout(600)
def test_three_ways(tmp_path: Path) -> None:
    shutil.copy(NOTEBOOK, tmp_path)
    book = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = {cell["id"]: text_of(cell) for cell in book.cells if cell.cell_type == "code"}
    assert "completed" in said["training"]
    assert "every checksum" in said["download"] or "files in received" in said["download"]
    assert "as verified on arrival" in said["own-bucket"]
    assert re.search(r"http://127\.0\.0\.1:\d+/ann/neon", said["to-hub"])
    assert "pytorch_lora_weights.safetensors" in said["from-hub"]
    assert re.search(r"loras/\S+/manifest\.json", said["from-bucket"])
    assert (tmp_path / "received" / "pytorch_lora_weights.safetensors").stat().st_size > 0
    whole = nbformat.writes(book)
    assert not re.search(r"hf_[A-Za-z0-9_-]{20}|aws_secret_access_key=['\"]", whole)


def text_of(cell: nbformat.NotebookNode) -> str:
    """What a cell printed, and what it gave."""
    parts = [out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in cell.outputs]
    return "\n".join(parts)
