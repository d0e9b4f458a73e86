"""Keys of a config that are right each and wrong together. Pure standard library, as `config`, whose part this is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from simpletuner_trainer.fields import Problem

if TYPE_CHECKING:
    from simpletuner_trainer.config import TrainConfig

_FLOW_FAMILIES: Final = ("flux",)
"""Those that learn by flow matching."""
_FLOW_KEYS: Final = ("flow_", "flux_")

SETTINGS: Final = {
    "adamw": ("amsgrad",),
    "adafactor": ("clip_threshold", "decay_rate"),
    "prodigy": ("d0", "d_coef", "growth_rate", "safeguard_warmup", "use_bias_correction"),
    "adamw_schedulefree": ("r", "weight_lr_power"),
    "bnb-adamw8bit": ("min_8bit_size",),
}
"""What `optimizer_config` may hold, by `optimizer`."""

_LEAST_PRODIGY_RATE: Final = 0.01
"""A rate below is meant for another optimizer: Prodigy multiplies the one that it finds."""


def warmup_conflicts(config: TrainConfig, total: int) -> list[Problem]:
    """Between the warm-up and the `total` of steps that `max_train_steps` says or `num_train_epochs` comes to."""
    if config.lr_warmup_steps < total:
        return []
    says = "max_train_steps is" if config.max_train_steps else "num_train_epochs comes to"
    hint = f"{says} {total}: the full learning rate would never be reached"
    return [Problem("config.lr_warmup_steps", f"is {config.lr_warmup_steps}", hint)]


def noise_conflicts(config: TrainConfig) -> list[Problem]:
    """Between how noise is dealt out and what the family learns."""
    family = f"and model_family is {config.model_family}"
    if config.model_family not in _FLOW_FAMILIES:
        hint = f"leave it out: of the families {', '.join(_FLOW_FAMILIES)} alone learns by flow matching"
        return [
            Problem(f"config.{field.name}", f"is set {family}", hint)
            for field in dataclasses.fields(config)
            if field.name.startswith(_FLOW_KEYS) and getattr(config, field.name) != field.default
        ]
    problems = []
    if config.snr_gamma is not None:
        hint = "leave it out: flow_schedule_shift and flow_sigmoid_scale say which noise is trained how often"
        problems.append(Problem("config.snr_gamma", f"is set {family}, which has no such weighting", hint))
    if config.flow_use_uniform_schedule and config.flow_sigmoid_scale != 1:
        hint = "keep one of the two"
        problems.append(Problem("config.flow_sigmoid_scale", "is set beside flow_use_uniform_schedule", hint))
    return problems


def optimizer_conflicts(config: TrainConfig) -> list[Problem]:
    """Every option that the chosen optimizer has no use for, or that works against it."""
    problems = []
    known = SETTINGS[config.optimizer]
    for name in (setting.partition("=")[0] for setting in config.optimizer_config):
        if name not in known:
            message = f"holds {name!r} and optimizer is {config.optimizer}"
            problems.append(Problem("config.optimizer_config", message, f"it takes {', '.join(known)}"))
    if config.lr_end > config.learning_rate:
        message = f"is {config.lr_end:g} and learning_rate is {config.learning_rate:g}"
        problems.append(Problem("config.lr_end", message, "a learning rate falls, or stays: at most learning_rate"))
    if config.optimizer == "prodigy" and config.learning_rate < _LEAST_PRODIGY_RATE:
        hint = "prodigy finds the rate itself and multiplies it by this one: 1 is usual"
        problems.append(Problem("config.learning_rate", f"is {config.learning_rate:g} and optimizer is prodigy", hint))
    if config.optimizer == "adamw_schedulefree":
        if not config.lr_scheduler.startswith("constant"):
            message = f"is {config.lr_scheduler} and optimizer is adamw_schedulefree"
            hint = "it needs no decay: constant or constant_with_warmup"
            problems.append(Problem("config.lr_scheduler", message, hint))
        if config.use_ema:
            hint = "it averages the weights already: leave use_ema out"
            problems.append(Problem("config.use_ema", "is set and optimizer is adamw_schedulefree", hint))
        if config.adam_beta1 == 0:
            hint = "it averages by this number: 0.9 is usual"
            problems.append(Problem("config.adam_beta1", "is 0 and optimizer is adamw_schedulefree", hint))
    return problems
