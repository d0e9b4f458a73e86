"""Whatever happens in whatever order, and wherever our server is killed: money, states and data come right.

A failure prints the shortest list of steps that was found to lead to it.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.e2e.replicate.life import Life

STEPS = 16
_SETTINGS = settings(
    stateful_step_count=STEPS, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)


def live(nursery, number: int, *, lives: int) -> None:
    run_state_machine_as_test(seed(number)(lambda: Life(nursery)), settings=settings(_SETTINGS, max_examples=lives))


def test_lives_of_a_lab(nursery):
    live(nursery, 0, lives=10)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 10))
def test_many_lives_of_a_lab(nursery, number):
    live(nursery, number, lives=10)
