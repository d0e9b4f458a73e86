"""Which published figures are those of a training (`core.rates` has the table)."""

from __future__ import annotations

from typing import Final

from simpletuner_lab.core.cost import Published, Rate
from simpletuner_lab.core.rates import published
from simpletuner_lab.services.training import Training

_DEFAULT_KIND: Final = "lora"


def figures_of(training: Training, steps: int, rate: Rate) -> Published:
    """What they say of its time on this hardware, or why they say nothing."""
    known = training.known
    if known is not None:
        family, kind = known.config.model_family, known.config.model_type
        images = known.config.train_batch_size * known.config.gradient_accumulation_steps
    else:
        family, kind = _word(training, "model_family"), _word(training, "model_type") or _DEFAULT_KIND
        images = _number(training, "train_batch_size") * _number(training, "gradient_accumulation_steps")
    return published(family=str(family), kind=str(kind), steps=steps, images_a_step=images, rate=rate)


def _word(training: Training, key: str) -> str:
    value = training.config.get(key)
    return value if isinstance(value, str) else ""


def _number(training: Training, key: str) -> int:
    """A whole number as another trainer would take it; 1 where it is none."""
    try:
        return max(1, int(str(training.config.get(key, 1))))
    except ValueError:
        return 1
