"""How many steps a run has, before it begins, and which runs of the past tell how long one of them takes."""

from __future__ import annotations

import math

from simpletuner_lab.core.manifest import Manifest
from simpletuner_lab.core.plan import Identity
from simpletuner_trainer import spec


def run_class(identity: Identity) -> str:
    """Runs of one class take about as long a step: the key of the history that estimates rest on."""
    config = spec.parse(identity.config, identity.dataloader).config
    return "|".join(
        str(part)
        for part in (
            identity.provider, identity.hardware, config.model_family, config.pretrained_model_name_or_path,
            config.model_type, config.resolution, config.train_batch_size * config.gradient_accumulation_steps,
        )
    )  # fmt: skip


def total_steps(train: spec.TrainSpec, manifest: Manifest) -> int:
    """Optimiser steps of the run: as configured, or from the epochs and the images found, as if all were of one size.

    A batch has images of one size; a data set with a `probability` has batches of its own.
    """
    config = train.config
    if config.max_train_steps:
        return config.max_train_steps
    repeats = {dataset.id: dataset.repeats + 1 for dataset in train.datasets}
    seen = [dataset.images * repeats[dataset.id] for dataset in manifest.datasets]
    shared = any(dataset.probability is not None for dataset in train.datasets)
    batches = sum(math.ceil(images / config.train_batch_size) for images in (seen if shared else [sum(seen)]))
    return math.ceil(config.num_train_epochs * batches / config.gradient_accumulation_steps)


def doubts_on_steps(train: spec.TrainSpec, steps: int) -> tuple[str, ...]:
    """What a plan says of `total_steps` where images alone decide."""
    if train.config.max_train_steps:
        return ()
    return (
        (
            f"{steps} steps if all images are of one size: more sizes make more, images that are left out fewer "
            "(max_train_steps fixes it)"
        ),
    )
