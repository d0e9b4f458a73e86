"""Who waits for whom: each version has one worker, which is cold at first and again after a while without work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from simpletuner_lab.testing.replicate_emulator.clock import Timeline
from simpletuner_lab.testing.replicate_emulator.records import Conduct, Prediction


@dataclass(slots=True, kw_only=True)
class _Worker:
    waiting: deque[Prediction] = field(default_factory=deque)
    running: Prediction | None = None
    warm_until: float = 0.0


class Workers:
    """All of them.

    Args:
        timeline: on which they boot.
        conduct: how long that takes.
        launch: what a worker that is up does with a prediction.
    """

    def __init__(self, timeline: Timeline, conduct: Conduct, launch: Callable[[Prediction], None]) -> None:
        self._timeline, self._conduct, self._launch = timeline, conduct, launch
        self._of: dict[str, _Worker] = {}

    def queue(self, prediction: Prediction) -> None:
        """It waits for the worker of its version."""
        worker = self._of.setdefault(prediction.version.id, _Worker())
        worker.waiting.append(prediction)
        self._serve(worker)

    def release(self, prediction: Prediction) -> None:
        """It has ended, wherever it was; the next one is served after whatever else is due now, such as its deadline."""
        worker = self._of.setdefault(prediction.version.id, _Worker())
        if prediction in worker.waiting:
            worker.waiting.remove(prediction)
        if worker.running is prediction:
            worker.running = None
            worker.warm_until = self._timeline.now() + self._conduct.idle_s
            self._timeline.after(0, lambda: self._serve(worker))

    def _serve(self, worker: _Worker) -> None:
        if worker.running is not None or not worker.waiting:
            return
        worker.running = prediction = worker.waiting.popleft()
        cold = self._timeline.now() >= worker.warm_until
        if cold and self._conduct.boot_s:
            self._timeline.after(self._conduct.boot_s, lambda: self._booted(worker, prediction))
        else:
            self._launch(prediction)

    def _booted(self, worker: _Worker, prediction: Prediction) -> None:
        if worker.running is prediction:
            self._launch(prediction)
