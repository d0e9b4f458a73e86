"""Who may start and when: limits of concurrency, priorities, and the forecast of a wait (SPEC J10). Decides, does nothing.

A job that was submitted waits until it has a slot; with one it is sent and started, and keeps it until it ends, through
every attempt. Only where a spend limit leaves nothing for its next run does it give its slot back; when there is money
again it goes before those that have not begun. What holds a slot is read off the jobs, so nothing can be left over.
"""

from __future__ import annotations

import enum
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Final

from simpletuner_lab.core.errors import InvalidRequest, Problem

HIGHEST: Final = 50
"""Priorities are 0 to this."""
MAX_TOTAL: Final = 100
MAX_USER: Final = 20
MAX_LOCAL: Final = 10


class Priority(enum.IntEnum):
    """Priorities that have a name; every number from 0 to 50 is one."""

    VIEWER = 0
    RESEARCHER = 10
    LEAD = 20
    ADMIN = 30
    CRITICAL = 40


DEFAULT_PRIORITY: Final = int(Priority.RESEARCHER)


def priority_of(word: str | int) -> int:
    """A priority by its number or its name.

    Raises:
        InvalidRequest: it is neither.
    """
    names = {one.name.lower(): int(one) for one in Priority}
    if isinstance(word, str) and word.strip().lower() in names:
        return names[word.strip().lower()]
    number = int(word) if isinstance(word, int) or (word.isascii() and word.isdigit() and len(word) < 4) else -1
    if isinstance(word, bool) or not 0 <= number <= HIGHEST:
        raise InvalidRequest(f"a priority is 0 to {HIGHEST}, not {word!r}", hint=f"or one of {', '.join(names)}")
    return number


def priority_name(priority: int) -> str:
    """The name that a priority has reached: 15 is a researcher's."""
    return max((one for one in Priority if one <= priority), default=Priority.VIEWER).name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many jobs may hold a slot at once."""

    total: int = field(default=5, metadata={"most": MAX_TOTAL, "called": "max_concurrent"})
    user: int = field(default=2, metadata={"most": MAX_USER, "called": "user_max_concurrent"})
    """Of one user."""
    local: int = field(default=1, metadata={"most": MAX_LOCAL, "called": "local_job_max_concurrent"})
    """Of one provider on this machine, which has its processors and memory once."""
    providers: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Of providers by their id. One elsewhere that is not named has no limit of its own."""

    def __post_init__(self) -> None:
        """Checks each number.

        Raises:
            InvalidRequest: all that are out of bounds, by the names under which they are set.
        """
        own = (one for one in fields(self) if "most" in one.metadata)
        bounds = {one.metadata["called"]: (getattr(self, one.name), one.metadata["most"]) for one in own}
        bounds |= {f"providers.{name}": (number, MAX_TOTAL) for name, number in self.providers.items()}
        found = [
            Problem(path=path, message=f"must be 1 to {most}, not {number}")
            for path, (number, most) in bounds.items()
            if not 1 <= number <= most
        ]
        if found:
            told = "; ".join(f"{problem.path} {problem.message}" for problem in found)
            raise InvalidRequest(told, problems=found)

    def of(self, provider: str, *, remote: bool) -> float:
        """The limit of a provider; infinity where it has none."""
        return self.providers.get(provider, math.inf if remote else self.local)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What counts of a job in the queue. `seconds`: how long it will hold its slot from now or its start on, if known."""

    owner: str
    provider: str
    remote: bool
    seconds: float | None = None


@dataclass(slots=True)
class Held:
    """How many slots are held: in all, by user, by provider."""

    total: int = 0
    users: Counter[str] = field(default_factory=Counter)
    providers: Counter[str] = field(default_factory=Counter)
    remote: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def by(cls, turns: Iterable[Turn]) -> Held:
        """The slots of these jobs."""
        held = cls()
        for turn in turns:
            held.take(turn)
        return held

    def take(self, turn: Turn, count: int = 1) -> None:
        """Slots that a job takes, or gives back with -1."""
        self.total += count
        self.users[turn.owner] += count
        self.providers[turn.provider] += count
        self.remote[turn.provider] = turn.remote

    def full_users(self, limits: Limits) -> frozenset[str]:
        """Users with no slot left."""
        return frozenset(user for user, held in self.users.items() if held >= limits.user)

    def full_providers(self, limits: Limits) -> frozenset[str]:
        """Providers with no slot left."""
        return frozenset(
            name for name, held in self.providers.items() if held >= limits.of(name, remote=self.remote[name])
        )

    def bar(self, limits: Limits, turn: Turn) -> str:
        """What keeps a job from a slot, in half a sentence; empty where one is free for it."""
        most = limits.of(turn.provider, remote=turn.remote)
        if self.providers[turn.provider] >= most:
            return f"{turn.provider} has {_of(self.providers[turn.provider], int(most))}"
        if self.users[turn.owner] >= limits.user:
            return f"{turn.owner} has {_of(self.users[turn.owner], limits.user)}"
        return f"this lab has {_of(self.total, limits.total)}" if self.total >= limits.total else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A waiting job's place in the line, the first being 1, and why it waits, in one sentence (SPEC X3)."""

    position: int
    why: str


def standing(position: int, bar: str) -> Standing:
    """The standing of a job that something keeps from its slot, as `Held.bar` says it."""
    rest = bar or "a slot is free, and a notebook server or the next look at the jobs gives it away"
    return Standing(position=position, why=f"number {position} in the queue: {rest}")


def forecast(limits: Limits, held: Sequence[Turn], waiting: Sequence[Turn]) -> tuple[float | None, ...]:
    """Seconds until each of the waiting jobs has a slot, if all goes as it went before; None where that is not known.

    `waiting` is in the order of the queue. A job whose own limits are reached holds up nobody behind it.
    """
    slots, ends = Held.by(held), [(_seconds(turn), number, turn) for number, turn in enumerate(held)]
    heapq.heapify(ends)
    left, now = dict(enumerate(waiting)), 0.0
    found: list[float | None] = [None] * len(waiting)
    while left and now < math.inf:
        for number, turn in list(left.items()):
            if slots.total >= limits.total:
                break
            if not slots.bar(limits, turn):
                slots.take(turn)
                heapq.heappush(ends, (now + _seconds(turn), len(held) + number, turn))
                found[number] = now
                del left[number]
        if not ends:
            break
        now, _, ended = heapq.heappop(ends)
        slots.take(ended, -1)
    return tuple(found)


def _seconds(turn: Turn) -> float:
    return math.inf if turn.seconds is None else turn.seconds


def _of(held: int, most: int) -> str:
    return f"{held} of at most {most} {'job' if most == 1 else 'jobs'} under way"
