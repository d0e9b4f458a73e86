"""Ctrl-C while a command looks at a job."""

from __future__ import annotations

import signal
import threading
import time
import weakref

import pytest

from simpletuner_lab.commands.interrupts import pauses


class Thing:
    """Tidied up by a callback, as a connection is that goes back to its pool."""


def interrupted_while_tidying_up() -> None:
    thing = Thing()
    kept = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert kept() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_a_library_swallowed_ends_the_next_pause() -> None:
    interrupted_while_tidying_up()  # nothing is raised: this is what is lost
    before = signal.getsignal(signal.SIGINT)
    with pauses() as sleep:
        sleep(0.0)
        interrupted_while_tidying_up()
        with pytest.raises(KeyboardInterrupt):
            sleep(60.0)
    assert signal.getsignal(signal.SIGINT) is before


def test_one_that_comes_in_a_pause_ends_it() -> None:
    with pauses() as sleep, pytest.raises(KeyboardInterrupt):
        threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
        sleep(60.0)


def test_in_another_thread_and_where_it_is_ignored_it_is_a_sleep() -> None:
    seen: list[object] = []

    def look() -> None:
        with pauses() as sleep:
            seen.append(sleep)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        look()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [time.sleep, time.sleep]
