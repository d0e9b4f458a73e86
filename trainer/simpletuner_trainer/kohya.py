"""A LoRA once more under the names of kohya's sd-scripts, which ComfyUI, Forge and diffusers read as well.

Each adapted module has a down and an up matrix (fp16) under its path with underscores, and an alpha: its update is scaled
by alpha over the rank of down. A U-Net's paths are diffusers' own, which sd-scripts has for Stable Diffusion 1 and 2 and
turns into its own for XL. Flux' are those of its authors, whose transformer has one matrix where diffusers has several:
there the several become one of the sum of their ranks, which is the same update. DoRA's magnitudes are `dora_scale`.

diffusers' own reader (0.42) leaves out `dora_scale` and what lies around the blocks of Flux: it has its own file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from simpletuner_trainer import lora
from simpletuner_trainer.weights import write_safetensors

_PREFIX: Final = "lora_unet_"
"""Of transformers too."""

_FLUX_DOUBLE: Final[Mapping[str, tuple[str, ...]]] = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn_proj": ("attn.to_out.0",),
    "img_mlp_0": ("ff.net.0.proj",),
    "img_mlp_2": ("ff.net.2",),
    "img_mod_lin": ("norm1.linear",),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn_proj": ("attn.to_add_out",),
    "txt_mlp_0": ("ff_context.net.0.proj",),
    "txt_mlp_2": ("ff_context.net.2",),
    "txt_mod_lin": ("norm1_context.linear",),
}
_FLUX_SINGLE: Final[Mapping[str, tuple[str, ...]]] = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation_lin": ("norm.linear",),
}
_FLUX_AROUND: Final[Mapping[str, str]] = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in_in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in_out_layer": "time_text_embed.timestep_embedder.linear_2",
    "guidance_in_in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in_out_layer": "time_text_embed.guidance_embedder.linear_2",
    "vector_in_in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in_out_layer": "time_text_embed.text_embedder.linear_2",
    "final_layer_linear": "proj_out",
    "final_layer_adaLN_modulation_1": "norm_out.linear",
}
_HALVES_SWAPPED: Final = "final_layer_adaLN_modulation_1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The update of one module: alpha / rank * up @ down."""

    down: torch.Tensor
    """[rank, in] or [rank, in, h, w]."""
    up: torch.Tensor
    """[out, rank] or [out, rank, 1, 1]."""
    alpha: float
    magnitude: torch.Tensor | None = None
    """DoRA's, [out]."""


def write(path: Path, layers: Mapping[str, Layer], metadata: Mapping[str, str]) -> None:
    """Write `layers`, by kohya's names without the prefix, with `metadata` in the header."""
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        key = f"{_PREFIX}{name}"
        tensors |= {f"{key}.lora_down.weight": layer.down.half(), f"{key}.lora_up.weight": layer.up.half()}
        tensors[f"{key}.alpha"] = torch.tensor(layer.alpha)
        if layer.magnitude is not None:
            tensors[f"{key}.dora_scale"] = layer.magnitude.half().reshape(-1, *(1,) * (layer.down.ndim - 1))
    write_safetensors(path, tensors, {"format": "pt", **metadata})


def layers_of(denoiser: Any) -> dict[str, Layer]:
    """The adapter's layers by the path of the module, in diffusers' names. rsLoRA's scale becomes one of alpha."""
    made = lora.config_of(denoiser)
    state = {key.removesuffix(".weight"): tensor.detach().cpu() for key, tensor in lora.state_of(denoiser).items()}
    layers = {}
    for path in (key.removesuffix(".lora_A") for key in state if key.endswith(".lora_A")):
        down, magnitude = state[f"{path}.lora_A"], state.get(f"{path}.lora_magnitude_vector")
        layers[path] = Layer(
            down=down,
            up=state[f"{path}.lora_B"],
            alpha=made.lora_alpha * (math.sqrt(down.shape[0]) if made.use_rslora else 1.0),
            magnitude=None if magnitude is None else magnitude.flatten(),
        )
    return layers


def unet(denoiser: Any) -> dict[str, Layer]:
    """Layers of a U-Net by kohya's names."""
    return {path.replace(".", "_"): layer for path, layer in layers_of(denoiser).items()}


def flux(denoiser: Any) -> dict[str, Layer]:
    """Layers of a FluxTransformer2DModel by kohya's names."""
    layers, named = layers_of(denoiser), {}
    for name, paths in _flux_names(denoiser):
        if not any(path in layers for path in paths):
            continue
        named[name] = layers[paths[0]] if len(paths) == 1 else _as_one(denoiser, layers, paths)
        if name == _HALVES_SWAPPED:
            named[name] = _swapped(named[name])
    return named


def _flux_names(denoiser: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    for kinds, ours, theirs in (
        (_FLUX_DOUBLE, "transformer_blocks", "double_blocks"),
        (_FLUX_SINGLE, "single_transformer_blocks", "single_blocks"),
    ):
        for block in range(len(getattr(denoiser, ours))):
            for kind, paths in kinds.items():
                yield f"{theirs}_{block}_{kind}", tuple(f"{ours}.{block}.{path}" for path in paths)
    for name, path in _FLUX_AROUND.items():
        yield name, (path,)


def _as_one(denoiser: Any, layers: Mapping[str, Layer], paths: Sequence[str]) -> Layer:
    """The layer of one matrix that holds those of `paths` one under the other; some of them may not be adapted."""
    adapted = [layers[path] for path in paths if path in layers]
    heights = {path: denoiser.get_submodule(path).weight.shape[0] for path in paths}
    up = adapted[0].up.new_zeros(sum(heights.values()), sum(len(layer.down) for layer in adapted))
    row = column = 0
    for path in paths:
        if path in layers:
            rank = len(layers[path].down)
            up[row : row + heights[path], column : column + rank] = layers[path].up
            column += rank
        row += heights[path]
    magnitude = None
    if adapted[0].magnitude is not None:
        magnitude = torch.cat([_magnitude(denoiser, layers, path) for path in paths])
    return Layer(
        down=torch.cat([layer.down for layer in adapted]), up=up, alpha=sum(layer.alpha for layer in adapted),
        magnitude=magnitude,
    )  # fmt: skip


def _magnitude(denoiser: Any, layers: Mapping[str, Layer], path: str) -> torch.Tensor:
    """That of a layer, or what it is of a matrix that nothing changes."""
    if path in layers and (found := layers[path].magnitude) is not None:
        return found
    return torch.as_tensor(denoiser.get_submodule(path).weight.detach().float().norm(dim=1).cpu())


def _swapped(layer: Layer) -> Layer:
    """Shift and scale in the order that the authors of Flux have them in, which is not diffusers'."""
    magnitude = None if layer.magnitude is None else layer.magnitude.roll(len(layer.magnitude) // 2)
    return replace(layer, up=layer.up.roll(len(layer.up) // 2, 0), magnitude=magnitude)
