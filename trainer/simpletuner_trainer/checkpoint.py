"""Checkpoints: all that is needed to go on exactly where a run stopped, each whole or not there.

A checkpoint is written beside its place, put on the disk file by file, its manifest last, and then renamed, so neither a
kill nor a power cut leaves a torn one. One that was damaged later is found by its checksums and passed over.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file

from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.files import Manifest, sync_folder, sync_tree, write_durably, writing
from simpletuner_trainer.optim import Learner
from simpletuner_trainer.spec import MANIFEST_NAME, RESUME_DESPITE
from simpletuner_trainer.weights import write_safetensors
from simpletuner_trainer.workdir import folder_name, step_of

STATE_NAME: Final = "state.json"
METRICS_NAME: Final = "metrics.jsonl"
_TENSORS_NAME: Final = "train_state.safetensors"
_FORMAT: Final = "simpletuner-checkpoint/3"

Notice = Callable[[str], None]
"""Takes one ordinary line for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What must be the same for a resumed run to be the same run."""

    config: str
    """`spec.config_hash`."""
    data: str
    """`data.Inventory.digest`."""
    base: str
    """`models.Family.identity`."""
    learner: str
    """`optim.Learner.identity`."""
    threads: int
    """Of torch: on the CPU another number rounds differently."""
    world_size: int
    """Processes: another number deals the batches out differently."""

    @property
    def training(self) -> str:
        """SHA-256 of what is trained, wherever that happens."""
        return hashlib.sha256(f"{self.config}/{self.data}/{self.base}/{self.learner}".encode()).hexdigest()


_SAYS: Final = {
    "config": "config",
    "data": "data set",
    "base": "base",
    "learner": "optimizer or set of weights",
    "threads": "number of threads",
    "world_size": "number of processes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A whole checkpoint on the disk."""

    folder: Path
    manifest: Manifest
    threads: int
    """Of torch when it was written."""
    torch_version: str

    @property
    def step(self) -> int:
        """Optimiser steps that are done."""
        return self.manifest.step

    @property
    def metrics(self) -> Path:
        """The loss curve up to this step."""
        return self.folder / METRICS_NAME


def steps_of(checkpoints: Path) -> list[int]:
    """The steps that have a folder here, whole or not."""
    steps = (step_of(path.name) for path in checkpoints.glob("step-*"))
    return [step for step in steps if step is not None]


def newest(checkpoints: Path, notice: Notice) -> Found | None:
    """The newest whole checkpoint; a damaged one is passed over with a line in the log."""
    for step in sorted(steps_of(checkpoints), reverse=True):
        folder = checkpoints / folder_name(step)
        try:
            manifest = Manifest.verified(folder)
            state = _read_state(folder)
        except ValueError as error:
            notice(f"warning: checkpoint {folder.name} is passed over: {error}")
            continue
        threads = state["fingerprint"]["threads"]
        return Found(folder=folder, manifest=manifest, threads=threads, torch_version=state["torch"])
    return None


def restore(
    found: Found, learner: Learner, fingerprint: Fingerprint, *, despite: Collection[str], notice: Notice
) -> None:
    """Put the checkpoint's state in place. `BadSpec` when it is from another training, `despite` what may differ."""
    then, now = _read_state(found.folder)["fingerprint"], asdict(fingerprint)
    differs = [part for part in now if then[part] != now[part]]
    told = " and ".join(_told(part, then[part], now[part]) for part in differs)
    refused = [part for part in differs if part not in despite]
    if refused:
        hint = "use an empty work_dir, or set resume_from_checkpoint to none to begin anew"
        if set(refused) <= set(RESUME_DESPITE):
            hint += f"; resume_despite {json.dumps(differs)} goes on all the same"
        raise BadSpec(f"checkpoint {found.folder.name} was made with another {told}", hint)
    if differs:
        notice(
            f"warning: {found.folder.name} was made with another {told}: the run goes on, though not as it would have"
        )
    learner.restore(load_file(found.folder / _TENSORS_NAME))


def _told(part: str, then: str | int, now: str | int) -> str:
    return f"{_SAYS[part]} ({then}, now {now})" if isinstance(then, int) else _SAYS[part]


def save(
    checkpoints: Path,
    step: int,
    learner: Learner,
    *,
    fingerprint: Fingerprint,
    plan_digest: str,
    add_files: Callable[[Path], None],
) -> tuple[Path, Manifest]:
    """Write the checkpoint of `step`; `add_files` puts the rest into its folder. `DiskFull` leaves the others as they are."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    folder = checkpoints / folder_name(step)
    partial = checkpoints / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with writing(f"checkpoint {folder.name}", step):
            state = {"format": _FORMAT, "step": step, "fingerprint": asdict(fingerprint)}
            state["torch"] = torch.__version__
            (partial / STATE_NAME).write_text(json.dumps(state, indent=1) + "\n", "utf-8")
            write_safetensors(partial / _TENSORS_NAME, learner.state(), {"format": "pt"})
            add_files(partial)
            manifest = Manifest.of(partial, kind="checkpoint", step=step, plan_digest=plan_digest)
            sync_tree(partial)
            write_durably(partial / MANIFEST_NAME, manifest.encode())
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
            sync_folder(checkpoints)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder, manifest


def prune(checkpoints: Path, keep: int, in_use: Collection[Path], passed_over: Collection[int] = ()) -> None:
    """Remove all but the newest `keep`, except those `in_use`; first of all those of the steps `passed_over`."""
    steps = sorted(steps_of(checkpoints), key=lambda step: (step not in passed_over, step))
    for folder in (checkpoints / folder_name(step) for step in steps[:-keep]):
        if folder not in in_use:
            shutil.rmtree(folder, ignore_errors=True)


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / STATE_NAME).read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{STATE_NAME}: {error.strerror}") from error
    if state.get("format") != _FORMAT:
        raise ValueError(f"{STATE_NAME} is of format {state.get('format')!r}")
    return state
