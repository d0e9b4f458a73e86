"""A kernel without a server, shared by a file's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.services.home import Home
from tests.lab_kit import dataset, quick_home
from tests.widgets.widget_kit import Kernel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("widgets")


@pytest.fixture(scope="module")
def home(folder: Path) -> Home:
    return quick_home(folder)


@pytest.fixture(scope="module")
def images(folder: Path) -> Path:
    return dataset(folder / "jupyter" / "images")


@pytest.fixture(scope="module")
def kernel(folder: Path, home: Home) -> Iterator[Kernel]:
    running = Kernel(folder, home.root)
    yield running
    running.stop()
