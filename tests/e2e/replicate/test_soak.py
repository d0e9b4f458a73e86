"""Two hundred kills: nothing is lost, nothing paid for twice, nothing stuck; our ledger is Replicate's (SPEC J7, M2)."""

from __future__ import annotations

import os

import pytest

from tests.e2e.replicate.house_kit import Nursery
from tests.e2e.replicate.soak import soak

KILLS = int(os.environ.get("SOAK_KILLS", "200"))


@pytest.fixture
def wall_nursery(tmp_path_factory):
    made = Nursery(tmp_path_factory.mktemp("nursery"), "wall")
    yield made
    made.close()


@pytest.mark.slow
def test_a_lab_is_killed_over_and_over(wall_nursery, tmp_path):
    with soak(wall_nursery, tmp_path, seed=20) as one:
        one.run(KILLS)
        print(f"killed: {dict(one.killed)}; jobs: {len(one.keys)}, asked for {one.keys.total()} times")
