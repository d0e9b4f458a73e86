"""Public test kit: the provider contract, and what tests of a provider need."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["eventually"]

T = TypeVar("T")

_BETWEEN_LOOKS_S: Final = 0.02


def eventually(look: Callable[[], T], until: Callable[[T], object] = bool, *, patience_s: float = 15.0) -> T:
    """What `look` returns, as soon as `until` holds for it.

    Raises:
        AssertionError: it does not come to hold within `patience_s`; the message has the last value.
    """
    give_up_at = time.monotonic() + patience_s
    while not until(value := look()):
        if time.monotonic() > give_up_at:
            raise AssertionError(f"not so after {patience_s:g} s; the last value was {value!r}")
        time.sleep(_BETWEEN_LOOKS_S)
    return value
