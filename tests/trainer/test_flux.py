"""The flux family against diffusers itself, and how flow matching deals its noise out."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from simpletuner_trainer import lora
from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.models import Noised, open_family
from simpletuner_trainer.models.flux import packed, places_of_patches
from simpletuner_trainer.report import Exit
from simpletuner_trainer.schedule import quantiles
from simpletuner_trainer.spec import SpecError, TrainConfig, parse
from tests.trainer.trainer_kit import Job

CPU = torch.device("cpu")
DATA = [{"id": "d", "instance_data_dir": "d"}]


def flux_config(**keys: Any) -> TrainConfig:
    return TrainConfig(pretrained_model_name_or_path="x", model_family="flux", **keys)


@pytest.mark.parametrize("base", ["flux_base", "schnell_base"])
def test_the_loss_is_what_diffusers_own_calls_give(base: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(base)
    drawn = torch.Generator().manual_seed(3)
    latents, noise = (torch.randn(3, 4, 8, 12, generator=drawn) for _ in range(2))
    tokens, pooled = torch.randn(3, 9, 12, generator=drawn), torch.randn(3, 8, generator=drawn)

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    chosen = torch.tensor([0, 400, 999])
    times, sigmas = scheduler.timesteps[chosen], scheduler.sigmas[chosen]
    noisy = scheduler.scale_noise(latents, times, noise)
    transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer")
    guidance = torch.full((3,), 2.0) if base == "flux_base" else None
    with torch.no_grad():
        said = transformer(
            hidden_states=FluxPipeline._pack_latents(noisy, 3, 4, 8, 12), timestep=times / 1000, guidance=guidance,
            encoder_hidden_states=tokens, pooled_projections=pooled, txt_ids=torch.zeros(9, 3),
            img_ids=FluxPipeline._prepare_latent_image_ids(3, 4, 6, "cpu", torch.float32),
        ).sample  # fmt: skip
    velocity = FluxPipeline._unpack_latents(said, 8 * 4, 12 * 4, 4)
    expected = ((velocity - (noise - latents)) ** 2).flatten(1).mean(dim=1)

    family = open_family("flux", folder, device=CPU)
    row = torch.nn.functional.pad(pooled, (0, 4))[:, None]
    batch = Noised(latents=latents, noise=noise, timesteps=sigmas, prompts=torch.cat([tokens, row], dim=1),
                   places=torch.zeros(3, 6, dtype=torch.int64))  # fmt: skip
    with torch.no_grad():
        found = family.losses(family.load_denoiser(torch.float32), batch, flux_config(flux_guidance_value=2.0))
        other = family.losses(family.load_denoiser(torch.float32), batch, flux_config(flux_guidance_value=5.0))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(found, other) == (base == "schnell_base"), "only a base with guidance is told one"


def test_patches_lie_as_the_pipeline_lays_them() -> None:
    latents = torch.randn(2, 4, 6, 10)
    assert torch.equal(packed(latents), FluxPipeline._pack_latents(latents, 2, 4, 6, 10))
    laid = FluxPipeline._prepare_latent_image_ids(2, 3, 5, "cpu", torch.float32)
    assert torch.equal(places_of_patches(6, 10), laid)


@pytest.mark.parametrize(("base", "length"), [("flux_base", 512), ("schnell_base", 256)])
def test_encoders_say_what_the_pipeline_says(base: str, length: int, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(base)
    family = open_family("flux", folder, device=CPU)
    pipeline = FluxPipeline.from_pretrained(folder)
    with torch.no_grad():
        tokens, pooled, _ = pipeline.encode_prompt("a cat, sitting", device=CPU, max_sequence_length=length)
    found = family.encode_prompt("a cat, sitting")
    assert torch.equal(found[:-1], tokens[0])
    assert torch.equal(found[-1, :8], pooled[0])
    assert not found[-1, 8:].any()
    moments = family.encode_image(torch.linspace(-1, 1, 3 * 32 * 32).reshape(3, 32, 32))
    posterior = pipeline.vae.encode(torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)).latent_dist
    scaled = (posterior.mode() - 0.1159) * 0.3611
    assert torch.allclose(family.latents(moments[None], torch.zeros(1, 4, 8, 8)), scaled)
    assert (family.edge_multiple, family.native_edge) == (8, 512)


# --------------------------------------------------------------------------------------------------------------- noise


def sigmas_of(base: Path, size: tuple[int, int] = (8, 8), **keys: Any) -> torch.Tensor:
    family = open_family("flux", base, device=CPU)
    drawn = torch.cat([quantiles(0, micro, 8) for micro in range(250)])
    return family.timesteps(drawn, size, flux_config(**keys)).double()


def test_sigmas_are_uniform_or_the_sigmoid_of_a_normal(flux_base: Path) -> None:
    uniform = sigmas_of(flux_base, flow_use_uniform_schedule=True, flow_schedule_shift=0)
    assert torch.allclose(uniform.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)),
                          torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), atol=0.01)  # fmt: skip
    for scale in (1.0, 2.0):
        normal = torch.logit(sigmas_of(flux_base, flow_schedule_shift=0, flow_sigmoid_scale=scale))
        assert abs(normal.mean()) < 0.02
        assert normal.std() == pytest.approx(scale, rel=0.02)


def test_sigmas_are_shifted_as_the_scheduler_shifts_them(flux_base: Path) -> None:
    plain = sigmas_of(flux_base, flow_schedule_shift=0)
    static = FlowMatchEulerDiscreteScheduler(shift=3.0)
    static.set_timesteps(sigmas=plain.tolist())
    torch.testing.assert_close(sigmas_of(flux_base), static.sigmas[:-1].double(), rtol=1e-5, atol=1e-6)
    dynamic = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    dynamic.set_timesteps(sigmas=plain.tolist(), mu=calculate_shift(64 * 96 // 4))
    found = sigmas_of(flux_base, (64, 96), flow_schedule_auto_shift=True)
    torch.testing.assert_close(found, dynamic.sigmas[:-1].double(), rtol=1e-5, atol=1e-6)


def test_no_quantile_gives_a_sigma_that_is_not_a_number(flux_base: Path) -> None:
    family = open_family("flux", flux_base, device=CPU)
    ends = family.timesteps(torch.tensor([0.0, 1.0], dtype=torch.float64), (8, 8), flux_config())
    assert ends.tolist() == [0.0, 1.0]
    assert ends.dtype == torch.float32


@pytest.mark.parametrize(
    ("keys", "path", "hint"),
    [
        (
            {"model_family": "flux", "snr_gamma": 5},
            "config.snr_gamma",
            "flow_schedule_shift and flow_sigmoid_scale say",
        ),
        ({"flow_schedule_shift": 1}, "config.flow_schedule_shift", "flux alone learns by flow matching"),
        ({"model_family": "sdxl", "flux_guidance_value": 3}, "config.flux_guidance_value", "flux alone"),
        (
            {"model_family": "flux", "flow_use_uniform_schedule": True, "flow_sigmoid_scale": 2},
            "config.flow_sigmoid_scale",
            "keep one of the two",
        ),
        ({"single_file_config": "a"}, "config.single_file_config", "leave it out"),
        ({"model_family": "flux", "flux_guidance_mode": "random-range"}, "config.flux_guidance_mode", ""),
    ],
)
def test_keys_that_contradict(keys: dict[str, Any], path: str, hint: str) -> None:
    with pytest.raises(SpecError) as wrong:
        parse({"pretrained_model_name_or_path": "x", "max_train_steps": 1, **keys}, DATA)
    (problem,) = wrong.value.problems
    assert problem.path == path
    assert hint in problem.hint


# -------------------------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize(("preset", "missing"), [("attention", {"ff", "norm"}), ("all", set())])
def test_what_a_preset_adapts(flux_base: Path, preset: str, missing: set[str]) -> None:
    family = open_family("flux", flux_base, device=CPU)
    denoiser = family.load_denoiser(torch.float32)
    linears = {name for name, module in denoiser.named_modules() if isinstance(module, torch.nn.Linear)}
    lora.attach(denoiser, flux_config(lora_target=preset), family.lora_targets(preset))
    adapted = {name for name, module in denoiser.named_modules() if isinstance(module, LoraLayer)}
    in_blocks = {name for name in linears if "transformer_blocks." in name}
    assert adapted <= in_blocks
    assert {name.split(".")[2].removesuffix("_context") for name in in_blocks - adapted} >= missing
    if preset == "all":
        assert adapted == in_blocks


def test_a_full_fine_tune_is_a_whole_pipeline(job: Callable[..., Job], schnell_base: Path) -> None:
    config = {"model_family": "flux", "pretrained_model_name_or_path": str(schnell_base), "model_type": "full",
              "max_train_steps": 2, "learning_rate": 1e-3, "resolution": 32, "gradient_checkpointing": True}  # fmt: skip
    made = job(config=config)
    assert made.run() == Exit.DONE
    before = load_file(schnell_base / "transformer" / "diffusion_pytorch_model.safetensors")
    after = FluxPipeline.from_pretrained(made.output).transformer.state_dict()
    assert sum(not torch.equal(tensor, after[name]) for name, tensor in before.items()) > 0.9 * len(before)


@pytest.mark.parametrize(
    ("part", "changes", "says"),
    [
        ("transformer/config.json", {"in_channels": 64}, "takes 64 channels, patches of its latents have 16"),
        ("transformer/config.json", {"pooled_projection_dim": 99}, r"pooled embedding \(99\) is wider"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "scheduler is DDIMScheduler"),
    ],
)
def test_bases_that_cannot_be_trained(
    flux_base: Path, tmp_path: Path, part: str, changes: dict[str, Any], says: str
) -> None:
    shutil.copytree(flux_base, tmp_path / "other")
    path = tmp_path / "other" / part
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")
    with pytest.raises(BadSpec, match=says):
        open_family("flux", tmp_path / "other", device=CPU)


def test_auto_shift_grows_with_the_picture() -> None:
    from simpletuner_trainer.models.flow import shift_for

    dynamic = {"use_dynamic_shifting": True}
    assert shift_for(256, dynamic) == pytest.approx(math.exp(0.5))
    assert shift_for(4096, dynamic) == pytest.approx(math.exp(1.15))
    assert shift_for(4096, {**dynamic, "max_shift": 2.0}) == pytest.approx(math.exp(2.0))


@pytest.mark.parametrize("side", [16, 64])
@pytest.mark.parametrize(
    "made",
    [
        {"use_dynamic_shifting": True, "shift": 3.0},  # dev
        {"shift": 1.0},  # schnell
        {"shift": 2.5},
        {"use_dynamic_shifting": True, "time_shift_type": "linear", "base_shift": 0.7},
    ],
)
def test_auto_shift_is_what_the_base_paints_with(made: dict[str, Any], side: int) -> None:
    from simpletuner_trainer.models.flow import shift_for, shifted

    scheduler, drawn = FlowMatchEulerDiscreteScheduler(**made), [0.75, 0.5, 0.25]
    known = scheduler.config
    mu = calculate_shift(
        side * side, known.base_image_seq_len, known.max_image_seq_len, known.base_shift, known.max_shift
    )
    scheduler.set_timesteps(sigmas=drawn, mu=mu)
    assert torch.allclose(shifted(torch.tensor(drawn), shift_for(side * side, known)), scheduler.sigmas[:3], atol=1e-6)
