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


def base_conflicts(config: TrainConfig) -> list[Problem]:
    """Between the base and where its configuration is from."""
    if config.single_file_config is None or config.pretrained_model_name_or_path.endswith(".safetensors"):
        return []
    hint = "leave it out: a folder and a repository have their own configuration"
    return [Problem("config.single_file_config", "is set and the base is not a .safetensors file", hint)]


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
