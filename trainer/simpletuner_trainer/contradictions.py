"""What the options of an optimizer must not say together. Pure standard library, as is `config`, which asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from simpletuner_trainer.fields import Problem

if TYPE_CHECKING:
    from simpletuner_trainer.config import TrainConfig

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
