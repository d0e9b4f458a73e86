"""Small data-parallel training loop with exact resume and a late choice of length.

Constant learning rate, then a linear decay over the last part: a run of N steps and one of M > N
steps are identical until N's decay begins, so a run may be shortened or lengthened while it goes on.
Every draw is a function of (seed, step, rank); a checkpoint needs no random state.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn


class Objective(Protocol):
    """Training loss of one rank's share of a step's batch."""

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw a batch from the generator and return its scalar loss."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Length, optimiser and bookkeeping of a run; step counts are optimiser steps."""

    steps: int
    lr: float
    decay_share: float = 0.25
    warmup_steps: int = 100
    weight_decay: float = 1e-2
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    seed: int = 0
    checkpoint_every: int = 500
    log_every: int = 100

    def lr_at(self, step: int) -> float:
        """Learning rate of a step: warm-up, plateau, linear decay to 2 %."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        left = (self.steps - step) / max(1.0, self.decay_share * self.steps)
        return self.lr * warm * (0.02 + 0.98 * min(1.0, left))


class Run:
    """Model, flat gradient buffer, optimiser and weight average of one process."""

    def __init__(self, model: nn.Module, plan: Plan, file: Path | None = None) -> None:
        """Start fresh, or go on from the checkpoint if the file exists."""
        self.model, self.plan = model, plan
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.flat = torch.zeros(sum(p.numel() for p in self.params))
        for param, grad in zip(self.params, _views(self.flat, self.params), strict=True):
            param.grad = grad
        matrices = [p for p in self.params if p.ndim > 1]
        vectors = [p for p in self.params if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=plan.lr, betas=(0.9, 0.99), fused=True)
        self.ema = [p.detach().clone() for p in self.params]
        self.step = 0
        if file and file.exists():
            self._load(file)

    def _load(self, file: Path) -> None:
        state = torch.load(file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for average, saved in zip(self.ema, state["ema"], strict=True):
            average.copy_(saved)
        self.step = state["step"]

    def save(self, file: Path) -> None:
        """Write the checkpoint beside the old one, then replace it."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema,
            "step": self.step,
        }
        fresh = file.with_suffix(".tmp")
        torch.save(state, fresh)
        fresh.replace(file)

    def advance(self, objective: Objective, rank: int, world: int) -> float:
        """One optimiser step on the mean gradient of all ranks; returns this rank's loss."""
        generator = torch.Generator().manual_seed((self.plan.seed << 40) + self.step * 64 + rank)
        self.flat.zero_()
        loss = objective(generator)
        loss.backward()
        if world > 1:
            dist.all_reduce(self.flat)
            self.flat /= world
        self.flat *= min(1.0, self.plan.clip_norm / (float(self.flat.norm()) + 1e-6))
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.lr_at(self.step)
        self.optimizer.step()
        decay = min(self.plan.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.ema, [p.detach() for p in self.params], 1 - decay)
        self.step += 1
        return float(loss.detach())

    def adopt_average(self) -> None:
        """Put the averaged weights into the model."""
        with torch.no_grad():
            for param, average in zip(self.params, self.ema, strict=True):
                param.copy_(average)


def _views(flat: Tensor, params: list[nn.Parameter]) -> Iterator[Tensor]:
    start = 0
    for param in params:
        chunk = flat[start : start + param.numel()]
        start += param.numel()
        # A channels-last weight wants a gradient in its own memory order.
        yield torch.as_strided(chunk, param.shape, param.stride())


def fit(run: Run, objective: Objective, file: Path, *, rank: int, world: int) -> float:
    """Train to the plan's end, saving to `file` on the way; returns the mean loss of the last logging interval (rank 0's share)."""
    recent: list[float] = []
    mean, started = math.nan, time.monotonic()
    while run.step < run.plan.steps:
        recent.append(run.advance(objective, rank, world))
        if run.step % run.plan.log_every == 0 or run.step == run.plan.steps:
            mean = sum(recent) / len(recent)
            if rank == 0:
                pace_s = (time.monotonic() - started) / len(recent)
                print(f"{time.strftime('%H:%M:%S')} step {run.step} loss {mean:.4f} {pace_s:.3f} s/step", flush=True)
            recent, started = [], time.monotonic()
        if rank == 0 and (run.step % run.plan.checkpoint_every == 0 or run.step == run.plan.steps):
            run.save(file)
    return mean


def join(rank: int, world: int, meeting: Path) -> None:
    """Make this process one of `world` single-threaded ranks that meet at a file."""
    torch.set_num_threads(1 if world > 1 else os.cpu_count() or 1)
    torch.manual_seed(0)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
