"""How many steps a run has, before it begins, and which runs of the past tell how long one of them takes."""

from __future__ import annotations

import math
from typing import Final

from simpletuner_lab.core.canonical import Json, canonical_json
from simpletuner_lab.core.data_sets import plain_keys
from simpletuner_lab.core.manifest import Manifest
from simpletuner_lab.core.plan import Identity
from simpletuner_lab.core.provider import Target
from simpletuner_lab.services.training import Training
from simpletuner_trainer import spec

_MOST_STEPS: Final = 100_000_000
"""Of our trainer; what is more is no number of steps."""

_PACE_KEYS: Final = (
    "model_family", "pretrained_model_name_or_path", "model_type", "resolution", "resolution_type", "train_batch_size",
    "gradient_accumulation_steps", "mixed_precision", "base_model_precision",
)  # fmt: skip
"""What says in the config of another trainer how long a step takes."""


def run_class(identity: Identity, target: Target) -> str:
    """Runs of one class take about as long a step: the key of the history that estimates rest on."""
    if not target.ours:
        said = plain_keys(identity.config)
        pace = canonical_json({key: said[key] for key in _PACE_KEYS if key in said}).decode()
        return f"{identity.provider}|{identity.hardware}|{target.id}|{pace}"
    config = spec.parse(identity.config, identity.dataloader).config
    return "|".join(
        str(part)
        for part in (
            identity.provider, identity.hardware, config.model_family, config.pretrained_model_name_or_path,
            config.model_type, config.resolution, config.train_batch_size * config.gradient_accumulation_steps,
        )
    )  # fmt: skip


def total_steps(training: Training, manifest: Manifest) -> int:
    """Optimiser steps of the run: as configured, or from the epochs and the images found, as if all were of one size.

    A batch has images of one size; a data set with a `probability` has batches of its own. 0: not known.
    """
    if training.known is None:
        return _whole(training.config.get("max_train_steps"))
    config, datasets = training.known.config, training.known.datasets
    if config.max_train_steps:
        return config.max_train_steps
    repeats = {dataset.id: dataset.repeats + 1 for dataset in datasets}
    seen = [dataset.images * repeats[dataset.id] for dataset in manifest.datasets]
    shared = any(dataset.probability is not None for dataset in datasets)
    batches = sum(math.ceil(images / config.train_batch_size) for images in (seen if shared else [sum(seen)]))
    return math.ceil(config.num_train_epochs * batches / config.gradient_accumulation_steps)


def doubts_on_steps(training: Training, steps: int) -> tuple[str, ...]:
    """What a plan says of `total_steps` where images alone decide, or nothing does."""
    if not steps:
        return ("how many steps it makes is not known (max_train_steps fixes it)",)
    if training.known is None or training.known.config.max_train_steps:
        return ()
    return (
        (
            f"{steps} steps if all images are of one size: more sizes make more, images that are left out fewer "
            "(max_train_steps fixes it)"
        ),
    )


def _whole(value: Json) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < len(str(_MOST_STEPS)):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 < value <= _MOST_STEPS else 0
