from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.client import LabClient
from tests.lab_kit import dataset, quick_home
from tests.server.outside_kit import Outside, server_with_outside
from tests.server.server_kit import Server


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """A notebook server under `/user/ann/` with a second listener."""
    with server_with_outside(tmp_path_factory.mktemp("outside")) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a module's server and of its images."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """A notebook server under `/user/ann/` whose trainer is quick; its module ends it."""
    running = Server(folder, quick_home(folder).root, "/user/ann/").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(server: Server) -> LabClient:
    """Of that server."""
    return server.client()


@pytest.fixture(scope="module")
def images(folder: Path) -> Path:
    """Three, each with its caption."""
    return dataset(folder / "images")
