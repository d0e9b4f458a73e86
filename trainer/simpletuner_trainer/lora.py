"""A LoRA on any denoiser: attach, collect, write. PEFT does the mathematics."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open

from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.fields import did_you_mean
from simpletuner_trainer.schedule import seed_of
from simpletuner_trainer.weights import write_safetensors

if TYPE_CHECKING:
    from simpletuner_trainer.spec import TrainConfig

_ADAPTER: Final = "default"
_DIFFUSERS_KEY: Final = "lora_adapter_metadata"
"""Header key under which diffusers keeps the adapter's config; without it alpha would be guessed as the rank."""


_PARTS: Final = ("unet", "transformer")
"""What diffusers' LoRA files call the denoiser."""


def attach(denoiser: torch.nn.Module, config: TrainConfig, targets: Sequence[str]) -> None:
    """Add a fresh adapter in fp32, drawn from the run's seed; it alone is trainable afterwards.

    `targets` are those of the config's preset; modules that the config names itself take their place.
    """
    torch.manual_seed(seed_of(config.seed, "lora"))
    chosen = config.peft_lora_target_modules
    made = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.alpha,
        lora_dropout=config.lora_dropout,
        init_lora_weights="gaussian" if config.lora_init_type == "gaussian" else True,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        target_modules=list(targets) if chosen is None else find_targets(denoiser, chosen),
    )
    try:
        denoiser.add_adapter(made, adapter_name=_ADAPTER)
    except ValueError as error:
        key = "lora_target" if chosen is None else "peft_lora_target_modules"
        raise BadSpec(f"{key} does not fit the base: {error}") from error
    for parameter in denoiser.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def find_targets(denoiser: torch.nn.Module, chosen: tuple[str, ...] | str) -> list[str] | str:
    """What PEFT is to adapt: the names as they are, or every linear and convolution that a regular expression names whole.

    `BadSpec` for a name or an expression that fits nothing: PEFT alone passes over a wrong name beside a right one.
    """
    layers = [
        name for name, module in denoiser.named_modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    ]
    if isinstance(chosen, str):
        fitting = [name for name in layers if re.fullmatch(chosen, name)]
        if not fitting:
            hint = f"it must match whole names, such as {layers[0]}; a list takes the ends of names"
            raise BadSpec(f"peft_lora_target_modules: {chosen!r} names no linear and no convolution of the base", hint)
        return "|".join(map(re.escape, fitting))
    ends = {name.split(".", cut)[-1] for name in layers for cut in range(name.count(".") + 1)}
    for name in chosen:
        if name not in ends:
            message = f"peft_lora_target_modules: {name!r} ends the name of no linear and no convolution of the base"
            raise BadSpec(message, did_you_mean(name, sorted(ends)))
    return list(chosen)


def begin_from(denoiser: torch.nn.Module, path: Path, config: TrainConfig) -> None:
    """Fill the attached adapter with a LoRA file of the same rank, alpha and targets, as diffusers writes it.

    `BadSpec` in one sentence for a file that cannot be read, is of another format, or does not fit.
    """
    weights, header = _read_file(path)
    expected = state_of(denoiser)
    foreign = sorted(key for key in weights if key.partition(".")[0] not in _PARTS)
    if foreign:
        hint = "a LoRA of the denoiser alone, as diffusers writes it: unet.<module>.lora_A.weight"
        raise BadSpec(f"init_lora: {path.name} holds {foreign[0]!r}", hint)
    given = {key.partition(".")[2]: tensor for key, tensor in weights.items()}
    hint = "rank, targets and use_dora must be those that the file was made with"
    if differs := sorted(given.keys() ^ expected.keys()):
        says = "adapts" if differs[0] in given else "does not adapt"
        raise BadSpec(f"init_lora: {path.name} {says} {differs[0]}, {len(differs)} differences in all", hint)
    for key, tensor in given.items():
        if tensor.shape != expected[key].shape:
            shapes = f"{_shape(tensor)} in {path.name} and {_shape(expected[key])} here"
            raise BadSpec(f"init_lora: {key} is {shapes}", hint)
        if not torch.isfinite(tensor).all():
            raise BadSpec(f"init_lora: {key} of {path.name} holds values that are not finite")
    _check_scale(header, next(iter(weights)).partition(".")[0], path, config)
    set_peft_model_state_dict(denoiser, {key: tensor.float() for key, tensor in given.items()}, adapter_name=_ADAPTER)


def _read_file(path: Path) -> tuple[dict[str, torch.Tensor], Mapping[str, str]]:
    try:
        with safe_open(path, "pt") as opened:
            weights = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            header: dict[str, str] = opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise BadSpec(f"init_lora: {path} cannot be read: {error}", "it must be a whole safetensors file") from error
    if not weights:
        raise BadSpec(f"init_lora: {path.name} holds no weights")
    return weights, header


def _check_scale(header: Mapping[str, str], part: str, path: Path, config: TrainConfig) -> None:
    """The same weights at another alpha would be another LoRA. Without metadata alpha is the rank, as for diffusers."""
    try:
        said = json.loads(header.get(_DIFFUSERS_KEY, "{}"))
        alpha = float(said.get(f"{part}.lora_alpha", config.lora_rank))
        rslora = bool(said.get(f"{part}.use_rslora", False))
    except (ValueError, TypeError, AttributeError) as error:
        raise BadSpec(f"init_lora: the metadata of {path.name} cannot be read: {error}") from error
    if alpha != config.alpha:
        hint = f"set lora_alpha to {alpha:g}"
        raise BadSpec(f"init_lora: {path.name} was made with alpha {alpha:g}, lora_alpha is {config.alpha:g}", hint)
    if rslora != config.use_rslora:
        hint = f"set use_rslora to {str(rslora).lower()}"
        raise BadSpec(f"init_lora: {path.name} was made {'with' if rslora else 'without'} rsLoRA", hint)


def _shape(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def state_of(denoiser: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The adapter's weights, by PEFT's names."""
    state: dict[str, torch.Tensor] = get_peft_model_state_dict(denoiser, adapter_name=_ADAPTER)
    return state


def config_of(denoiser: torch.nn.Module) -> LoraConfig:
    """What the adapter was made with."""
    made: LoraConfig = denoiser.peft_config[_ADAPTER]
    return made


def writer(
    adapted: Mapping[str, torch.nn.Module], metadata: Mapping[str, str]
) -> Callable[[Mapping[str, torch.Tensor], str], None]:
    """A `save_function` for diffusers that writes the same bytes for the same weights, with all metadata.

    `adapted` maps diffusers' prefix of each adapted part (``unet``) to the part.
    """
    configs: dict[str, Any] = {}
    for prefix, part in adapted.items():
        # diffusers puts what it loads into training mode, so that a dropout in the file would drop when painting.
        made = {**part.peft_config[_ADAPTER].to_dict(), "lora_dropout": 0.0}
        configs |= {f"{prefix}.{key}": _sorted(value) for key, value in made.items()}
    header = {"format": "pt", _DIFFUSERS_KEY: json.dumps(configs, indent=2, sort_keys=True), **metadata}

    def save(weights: Mapping[str, torch.Tensor], path: str) -> None:
        write_safetensors(Path(path), weights, header)

    return save


def _sorted(value: Any) -> Any:
    """Sets as sorted lists: their own order changes from process to process."""
    return sorted(value) if isinstance(value, set | frozenset) else value
