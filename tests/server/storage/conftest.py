from __future__ import annotations

import time

import pytest

from simpletuner_lab.testing.storage_server import storage_server


class Clock:
    """The time of day, movable."""

    shift_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.shift_s


@pytest.fixture(scope="module")
def clock():
    return Clock()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, clock):
    """One server for a module of tests that use keys of their own."""
    with storage_server(tmp_path_factory.mktemp("store"), base_url="/user/ann/", clock=clock) as server:
        yield server


@pytest.fixture
def server(tmp_path):
    with storage_server(tmp_path) as running:
        yield running
