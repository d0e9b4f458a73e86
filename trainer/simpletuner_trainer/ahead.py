"""Work done ahead of its time: the next members of a sequence are made in a thread while the present one is used."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

T = TypeVar("T")

_DEPTH: Final = 2


class Ahead(Generic[T]):
    """Members of the sequence ``make(0), make(1), ...``, each a pure function of its number.

    One thread makes at most `depth` of them ahead. What `make` raises is raised where that member is taken. As a context
    manager it leaves no thread behind.
    """

    def __init__(
        self, make: Callable[[int], T], *, end: int, stride: int = 1, depth: int = _DEPTH,
        begin: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """Numbers below `end` are made; the next to be taken is `stride` further each time. The thread starts with `begin`."""
        self._make, self._end, self._stride, self._depth = make, end, stride, depth
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead", initializer=begin)
        self._pending: dict[int, Future[T]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def take(self, number: int) -> T:
        """Member `number`, once it is made; the thread goes on with the next. Out of turn it is made here."""
        wanted = self._pending.pop(number, None)
        following = [number + self._stride * further for further in range(1, self._depth + 1)]
        for other in self._pending.keys() - set(following):
            self._pending.pop(other).cancel()
        for other in following:
            if other < self._end and other not in self._pending:
                self._pending[other] = self._pool.submit(self._make, other)
        return self._make(number) if wanted is None else wanted.result()

    def close(self) -> None:
        """Wait for what is being made, and drop the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()
