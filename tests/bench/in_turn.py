"""Times of calls that are made in turn."""

from __future__ import annotations

import time
from collections.abc import Callable


def taken_ms(*calls: Callable[[], object], rounds: int) -> list[list[float]]:
    """Of each call, so that a busy machine is busy for all of them."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append((time.perf_counter() - start) * 1e3)
    return times
