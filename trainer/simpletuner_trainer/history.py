"""`metrics.jsonl`: one line a step, and nothing in it that differs between two runs of the same spec (no clock)."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from simpletuner_trainer.files import writing

if TYPE_CHECKING:
    from simpletuner_trainer.reporter import Point


class History:
    """The metrics file while a run goes on. Every line is handed to the system at once, so that it survives a kill."""

    def __init__(self, path: Path, *, resumed_from: Path | None) -> None:
        """Start empty, or with exactly the lines that the checkpoint has: later ones, of steps to be redone, go."""
        self._path = path
        if resumed_from is None:
            path.write_bytes(b"")
        else:
            shutil.copyfile(resumed_from, path)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def add(self, point: Point) -> None:
        """Append one step; a value that is not finite is null."""
        line = {
            "step": point.step,
            "epoch": round(point.epoch, 6),
            "loss": _finite(point.loss),
            "lr": point.lr,
            "grad_norm": _finite(point.grad_norm),
        }
        with writing(self._path.name, point.step):
            self._file.write(json.dumps(line) + "\n")

    def copy_to(self, path: Path) -> None:
        """What there is so far."""
        self._file.flush()
        shutil.copyfile(self._path, path)

    def close(self) -> None:
        """No more steps."""
        self._file.close()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
