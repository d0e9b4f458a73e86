"""What happens at which step: every draw is a pure function of (seed, what for, step, rank), so no state is carried.

A run that is stopped and started again therefore goes on exactly where it was, without any generator's state.
Draws are made on the CPU whatever the device is, so the sequence of data and noise is the same everywhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from simpletuner_trainer.spec import TrainConfig


def seed_of(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed for one purpose at one place; neighbouring counters have nothing in common."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{'/'.join(map(str, counters))}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A CPU generator for one purpose at one place."""
    return torch.Generator().manual_seed(seed_of(seed, purpose, *counters))


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """The learning rate of optimiser step `step` (from 0) of `total`: linear warm-up, then the named shape to 0."""
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
        case _:
            factor = 1.0
    return config.learning_rate * factor


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
    _epoch: int = field(default=-1, init=False)
    _order: list[tuple[int, ...]] = field(default_factory=list, init=False)

    @property
    def per_epoch(self) -> int:
        """Micro-batches an epoch."""
        return sum(math.ceil(len(bucket) / self.batch_size) for bucket in self.buckets)

    def at(self, micro: int) -> tuple[int, ...]:
        """Picture indices of micro-batch `micro`, counted from the start of the run."""
        epoch, place = divmod(micro, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        return self._order[place]

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
