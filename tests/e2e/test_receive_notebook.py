"""Notebook 02 from top to bottom in a real kernel: a real training, and its model home, on the Hub and in a bucket."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from tests.e2e.notebook_kit import executed, said_by


@pytest.mark.timeout(600)
def test_three_ways(tmp_path: Path) -> None:
    book = executed("02_receive_models.ipynb", tmp_path)
    said = said_by(book)
    assert "completed" in said["training"]
    assert "every checksum" in said["download"] or "files in received" in said["download"]
    assert "as verified on arrival" in said["own-bucket"]
    assert re.search(r"http://127\.0\.0\.1:\d+/ann/neon", said["to-hub"])
    assert "pytorch_lora_weights.safetensors" in said["from-hub"]
    assert re.search(r"loras/\S+/manifest\.json", said["from-bucket"])
    assert (tmp_path / "received" / "pytorch_lora_weights.safetensors").stat().st_size > 0
    whole = nbformat.writes(book)
    assert not re.search(r"hf_[A-Za-z0-9_-]{20}|aws_secret_access_key=['\"]", whole)
