"""Points of a training curve: equally long columns, one entry a step (SPEC J9)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

COLUMNS: Final = ("loss", "lr", "grad_norm")
"""The series kept for each step, in the order they are stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Columns of equal length. `step` rises strictly; values may be NaN."""

    step: tuple[int, ...] = ()
    loss: tuple[float, ...] = ()
    lr: tuple[float, ...] = ()
    grad_norm: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsChange:
    """What a poll does to a job's curve: drop what a resumed run voided, then append."""

    keep_through: int | None = None
    """Points after this step are void (None: all stay)."""
    append: Points = field(default_factory=Points)
