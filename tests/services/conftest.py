"""Fixtures of the lab's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.services.lab import Lab
from tests.lab_kit import dataset, quick_home


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return dataset(tmp_path / "images")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab.open(quick_home(tmp_path).root) as opened:
        yield opened


@pytest.fixture
def watched(lab: Lab) -> Lab:
    lab.watcher.start()
    return lab
