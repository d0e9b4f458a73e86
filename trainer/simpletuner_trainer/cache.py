"""What the frozen parts of a base say, computed once: latent moments of images, embeddings of prompts.

Content-addressed: the key is everything that the value depends on, so a changed image, crop or base is another entry and
nothing is ever stale. Moments (mean and log-variance), not samples, are kept: each step then draws its own latent from
the image's distribution, as it would without a cache. Entries are computed one by one, so that a value never depends on
what else happened to be missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from simpletuner_trainer.files import writing
from simpletuner_trainer.weights import write_safetensors

_HELD_BYTES: Final = 1 << 30
"""Most memory that loaded entries take; beyond it they are read from the disk again."""


def key_of(*parts: object) -> str:
    """The address of a value that depends on exactly `parts` (plain JSON values)."""
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


class TensorCache:
    """Tensors on disk by key, and in memory as far as they fit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, torch.Tensor] = {}
        self._room = _HELD_BYTES

    def has(self, key: str) -> bool:
        """Whether a whole entry is there (one torn by a power cut is not)."""
        try:
            self.get(key)
        except (OSError, SafetensorError, KeyError):
            return False
        return True

    def get(self, key: str) -> torch.Tensor:
        """The value, on the CPU."""
        if (held := self._held.get(key)) is not None:
            return held
        value = load_file(self._path(key))["value"]
        size = value.numel() * value.element_size()
        if size <= self._room:
            self._room -= size
            self._held[key] = value
        return value

    def put(self, key: str, value: torch.Tensor) -> None:
        """Add an entry in one step: it is whole or not there."""
        path = self._path(key)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        with writing("the cache"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_safetensors(partial, {"value": value}, {})
            partial.replace(path)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"
