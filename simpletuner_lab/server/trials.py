"""Waits for a webhook that a provider was made to send, on the event loop, holding no thread."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from simpletuner_lab.core.errors import Conflict


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What came: from where, and why it was refused; an empty problem is a webhook that was verified."""

    caller: str
    problem: str = ""


class Trials:
    """One at a time: to make a provider send something may cost money."""

    def __init__(self) -> None:
        self._nonce = ""
        self._arrived: asyncio.Future[Arrival] | None = None

    @contextlib.contextmanager
    def begun(self) -> Iterator[str]:
        """The nonce by which the webhook is known, until the block ends.

        Raises:
            Conflict: another is under way.
        """
        if self._nonce:
            raise Conflict("a webhook is being waited for already", hint="wait for the end of that test")
        self._nonce, self._arrived = secrets.token_urlsafe(24), asyncio.get_running_loop().create_future()
        try:
            yield self._nonce
        finally:
            self._nonce, self._arrived = "", None

    async def arrival(self, patience_s: float) -> Arrival | None:
        """What has come, or comes in time. Within the block."""
        assert self._arrived is not None
        done, _ = await asyncio.wait({self._arrived}, timeout=patience_s)
        return self._arrived.result() if done else None

    def tell(self, nonce: str, arrival: Arrival) -> None:
        """Of a webhook with this nonce; the first word counts, and one with another nonce is no business of ours."""
        waits = self._arrived is not None and not self._arrived.done()
        if waits and self._nonce and secrets.compare_digest(nonce.encode(), self._nonce.encode()):
            assert self._arrived is not None
            self._arrived.set_result(arrival)
