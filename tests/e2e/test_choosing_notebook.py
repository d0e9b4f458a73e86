"""Notebook 03 from top to bottom in a real kernel: what choices cost, and two of them trained beside each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.notebook_kit import executed, said_by


@pytest.mark.slow  # three processes that import torch; what it shows is tested piece by piece in tests/trainer
@pytest.mark.timeout(600)
def test_choices_are_explained_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMPLETUNER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))  # no server of this user is found there
    book = executed("03_choose_what_to_train.ipynb", tmp_path)
    said = said_by(book)
    assert re.search(r"learning_rate +given +0\.002\n", said["explain"])
    assert re.search(r"made for +64 px", said["explain"])
    sizes = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) +[\d.]+ MB +[\d.]+ MB", said["sizes"])]
    assert len(sizes) == 4
    assert sizes == sorted(sizes)
    assert re.search(r"larger +128 x 128 +24 +65,536", said["buckets"])
    assert re.search(r"ten times an epoch +64 x 64 +240", said["buckets"])
    assert "did you mean 'lora_rank'?" in said["wrong"]
    assert "1 is usual" in said["wrong"]
    assert said["train"].count("completed") == 2
    (figure,) = (cell for cell in book.cells if cell["id"] == "figure")
    drawn = [out["data"]["application/vnd.plotly.v1+json"] for out in figure.outputs if "data" in out]
    assert {trace["name"] for trace in drawn[0]["data"]} == {"attention", "all"}
    bytes_of = [int(found.replace(",", "")) for found in re.findall(r"([\d,]+) bytes", said["files"])]
    assert bytes_of[0] < bytes_of[1]
