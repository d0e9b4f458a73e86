"""The processes of one run, seen from one of them. Here it is alone; `distributed.Ranks` is several.

Pure standard library: who starts alone, or has nothing to train, does not wait for torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.report import Exit

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which of how many processes this is, as torchrun says it in the environment."""

    rank: int = 0
    local_rank: int = 0
    """Among those on this machine: the number of its GPU."""
    size: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Place:
        """From RANK, LOCAL_RANK and WORLD_SIZE; without them the process is alone. `BadSpec` when they make no sense."""
        try:
            size = int(environment.get("WORLD_SIZE", "1"))
            rank = int(environment.get("RANK", "0"))
            local_rank = int(environment.get("LOCAL_RANK", rank))
        except ValueError as error:
            raise BadSpec(
                f"RANK, LOCAL_RANK and WORLD_SIZE are to be numbers: {error}", "start with torchrun"
            ) from None
        if not 0 <= rank < size or local_rank < 0:
            raise BadSpec(f"RANK is {rank} and WORLD_SIZE is {size}", "start with torchrun")
        return cls(rank=rank, local_rank=local_rank, size=size)


class Team:
    """What the processes of a run do together; each step of a protocol that all of them go through in the same order."""

    def __init__(self, place: Place = Place()) -> None:
        self.place: Final = place

    @property
    def size(self) -> int:
        """Processes of the run."""
        return self.place.size

    @property
    def leads(self) -> bool:
        """Whether this process writes, paints, reports and delivers."""
        return self.place.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of what is dealt out, one by one."""
        return items[self.place.rank :: self.place.size]

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """What each process does by itself. Where one of them cannot go on (`TrainerError`) none leaves the block well."""
        yield

    def first(self, work: Callable[[], T]) -> T:
        """Do it in the process that leads, then in the others, which find what it has left on the disk."""
        with self.apart():
            found = [work()] if self.leads else []
        return found[0] if found else work()

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""

    def leave(self, how: Exit) -> None:
        """Say how this process ends, and see that it is not the reason for another's end."""
