"""The emulator's time: it stands still until a test moves it, or runs as fast as is asked for.

Everything that happens by itself (a run that begins, a deadline, a try of a webhook) is an alarm on one time line, so
that half an hour at Replicate is a few milliseconds in a test, and always the same ones.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias


class ManualClock:
    """Time that a test moves.

    Args:
        now_s: when it begins, in Unix seconds.
        tick_s: how far each request moves it: for clients that poll and wait in one thread.
    """

    def __init__(self, now_s: float, *, tick_s: float = 0.0) -> None:
        self.now_s = now_s
        self.tick_s = tick_s

    def now(self) -> float:
        """Unix seconds."""
        return self.now_s


class ScaledClock:
    """Time that runs by itself from now on, `scale` times as fast as a wall clock."""

    def __init__(self, scale: float = 1.0) -> None:
        if scale <= 0:
            raise ValueError("a clock runs forward: its scale is over 0")
        self.scale: Final = scale
        self._began = (time.time(), time.monotonic())

    def now(self) -> float:
        """Unix seconds."""
        return self._began[0] + (time.monotonic() - self._began[1]) * self.scale


Clock: TypeAlias = ManualClock | ScaledClock


@dataclass(slots=True, order=True)
class Alarm:
    """Something that happens at a time, unless it is cancelled first."""

    when: float
    number: int
    action: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """It will not happen."""
        self.cancelled = True


class Timeline:
    """What is to happen, in the order of its time. All of it happens on the server's loop."""

    def __init__(self, clock: Clock) -> None:
        self.clock: Final = clock
        self._alarms: list[Alarm] = []
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._moving = asyncio.Lock()
        self._turn = asyncio.Lock()

    def now(self) -> float:
        """Unix seconds."""
        return self.clock.now()

    def after(self, delay_s: float, action: Callable[[], None]) -> Alarm:
        """Lets something happen in so many seconds; on a manual clock never before it is moved."""
        alarm = Alarm(self.now() + delay_s, next(self._numbers), action)
        heapq.heappush(self._alarms, alarm)
        self._changed.set()
        return alarm

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts work that takes real time, such as a request.

        A manual clock stands still until it is done, and has one such work at a time, in their order; on one that runs
        by itself they overtake each other.
        """
        one_by_one = isinstance(self.clock, ManualClock)
        task = asyncio.get_running_loop().create_task(self._in_turn(work) if one_by_one else work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def advance(self, seconds: float) -> None:
        """Moves a manual clock, and lets all happen that is due on the way.

        Raises:
            ValueError: the clock runs by itself, or is to run backward.
        """
        if seconds < 0:
            raise ValueError("time does not run backward")
        await self._move(seconds, lambda: False)

    async def tick(self) -> None:
        """One request has come."""
        if isinstance(self.clock, ManualClock) and self.clock.tick_s and not self._moving.locked():
            await self._move(self.clock.tick_s, lambda: False)

    async def wait(self, seconds: float, over: asyncio.Event) -> None:
        """Until `over` is set, or so many seconds at most. A manual clock is moved so far."""
        if isinstance(self.clock, ManualClock):
            await self._move(seconds, over.is_set)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), seconds / self.clock.scale)

    async def run(self) -> None:
        """Lets all happen at its time on a clock that runs by itself; does not return."""
        while True:
            self._changed.clear()
            delay_s = None
            if isinstance(self.clock, ScaledClock):
                while self._alarms and self._alarms[0].when <= self.now():
                    self._happen(heapq.heappop(self._alarms))
                if self._alarms:
                    delay_s = max(0.0, self._alarms[0].when - self.now()) / self.clock.scale
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), delay_s)

    async def _move(self, seconds: float, enough: Callable[[], bool]) -> None:
        clock = self.clock
        if not isinstance(clock, ManualClock):
            raise ValueError("this clock runs by itself")  # noqa: TRY004 - of the right type, in the wrong state
        async with self._moving:
            end = clock.now_s + seconds
            await self._settle()
            while not enough() and self._alarms and self._alarms[0].when <= end:
                alarm = heapq.heappop(self._alarms)
                if not alarm.cancelled:
                    clock.now_s = max(clock.now_s, alarm.when)
                    self._happen(alarm)
                    await self._settle()
            if not enough():
                clock.now_s = max(clock.now_s, end)

    async def _in_turn(self, work: Coroutine[Any, Any, None]) -> None:
        async with self._turn:
            await work

    async def _settle(self) -> None:
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    @staticmethod
    def _happen(alarm: Alarm) -> None:
        if not alarm.cancelled:
            alarm.action()
