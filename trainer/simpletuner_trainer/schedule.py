"""What happens at which step: every draw is a pure function of (seed, what for, step, rank), so no state is carried.

A run that is stopped and started again therefore goes on exactly where it was, without any generator's state.
Draws are made on the CPU whatever the device is, so the sequence of data and noise is the same everywhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

if TYPE_CHECKING:
    from simpletuner_trainer.spec import TrainConfig

T = TypeVar("T")


def seed_of(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed for one purpose at one place; neighbouring counters have nothing in common."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{'/'.join(map(str, counters))}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A CPU generator for one purpose at one place."""
    return torch.Generator().manual_seed(seed_of(seed, purpose, *counters))


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """The learning rate of optimiser step `step` (from 0) of `total`: linear warm-up, then the named shape to `lr_end`."""
    if step < config.lr_warmup_steps:
        return config.learning_rate * (step + 1) / config.lr_warmup_steps
    done = (step - config.lr_warmup_steps) / max(1, total - config.lr_warmup_steps)
    match config.lr_scheduler:
        case "linear":
            factor = 1.0 - done
        case "cosine":
            factor = 0.5 * (1.0 + math.cos(math.pi * done))
        case "cosine_with_restarts":
            factor = 0.5 * (1.0 + math.cos(math.pi * ((done * config.lr_num_cycles) % 1.0)))
        case "polynomial":
            factor = (1.0 - done) ** config.lr_power
        case _:
            factor = 1.0
    return config.lr_end + (config.learning_rate - config.lr_end) * factor


class _Orders(Generic[T]):
    """The last two epochs' orders: where one ends, a thread that works ahead is in the next already."""

    def __init__(self, draw: Callable[[int], list[T]]) -> None:
        self._draw = draw
        self._held: dict[int, list[T]] = {}

    def of(self, epoch: int) -> list[T]:
        """Drawn at most once while it is one of the last two asked for; safe from several threads."""
        order = self._held.get(epoch)
        if order is None:
            order = self._draw(epoch)
            self._held = {**dict(list(self._held.items())[-1:]), epoch: order}
        return order


@dataclass(slots=True)
class Batches:
    """The endless sequence of micro-batches: epoch after epoch, each in an order of its own.

    A batch never mixes buckets (all its images have one size). The last of a bucket may be smaller: no image is left
    out and none is seen twice in an epoch beyond its repeats.
    """

    buckets: Sequence[Sequence[int]]
    """Indices of pictures by size; an index that is to be seen n times an epoch is there n times."""
    batch_size: int
    seed: int
    rank: int = 0
    _orders: _Orders[tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self._orders = _Orders(self._shuffled)

    @property
    def per_epoch(self) -> int:
        """Micro-batches an epoch."""
        return sum(math.ceil(len(bucket) / self.batch_size) for bucket in self.buckets)

    def at(self, micro: int) -> tuple[int, ...]:
        """Picture indices of micro-batch `micro`, counted from the start of the run."""
        epoch, place = divmod(micro, self.per_epoch)
        return self._orders.of(epoch)[place]

    def _shuffled(self, epoch: int) -> list[tuple[int, ...]]:
        batches = []
        for number, bucket in enumerate(self.buckets):
            drawn = torch.randperm(len(bucket), generator=generator(self.seed, "order", epoch, number, self.rank))
            order = [bucket[place] for place in drawn.tolist()]
            batches += [
                tuple(order[start : start + self.batch_size]) for start in range(0, len(order), self.batch_size)
            ]
        drawn = torch.randperm(len(batches), generator=generator(self.seed, "batches", epoch, self.rank))
        return [batches[place] for place in drawn.tolist()]


@dataclass(slots=True)
class Mixture:
    """Micro-batches of several data sets, each set with a share of its own; no batch mixes two sets.

    An epoch is as long as if every image were seen once (with its repeats). Each set has its share of an epoch's
    micro-batches, rounded by largest remainder and never none, in an order drawn anew each epoch, and goes through its
    own images at its own pace: all of them once before any of them again.
    """

    sets: Sequence[Batches]
    shares: Sequence[float]
    """Relative to their sum."""
    seed: int
    rank: int = 0
    _orders: _Orders[tuple[int, int]] = field(init=False)
    """Set, and how many of it came before in this epoch."""

    def __post_init__(self) -> None:
        self._orders = _Orders(self._shuffled)

    @property
    def per_epoch(self) -> int:
        """Micro-batches an epoch."""
        return max(len(self.sets), sum(batches.per_epoch for batches in self.sets))

    def at(self, micro: int) -> tuple[int, ...]:
        """Picture indices of micro-batch `micro`, counted from the start of the run."""
        epoch, place = divmod(micro, self.per_epoch)
        chosen, before = self._orders.of(epoch)[place]
        return self.sets[chosen].at(epoch * self.quotas()[chosen] + before)

    def quotas(self) -> list[int]:
        """Micro-batches of an epoch by set."""
        spare = self.per_epoch - len(self.sets)
        exact = [share / math.fsum(self.shares) * self.per_epoch for share in self.shares]
        above = [max(0.0, one - 1.0) for one in exact]
        wanted = [spare * one / (math.fsum(above) or 1.0) for one in above]
        found = [1 + int(one) for one in wanted]
        by_remainder = sorted(range(len(found)), key=lambda index: (int(wanted[index]) - wanted[index], index))
        for index in by_remainder[: self.per_epoch - sum(found)]:
            found[index] += 1
        return found

    def _shuffled(self, epoch: int) -> list[tuple[int, int]]:
        slots = [chosen for chosen, quota in enumerate(self.quotas()) for _ in range(quota)]
        drawn = torch.randperm(len(slots), generator=generator(self.seed, "sets", epoch, self.rank))
        seen = [0] * len(self.sets)
        order = []
        for place in drawn.tolist():
            chosen = slots[place]
            order.append((chosen, seen[chosen]))
            seen[chosen] += 1
        return order


def flips(seed: int, micro: int, count: int, *, rank: int = 0) -> list[bool]:
    """Which images of a micro-batch are seen mirrored this time, where their data set asks for it: one in two."""
    return (torch.rand(count, generator=generator(seed, "flips", micro, rank)) < 0.5).tolist()


def caption_choices(seed: int, micro: int, counts: Sequence[int], dropout: float, *, rank: int = 0) -> list[int | None]:
    """Which of its captions each image of a micro-batch has this time; None: dropped, it trains on the empty prompt."""
    drawn = torch.rand(2, len(counts), generator=generator(seed, "captions", micro, rank)).tolist()
    return [
        None if drop < dropout else min(int(pick * count), count - 1)
        for count, drop, pick in zip(counts, drawn[0], drawn[1], strict=True)
    ]


def noise(seed: int, purpose: str, micro: int, shape: Sequence[int], *, rank: int = 0) -> torch.Tensor:
    """Standard normal noise of `shape`, fp32, on the CPU."""
    return torch.randn(tuple(shape), generator=generator(seed, purpose, micro, rank))


def quantiles(seed: int, micro: int, count: int, *, rank: int = 0) -> torch.Tensor:
    """`count` numbers, each uniform over 0..1, spread evenly over a batch to quieten its loss: float64 [count].

    A family makes timesteps of any distribution of them, by the inverse of its cumulative function.
    """
    source = generator(seed, "timesteps", micro, rank)
    strata = torch.randperm(count, generator=source).double()
    within = torch.rand(count, generator=source, dtype=torch.float64)
    return (strata + within) / count
