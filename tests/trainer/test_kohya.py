"""The file for kohya's sd-scripts and ComfyUI: diffusers reads it, and paints with it what training painted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, FluxPipeline, FluxTransformer2DModel
from safetensors import safe_open
from safetensors.torch import load_file

from simpletuner_trainer import kohya, lora
from simpletuner_trainer.models import Request, open_family
from simpletuner_trainer.spec import KOHYA_NAME, TrainConfig


def config_of(**keys: Any) -> TrainConfig:
    return TrainConfig(pretrained_model_name_or_path="x", **{"lora_rank": 3, **keys})


def trained(base: Path, family: str, **keys: Any) -> torch.nn.Module:
    """A denoiser whose adapter says something."""
    config = config_of(**keys)
    opened = open_family(family, base, device=torch.device("cpu"))
    denoiser = opened.load_denoiser(torch.float32)
    lora.attach(denoiser, config, opened.lora_targets(config.lora_target))
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=drawn))
            if "magnitude" in name:
                parameter.mul_(1 + 0.3 * torch.rand(parameter.shape, generator=drawn))
    return denoiser


BASES = {"sd": "micro_base", "sdxl": "xl_base", "flux": "flux_base"}


def in_training(base: Path, family: str, denoiser: torch.nn.Module) -> np.ndarray:
    """The validation image of these weights."""
    opened = open_family(family, base, device=torch.device("cpu"))
    request = Request(prompt=opened.encode_prompt("ring 2"), negative=opened.encode_prompt(""), size=(32, 32), steps=3,
                      guidance=2.5, seed=5)  # fmt: skip
    (image,) = opened.paint(denoiser.eval(), [request])
    return np.asarray(image).astype(int)


def loaded(base: Path, folder: Path) -> np.ndarray:
    """What diffusers paints with the file."""
    pipeline = DiffusionPipeline.from_pretrained(base)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(folder, weight_name=KOHYA_NAME)
    image = pipeline(
        "ring 2", num_inference_steps=3, guidance_scale=2.5, width=32, height=32, generator=torch.manual_seed(5)
    ).images[0]
    return np.asarray(image).astype(int)


@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("sd", {"lora_target": "all", "lora_alpha": 8}),
        ("sd", {"use_rslora": True, "lora_alpha": 2}),
        ("sdxl", {"lora_target": "all", "lora_alpha": 8}),
        ("flux", {"lora_alpha": 5, "peft_lora_target_modules": r"transformer_blocks\..*"}),
    ],
    ids=["sd", "rslora", "sdxl", "flux"],
)
def test_it_paints_what_training_painted(
    request: pytest.FixtureRequest, tmp_path: Path, family: str, keys: dict[str, Any]
) -> None:
    base = request.getfixturevalue(BASES[family])
    denoiser = trained(base, family, **keys)
    opened = open_family(family, base, device=torch.device("cpu"))
    opened.save_kohya(denoiser, tmp_path, {"ss_seed": "7"})
    image = in_training(base, family, denoiser)
    assert abs(loaded(base, tmp_path) - image).max() <= 2
    denoiser.disable_adapters()
    assert abs(in_training(base, family, denoiser) - image).max() > 20
    with safe_open(tmp_path / KOHYA_NAME, "pt") as file:
        header = file.metadata()
        kinds = {key.rpartition(".")[2]: file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118
    assert kinds == {"weight": torch.float16, "alpha": torch.float32}
    network = "networks.lora_flux" if family == "flux" else "networks.lora"
    assert header == {"format": "pt", "ss_seed": "7", "ss_network_module": network}


def updates(layers: dict[str, kohya.Layer]) -> dict[str, torch.Tensor]:
    return {name: layer.alpha / len(layer.down) * layer.up @ layer.down for name, layer in layers.items()}


@pytest.mark.parametrize("keys", [{"lora_target": "all"}, {"peft_lora_target_modules": ("to_q", "to_v", "proj_mlp")}])
def test_matrices_of_flux_become_one_with_the_same_update(flux_base: Path, keys: dict[str, Any]) -> None:
    denoiser = trained(flux_base, "flux", lora_alpha=8.0, **keys)
    ours, theirs = updates(kohya.layers_of(denoiser)), updates(kohya.flux(denoiser))
    block = "single_transformer_blocks.0"
    nothing = {"attn.to_q": 16, "attn.to_k": 16, "attn.to_v": 16, "proj_mlp": 64}
    stacked = [ours.get(f"{block}.{path}", torch.zeros(rows, 16)) for path, rows in nothing.items()]
    torch.testing.assert_close(theirs["single_blocks_0_linear1"], torch.cat(stacked))
    double = "transformer_blocks.1.attn"
    stacked = [ours.get(f"{double}.{path}", torch.zeros(16, 16)) for path in ("to_q", "to_k", "to_v")]
    torch.testing.assert_close(theirs["double_blocks_1_img_attn_qkv"], torch.cat(stacked))


def test_every_linear_of_flux_has_a_name(flux_base: Path) -> None:
    denoiser = trained(flux_base, "flux", peft_lora_target_modules=".*")
    linears = sum(isinstance(module, torch.nn.Linear) for module in denoiser.modules())
    assert len(kohya.layers_of(denoiser)) * 3 == linears, "each with its down and up"
    total = sum(float(update.abs().sum()) for update in updates(kohya.layers_of(denoiser)).values())
    named = sum(float(update.abs().sum()) for update in updates(kohya.flux(denoiser)).values())
    assert named == pytest.approx(total, rel=1e-5)


def test_diffusers_reads_the_single_blocks_of_the_real_width(tmp_path: Path) -> None:
    """Its reader counts on 3072: one block of that width, with zeros for weights, is enough."""
    targets = ["to_q", "to_k", "to_v", "proj_mlp", "0.proj_out"]
    with torch.device("meta"):
        denoiser = FluxTransformer2DModel(num_layers=0, num_single_layers=1, guidance_embeds=True)
        lora.attach(denoiser, config_of(lora_alpha=8.0), targets)
    drawn = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(tensor.shape, generator=drawn)
        for name, tensor in lora.state_of(denoiser).items()
    }  # fmt: skip
    paths = [name.removesuffix(".lora_A.weight") for name in state if "lora_A" in name]
    assert len(paths) == len(targets)
    denoiser.load_state_dict(
        {name.replace(".weight", ".default.weight"): tensor for name, tensor in state.items()},
        strict=False,
        assign=True,
    )
    kohya.write(tmp_path / KOHYA_NAME, kohya.flux(denoiser), {})
    read = FluxPipeline.lora_state_dict(tmp_path, weight_name=KOHYA_NAME)
    for path in paths:
        given = torch.randn(state[f"{path}.lora_A.weight"].shape[1], generator=drawn)
        expected = 8 / 3 * state[f"{path}.lora_B.weight"] @ (state[f"{path}.lora_A.weight"] @ given)
        down, up = (read[f"transformer.{path}.lora_{kind}.weight"].float() for kind in "AB")
        torch.testing.assert_close(up @ (down @ given), expected, rtol=5e-3, atol=1)
        assert expected.std() > 100


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_dora_has_the_length_of_every_row(request: pytest.FixtureRequest, tmp_path: Path, family: str) -> None:
    base = request.getfixturevalue(BASES[family])
    targets = ("to_q", "conv1") if family == "sd" else ("attn.to_q",)
    denoiser = trained(base, family, use_dora=True, peft_lora_target_modules=targets)
    kohya.write(tmp_path / KOHYA_NAME, (kohya.flux if family == "flux" else kohya.unet)(denoiser), {})
    written = load_file(tmp_path / KOHYA_NAME)
    scales = {key: tensor for key, tensor in written.items() if key.endswith(".dora_scale")}
    assert {tensor[0].numel() for tensor in scales.values()} == {1}
    assert all(
        tensor.ndim == written[key.replace("dora_scale", "lora_down.weight")].ndim for key, tensor in scales.items()
    )
    if family == "flux":
        fused = scales["lora_unet_double_blocks_0_img_attn_qkv.dora_scale"].flatten()
        attention = denoiser.get_submodule("transformer_blocks.0.attn")
        magnitude = attention.to_q.lora_magnitude_vector["default"].weight
        torch.testing.assert_close(fused[:16].float(), magnitude.detach(), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(fused[16:32].float(), attention.to_k.weight.norm(dim=1), rtol=1e-3, atol=1e-3)
