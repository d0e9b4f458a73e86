"""Ctrl-C that is never lost: one that comes while a library tidies up is swallowed there."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def pauses() -> Iterator[Callable[[float], None]]:
    """Gives a `sleep` for a loop that looks again and again.

    An interrupt is an exception between any two instructions of the main thread. Python drops what is raised in a finalizer
    or a weak reference's callback (a connection that goes back to its pool), and the loop would go on: `sleep` raises it
    then. Where the handler of Ctrl-C is none of Python's, or in another thread, it is `time.sleep`.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield time.sleep
        return
    came = threading.Event()

    def notice(number: int, frame: FrameType | None) -> None:
        came.set()
        before(number, frame)

    def sleep(seconds: float) -> None:
        if came.is_set():
            raise KeyboardInterrupt
        time.sleep(seconds)

    signal.signal(signal.SIGINT, notice)
    try:
        yield sleep
    finally:
        signal.signal(signal.SIGINT, before)
