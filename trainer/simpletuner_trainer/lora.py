"""A LoRA on any denoiser: attach, collect, write. PEFT does the mathematics."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.schedule import seed_of
from simpletuner_trainer.weights import write_safetensors

if TYPE_CHECKING:
    from simpletuner_trainer.spec import TrainConfig

_ADAPTER: Final = "default"
_DIFFUSERS_KEY: Final = "lora_adapter_metadata"
"""Header key under which diffusers keeps the adapter's config; without it alpha would be guessed as the rank."""


def attach(denoiser: torch.nn.Module, config: TrainConfig, targets: Sequence[str]) -> None:
    """Add a fresh adapter in fp32, drawn from the run's seed; it alone is trainable afterwards."""
    torch.manual_seed(seed_of(config.seed, "lora"))
    made = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.alpha,
        lora_dropout=config.lora_dropout,
        init_lora_weights="gaussian" if config.lora_init_type == "gaussian" else True,
        target_modules=list(targets),
    )
    try:
        denoiser.add_adapter(made, adapter_name=_ADAPTER)
    except ValueError as error:
        raise BadSpec(f"lora_target {config.lora_target!r} does not fit the base: {error}") from error
    for parameter in denoiser.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def state_of(denoiser: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The adapter's weights, by PEFT's names."""
    state: dict[str, torch.Tensor] = get_peft_model_state_dict(denoiser, adapter_name=_ADAPTER)
    return state


def writer(
    adapted: Mapping[str, torch.nn.Module], metadata: Mapping[str, str]
) -> Callable[[Mapping[str, torch.Tensor], str], None]:
    """A `save_function` for diffusers that writes the same bytes for the same weights, with all metadata.

    `adapted` maps diffusers' prefix of each adapted part (``unet``) to the part.
    """
    configs: dict[str, Any] = {}
    for prefix, part in adapted.items():
        made = part.peft_config[_ADAPTER].to_dict()
        configs |= {f"{prefix}.{key}": _sorted(value) for key, value in made.items()}
    header = {"format": "pt", _DIFFUSERS_KEY: json.dumps(configs, indent=2, sort_keys=True), **metadata}

    def save(weights: Mapping[str, torch.Tensor], path: str) -> None:
        write_safetensors(Path(path), weights, header)

    return save


def _sorted(value: Any) -> Any:
    """Sets as sorted lists: their own order changes from process to process."""
    return sorted(value) if isinstance(value, set | frozenset) else value
