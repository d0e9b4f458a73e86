"""What the frozen parts of a base say, computed once: latent moments of images, embeddings of prompts.

Content-addressed: the key is everything that the value depends on, so a changed image, crop or base is another entry and
nothing is ever stale. Moments (mean and log-variance), not samples, are kept: each step then draws its own latent from
the image's distribution, as it would without a cache. Entries are computed one by one, so that a value never depends on
what else happened to be missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open

from simpletuner_trainer.errors import CacheLost
from simpletuner_trainer.files import writing
from simpletuner_trainer.weights import write_safetensors

ENTRY_SUFFIX: Final = ".safetensors"
_HELD_BYTES: Final = 1 << 30
"""Most memory that loaded entries take; beyond it they are read from the disk again."""
_SUM: Final = "crc32"
_UNREADABLE: Final = (OSError, SafetensorError, KeyError, ValueError)


def key_of(*parts: object) -> str:
    """The address of a value that depends on exactly `parts` (plain JSON values)."""
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


def numerics_of(device: torch.device, threads: int) -> str:
    """What the last bits of a value depend on besides its inputs: the libraries, and the processor that they run on."""
    versions = "/".join(importlib.metadata.version(name) for name in ("torch", "diffusers", "transformers", "pillow"))
    if device.type == "cuda":
        return f"cuda/{torch.cuda.get_device_name(device)}/{versions}"
    return f"{device.type}/{threads}/{torch.backends.cpu.get_cpu_capability()}/{versions}"


class TensorCache:
    """Tensors on disk by key, and in memory as far as they fit. Several processes may share the folder.

    An entry carries its checksum, and comes and goes in one step: nobody reads half of one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, torch.Tensor] = {}
        self._room = _HELD_BYTES

    def has(self, key: str) -> bool:
        """Whether a whole, undamaged entry is there; then it counts as used just now."""
        if key in self._held:
            return True
        try:
            self._hold(key, _read(self._path(key)))
        except _UNREADABLE:
            return False
        with contextlib.suppress(OSError):
            os.utime(self._path(key))
        return True

    def get(self, key: str) -> torch.Tensor:
        """The value, on the CPU. `CacheLost` where it was there and is no longer."""
        if (held := self._held.get(key)) is not None:
            return held
        try:
            value = _read(self._path(key))
        except _UNREADABLE as error:
            hint = "start again: it is made anew, and training goes on from the last checkpoint"
            raise CacheLost(f"an entry of the cache is gone or damaged: {self._path(key)} ({error})", hint) from error
        self._hold(key, value)
        return value

    def put(self, key: str, value: torch.Tensor) -> None:
        """Add an entry in one step, readable by its owner alone. `CacheLost` where something else lies in its place."""
        path = self._path(key)
        with writing("the cache"), _in_a_free_place():
            for folder in (self._folder, path.parent):  # `parents=True` would leave the first open to others
                folder.mkdir(exist_ok=True, mode=0o700)
            descriptor, partial = tempfile.mkstemp(prefix=".", dir=path.parent)
            os.close(descriptor)
            try:
                write_safetensors(Path(partial), {"value": value}, {_SUM: _sum_of(value)})
                Path(partial).replace(path)
            except BaseException:
                Path(partial).unlink(missing_ok=True)
                raise

    def _hold(self, key: str, value: torch.Tensor) -> None:
        size = value.numel() * value.element_size()
        if size <= self._room:
            self._room -= size
            self._held[key] = value

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}{ENTRY_SUFFIX}"


@contextlib.contextmanager
def _in_a_free_place() -> Iterator[None]:
    try:
        yield
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        message = f"something else lies in the place of an entry of the cache: {error.filename2 or error.filename}"
        raise CacheLost(message, "remove it and start again") from error


def _read(path: Path) -> torch.Tensor:
    with safe_open(path, "pt") as opened:
        value: torch.Tensor = opened.get_tensor("value")
        if (opened.metadata() or {}).get(_SUM) != _sum_of(value):
            raise ValueError("its checksum differs")
    return value


def _sum_of(value: torch.Tensor) -> str:
    plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return f"{zlib.crc32(memoryview(plain.numpy())):08x}"
