"""Whatever happens in whatever order, and wherever our server is killed: money, states and data come right.

A failure prints its trace; its seed is in the name of the test.
"""

from __future__ import annotations

import pytest

from tests.e2e.replicate.house_kit import house
from tests.e2e.replicate.walk import Walk

QUICK_SEEDS = range(10)
MANY_SEEDS = range(10, 100)


def walk(nursery, folder, seed: int) -> None:
    with house(nursery, folder, timeout_s=0.4) as lab:
        Walk(lab, seed).run()


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_a_walk(nursery, tmp_path, seed):
    walk(nursery, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY_SEEDS)
def test_a_longer_series_of_walks(nursery, tmp_path, seed):
    walk(nursery, tmp_path, seed)
