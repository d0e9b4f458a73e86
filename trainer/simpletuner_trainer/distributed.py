"""Several processes, started by torchrun on one machine, that train one model together.

The micro-batches of a step are dealt out by rank, so that the draws of each are those of one process that accumulates as
many; the gradients are summed once a step, as one flat tensor, and every rank then makes the same update. Whether to go
on is decided together: all ranks end after the same step, with the reason of the first that has one.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import distributed

from simpletuner_trainer.errors import ProcessLost, Stopped, TrainerError
from simpletuner_trainer.report import Exit
from simpletuner_trainer.team import Place, Team

PATIENCE: Final = dt.timedelta(hours=1)
"""How long ranks wait for one that lives and does not come: longer than painting, saving or a download takes.

One that dies is noticed at once: its connections close.
"""
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """A `TrainerError`, as it travels."""

    code: str
    exit: Exit
    message: str
    hint: str
    step: int | None

    @classmethod
    def of(cls, error: TrainerError) -> _Fault:
        return cls(code=error.code, exit=error.exit, message=error.message, hint=error.hint, step=error.step)

    def raised(self) -> TrainerError:
        if self.code == Stopped.code:
            return Stopped(self.exit)
        error = TrainerError(self.message, self.hint, step=self.step)
        error.code, error.exit = self.code, self.exit
        return error


class Ranks(Team):
    """This process among others: gloo between CPUs, NCCL between GPUs."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(place.local_rank)
        self._device = torch.device("cuda", place.local_rank) if cuda else torch.device("cpu")
        self._agreed = False
        with self._together():
            self._store, _, _ = next(distributed.rendezvous("env://", timeout=PATIENCE))
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if cuda else "gloo", store=self._store, rank=place.rank, world_size=place.size,
                timeout=PATIENCE,
            )  # fmt: skip

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """At the end of the block every rank learns whether all of them came through."""
        own: TrainerError | None = None
        try:
            yield
        except ProcessLost:
            raise
        except TrainerError as error:
            own = error
        fault = self._settle(own)
        if fault is not None:
            raise fault

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """All of them in one message: fp32, of the same shapes on every rank."""
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        with self._together():
            distributed.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        with torch.no_grad():
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def leave(self, how: Exit) -> None:
        """Those that follow wait for the leader's word that all is saved and delivered.

        torchrun ends every process half a minute after the first that ends badly.
        """
        with contextlib.suppress(RuntimeError):  # the store is gone with whoever started the run
            self._store.set(_over(self.place.rank), str(int(how)))
            together = self._agreed or how is Exit.DONE
            while together and not self.leads and not self._store.check([_over(0)]):
                time.sleep(_POLL_S)
            if together:
                distributed.destroy_process_group()

    def _settle(self, own: TrainerError | None) -> TrainerError | None:
        """The fault of the lowest rank that has one; a rank's own stays the very error it was."""
        faulty = torch.tensor([own is not None], dtype=torch.int32)
        with self._together():
            distributed.all_reduce(faulty)
            if not faulty.item():
                return None
            faults: list[_Fault | None] = [None] * self.size
            distributed.all_gather_object(faults, None if own is None else _Fault.of(own))
        self._agreed = True
        rank, fault = next((rank, fault) for rank, fault in enumerate(faults) if fault is not None)
        return own if own is not None and rank == self.place.rank else fault.raised()

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """`ProcessLost` where the others are not there any more."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise self._lost(error) from error

    def _lost(self, error: RuntimeError) -> ProcessLost:
        for rank in range(self.size):
            with contextlib.suppress(RuntimeError, AttributeError):
                if rank != self.place.rank and self._store.check([_over(rank)]):
                    code = Exit(int(self._store.get(_over(rank))))
                    lost = ProcessLost(
                        f"process {rank} of {self.size} ended with exit code {code.value}", "its log says why"
                    )
                    lost.exit = code if code is not Exit.DONE else Exit.CRASHED
                    return lost
        says = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "it was killed, or its machine is gone; the run goes on from its last checkpoint"
        return ProcessLost(f"another of the {self.size} processes is gone: {says}", hint)


def _over(rank: int) -> str:
    return f"over/{rank}"
