"""Prints the run: ordinary lines for people, report lines (`simpletuner_trainer.report`) for the lab."""

from __future__ import annotations

import contextlib
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TextIO

from simpletuner_trainer.errors import Stopped, TrainerError
from simpletuner_trainer.report import End, Exit, Failure, Report, Stage, StageName, Steps, format_line

_INTERVAL_S: Final = 1.0
_MOST_POINTS: Final = 1000
"""Of one line, so that it stays far below `report.MAX_LINE_BYTES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What one optimiser step came to."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    epoch: float
    images: int


class Reporter:
    """Writes whole lines and flushes each; safe from several threads.

    As a context manager it says how the run ended: the last `error` line for a fault, then `end`.
    """

    def __init__(self, nonce: str, out: TextIO) -> None:
        self._nonce, self._out = nonce, out
        self._lock = threading.Lock()
        self._stage: Stage | None = None
        self._stage_said_s = 0.0
        self._labels: set[str] = set()
        self.exit = Exit.DONE
        self.step = 0
        """The last step that is done."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, TrainerError):
            self.exit = error.exit
            if not isinstance(error, Stopped):
                self.text(f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else ""))
                self.report(Failure(code=error.code, message=error.message, hint=error.hint, step=error.step))
        elif error is not None:
            self.exit = Exit.CRASHED
            name = kind.__name__ if kind else "fault"
            hint = "a fault of the trainer: the traceback is at the end of the log"
            self.report(Failure(code="crashed", message=f"{name}: {error}"[:2000], hint=hint, step=self.step))
        self.report(End(exit=self.exit, step=self.step))
        return isinstance(error, TrainerError)

    def text(self, line: str) -> None:
        """An ordinary line of the log."""
        self._write(line)

    def report(self, report: Report) -> None:
        """A report line, at once."""
        self._write(format_line(report, nonce=self._nonce))

    def stage(self, stage: StageName, label: str, done: int = 0, total: int = 0) -> None:
        """A new stage at once; progress within one at most once a second, and its last item. A label is printed once."""
        now = time.monotonic()
        new = self._stage is None or self._stage.stage is not stage or self._stage.label != label
        if new or (total and (now - self._stage_said_s >= _INTERVAL_S or done == total)):
            self._stage = Stage(stage=stage, label=label, done=done, total=total)
            self._stage_said_s = now
            self.report(self._stage)
            if label not in self._labels:
                self._labels.add(label)
                self.text(label)

    def _write(self, text: str) -> None:
        # A reader that is gone or a full disk under the log must not end a training run.
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._out.write(text + "\n")
            self._out.flush()


class Follower(Reporter):
    """Of a process that does not lead its run: the leader speaks for all of them, only a fault is worth a line here."""

    def __init__(self, out: TextIO) -> None:
        super().__init__("", out)

    def text(self, line: str) -> None:
        """Not said."""

    def report(self, report: Report) -> None:
        """A fault as an ordinary line; nothing else."""
        if isinstance(report, Failure):
            self._write(f"error: {report.message}")


class Progress:
    """Gathers steps and says them once a second: the first at once, the rest when something slow or the end comes."""

    def __init__(self, reporter: Reporter, *, total: int, memory_mb: Callable[[], float]) -> None:
        self._reporter, self._total, self._memory_mb = reporter, total, memory_mb
        self._points: list[Point] = []
        self._since_s = time.monotonic()
        self._first = True

    def begin(self) -> None:
        """Time from here on is spent on steps (not on validation or saving)."""
        self._since_s = time.monotonic()

    def add(self, point: Point) -> None:
        """One more step is done."""
        self._points.append(point)
        self._reporter.step = point.step
        due = time.monotonic() - self._since_s >= _INTERVAL_S
        if self._first or due or len(self._points) >= _MOST_POINTS:
            self._first = False
            self.flush()

    def flush(self) -> None:
        """Say what has not been said."""
        if not self._points:
            return
        now = time.monotonic()
        points, self._points = self._points, []
        elapsed_s, self._since_s = max(now - self._since_s, 1e-9), now
        step_s = elapsed_s / len(points)
        last = points[-1]
        steps = Steps(
            step=tuple(point.step for point in points),
            loss=tuple(point.loss for point in points),
            lr=tuple(point.lr for point in points),
            grad_norm=tuple(point.grad_norm for point in points),
            total=self._total,
            epoch=round(last.epoch, 4),
            step_s=round(step_s, 6),
            images_per_s=round(sum(point.images for point in points) / elapsed_s, 3),
            eta_s=round(step_s * (self._total - last.step), 3),
            memory_mb=round(self._memory_mb(), 1),
        )
        self._reporter.report(steps)
        self._reporter.text(
            f"step {last.step}/{self._total}  loss {last.loss:.4f}  lr {last.lr:.3g}  {step_s:.3f} s/step"
            f"  eta {steps.eta_s:.0f} s"
        )


def resident_mb() -> float:
    """Peak resident set of this process in MB (Linux counts in kB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
