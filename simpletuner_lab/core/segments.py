"""Runs with a time limit: when a run ends itself, and into how many a job is cut (SPEC M4, X1)."""

from __future__ import annotations

import math
from typing import Final

from simpletuner_lab.core.cost import Estimate
from simpletuner_lab.core.provider import Target

_MARGIN: Final = 0.1
_MOST_S: Final = 300.0
"""Of a run's limit, so much is kept for its start and for its last checkpoint to be delivered."""


def deadline_of(limit_s: float | None) -> float | None:
    """Seconds after which a run is to end itself, with a checkpoint; None where it may take as long as it wants."""
    return None if limit_s is None else limit_s - min(limit_s * _MARGIN, _MOST_S)


WITH_CHECKPOINT: Final = "it is ended before that, with a checkpoint"


def ending_of(target: Target) -> str:
    """How a run ends whose money a limit bounds, in words."""
    if not target.deadline:
        return "it is cancelled when it is seen to have passed that, without a checkpoint"
    return WITH_CHECKPOINT if target.resume else "it is ended before that"


def runs_of(seconds: float, limit_s: float) -> int:
    """Into how many runs a job of so many seconds is cut."""
    return max(1, math.ceil(seconds / (deadline_of(limit_s) or limit_s)))


def fits(estimate: Estimate, limit_s: float | None) -> bool | None:
    """Whether a job ends within one run: False if even the quickest guess is too long, None if that is not known."""
    if limit_s is None:
        return True
    if estimate.seconds_low is None or estimate.seconds_high is None:
        return None
    if estimate.seconds_low > limit_s:
        return False
    return True if estimate.seconds_high <= (deadline_of(limit_s) or limit_s) else None


def minutes(seconds: float) -> str:
    """A limit in words."""
    whole = seconds / 60
    return f"{whole:.0f} minutes" if whole >= 2 else f"{seconds:.0f} seconds"
