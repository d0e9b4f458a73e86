"""The work folder: where everything of one job lies, and the lock that one trainer holds on it while it lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simpletuner_trainer.errors import WorkDirInUse

_CHECKPOINT: Final = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkDir:
    """Paths under `RunSpec.work_dir` (docs/trainer-protocol.md)."""

    root: Path

    @property
    def data(self) -> Path:
        """The unpacked archive."""
        return self.root / "data"

    @property
    def cache(self) -> Path:
        """Latents and text embeddings, addressed by content: where no folder that all jobs share can be used."""
        return self.root / "cache"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.root / "checkpoints"

    @property
    def output(self) -> Path:
        """What goes to the destination's prefix in the end."""
        return self.root / "output"

    @property
    def samples(self) -> Path:
        """Validation images, within the output."""
        return self.output / "samples"

    @property
    def metrics(self) -> Path:
        """One line a step, up to the last that was run."""
        return self.root / "metrics.jsonl"

    @property
    def sources(self) -> Path:
        """What data, base and LoRA the present training begins from, by their content."""
        return self.root / "sources.json"

    @property
    def uploads(self) -> Path:
        """Notes of uploads that were begun: the next start goes on with them."""
        return self.root / "uploads"

    def clear(self) -> None:
        """Forget what was trained; data and caches stay, they are addressed by content."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        shutil.rmtree(self.output, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold ``trainer.lock``; `WorkDirInUse` when another trainer has it.

        A forked child closes its copy at once, so the lock is free when this process is gone, whoever it left behind.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.root / "trainer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            message = f"another trainer is running in {self.root}"
            raise WorkDirInUse(message, "wait for it to end, or use another work_dir") from None
        held = [descriptor]

        def close() -> None:
            if held:
                os.close(held.pop())

        os.register_at_fork(after_in_child=close)
        try:
            yield
        finally:
            close()


def folder_name(step: int) -> str:
    """``step-00000100``."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The step that a checkpoint's folder name says, None for any other name."""
    match = _CHECKPOINT.fullmatch(name)
    return int(match[1]) if match else None
