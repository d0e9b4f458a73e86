"""Notebook 05 from top to bottom in a real kernel: what would leave, what it would cost, who agreed, and where it stops."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from tests.e2e.notebook_kit import NOTEBOOKS, executed, said_by


def test_its_form() -> None:
    book = nbformat.read(NOTEBOOKS / "05_costs_and_consent.ipynb", as_version=4)
    nbformat.validate(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            compile(cell.source, cell.id, "exec")
            assert not cell.outputs


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_costs_and_consent_without_an_account(tmp_path: Path) -> None:
    book = executed("05_costs_and_consent.ipynb", tmp_path)
    said = said_by(book)
    whole, stripped = (int(size) for size in re.findall(r"(\d+) bytes would leave", said["strip"]))
    assert stripped < whole
    assert "4 photos carry the place where they were taken" in said["strip"]
    assert "taken out on the way" in said["plan"]
    assert "estimate" in said["plan"]
    assert said["refused"].startswith("refused: the monthly spend limit of $0.01 ")
    assert "would be passed" in said["refused"]
    assert said["consent"].startswith("not sent: ")
    assert said["position"].startswith("1 | number 1 in the queue: ")
    costs = re.findall(r"(walls|longer): completed, \$([\d.]+)", said["ended"])
    assert [name for name, _ in costs] == ["walls", "longer"]
    assert all(float(cost) > 0 for _, cost in costs)
    assert re.match(r"\$0\.\d+ in 2 runs\nmonthly limit: \$0\.\d+ of \$25\.00", said["spent"])
    assert re.match(r"\$0\.\d+ since ", said["figure"])
    assert "config.max_train_steps 100 → 150" in said["diff"]
    assert said["rerun"] == "the same digest: True\ncancelled\n"
    assert not re.search(r"r8_[0-9a-f]{36}", nbformat.writes(book))
