"""When to end early: a signal, the lifeline's end-of-file, a spot notice, or the deadline. Asked at every step boundary."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from functools import partial
from typing import Final

from simpletuner_trainer import spot
from simpletuner_trainer.errors import Stopped
from simpletuner_trainer.report import Exit

LIFELINE_ENV: Final = "SIMPLETUNER_LIFELINE"
_MOST_RESERVE_S: Final = 60.0
_RESERVE_SHARE: Final = 0.1


class Stop:
    """One flag with a reason. The deadline leaves a reserve (a tenth of it, at most a minute) for the last checkpoint."""

    def __init__(self, *, started_s: float, deadline_s: float | None) -> None:
        self._interrupted = threading.Event()
        self._why = Exit.INTERRUPTED
        self._due_s: float | None = None
        if deadline_s is not None:
            self._due_s = started_s + deadline_s - min(_MOST_RESERVE_S, _RESERVE_SHARE * deadline_s)

    @property
    def reason(self) -> Exit | None:
        """Why to end now, or None to go on."""
        if self._interrupted.is_set():
            return self._why
        if self._due_s is not None and time.monotonic() >= self._due_s:
            return Exit.DEADLINE
        return None

    def check(self) -> None:
        """Raise `Stopped` when it is time to end."""
        if (reason := self.reason) is not None:
            raise Stopped(reason)

    def interrupt(self, why: Exit = Exit.INTERRUPTED) -> None:
        """End at the next step boundary. The first reason counts."""
        if not self._interrupted.is_set():
            self._why = why
        self._interrupted.set()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond an interrupt."""
        self._interrupted.wait(seconds)

    def listen(self) -> None:
        """Take SIGTERM and SIGINT (a second SIGINT ends at once) and, where the environment asks for it, the lifeline."""
        signal.signal(signal.SIGTERM, lambda _signal, _frame: self.interrupt())
        signal.signal(signal.SIGINT, self._on_keyboard)
        if os.environ.get(LIFELINE_ENV) == "stdin":
            threading.Thread(target=self._watch_lifeline, name="lifeline", daemon=True).start()

    def watch_for_spot_notice(self) -> None:
        """Where the environment asks for it. `BadSpec` where it asks for what is not there."""
        spot.watch(os.environ, partial(self.interrupt, Exit.PREEMPTED))

    def _on_keyboard(self, _signal: int, _frame: object) -> None:
        self.interrupt()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _watch_lifeline(self) -> None:
        stdin = 0
        with contextlib.suppress(OSError):
            while os.read(stdin, 4096):
                pass
        self.interrupt()
