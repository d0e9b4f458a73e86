"""Every family against diffusers itself: the loss, the prompts, and a whole training with each kind of base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file

from simpletuner_trainer.buckets import Fit
from simpletuner_trainer.data import Picture
from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.material import View
from simpletuner_trainer.models import Noised, open_family
from simpletuner_trainer.report import Exit
from simpletuner_trainer.spec import TrainConfig
from tests.trainer.trainer_kit import Job, sha256

CPU = torch.device("cpu")
LORA = "pytorch_lora_weights.safetensors"
Bases = Callable[[str], tuple[str, Path]]
UNETS = ["epsilon", "velocity", "zero-snr", "sdxl"]
KINDS = [*UNETS, "flux", pytest.param("schnell", marks=pytest.mark.slow)]
CONFIG = TrainConfig(pretrained_model_name_or_path="x")
SCHEDULES = {
    "epsilon": {"prediction_type": "epsilon", "rescale_betas_zero_snr": False},
    "velocity": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": False},
    "zero-snr": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
}


def scheduled(base: Path, folder: Path, **changes: object) -> Path:
    shutil.copytree(base, folder)
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")
    return folder


@pytest.fixture
def base_of(micro_base: Path, xl_base: Path, flux_base: Path, schnell_base: Path, tmp_path: Path) -> Bases:
    """Family and folder of a kind of base."""
    others = {"sdxl": ("sdxl", xl_base), "flux": ("flux", flux_base), "schnell": ("flux", schnell_base)}

    def make(kind: str) -> tuple[str, Path]:
        if kind in others:
            return others[kind]
        made = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, **SCHEDULES[kind]}
        return "sd", scheduled(micro_base, tmp_path / kind, **made)

    return make


@pytest.mark.parametrize("kind", UNETS)
def test_the_loss_is_what_diffusers_own_calls_give(base_of: Bases, kind: str) -> None:
    name, base = base_of(kind)
    drawn = torch.Generator().manual_seed(3)
    latents, noise = (torch.randn(3, 4, 8, 8, generator=drawn) for _ in range(2))
    timesteps = torch.tensor([0, 500, 999])
    width = 20 if name == "sdxl" else 8
    tokens, pooled = torch.randn(3, 12, width, generator=drawn), torch.randn(3, 10, generator=drawn)
    places = torch.tensor([[32, 48, 0, 3, 32, 40], [40, 40, 4, 0, 32, 32], [90, 70, 1, 2, 40, 24]])

    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    schedule = json.loads((base / "scheduler" / "scheduler_config.json").read_text("utf-8"))
    zero_snr = bool(schedule.get("rescale_betas_zero_snr", False))
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=zero_snr
    )
    noisy = scheduler.add_noise(latents, noise, timesteps)
    if zero_snr:
        assert torch.equal(noisy[2], noise[2]), "the last step of this schedule is noise alone"
    told = {"text_embeds": pooled, "time_ids": places.float()} if name == "sdxl" else None
    with torch.no_grad():
        said = unet(noisy, timesteps, tokens, added_cond_kwargs=told).sample
    velocity = schedule["prediction_type"] == "v_prediction"
    target = scheduler.get_velocity(latents, noise, timesteps) if velocity else noise
    expected = ((said - target) ** 2).flatten(1).mean(dim=1)

    filled = torch.cat([pooled, torch.zeros(3, width - 10)], dim=1)[:, None] if name == "sdxl" else tokens[:, :0]
    family = open_family(name, base, device=CPU)
    batch = Noised(
        latents=latents, noise=noise, timesteps=timesteps, prompts=torch.cat([tokens, filled], dim=1), places=places
    )
    with torch.no_grad():
        found = family.losses(family.load_denoiser(torch.float32), batch, CONFIG)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_the_size_and_crop_of_an_image_change_the_loss_of_sdxl(xl_base: Path) -> None:
    family = open_family("sdxl", xl_base, device=CPU)
    unet, drawn = family.load_denoiser(torch.float32), torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(1, 4, 8, 8, generator=drawn).repeat(2, 1, 1, 1) for _ in range(2))
    prompts = torch.randn(1, 13, 20, generator=drawn).repeat(2, 1, 1)
    places = torch.tensor([[32, 48, 0, 8, 32, 32], [32, 32, 0, 0, 32, 32]])
    batch = Noised(latents=latents, noise=noise, timesteps=torch.tensor([300, 300]), prompts=prompts, places=places)
    with torch.no_grad():
        first, second = family.losses(unet, batch, CONFIG)
    assert first != second


def test_a_place_is_height_before_width_and_top_before_left() -> None:
    picture = Picture(dataset="d", name="p.png", path=Path("p.png"), sha256="0" * 64, size=(480, 320), captions=("p",))
    placed = Fit(scaled=(48, 33), corner=(8, 1), size=(40, 32))
    assert View(picture=picture, fit=placed, mirrored=False, key="").place == (320, 480, 1, 8, 32, 40)


def test_prompts_of_sdxl_are_those_of_the_pipeline(xl_base: Path) -> None:
    family = open_family("sdxl", xl_base, device=CPU)
    pipeline = StableDiffusionXLPipeline.from_pretrained(xl_base)
    tokens, empty_tokens, pooled, empty_pooled = pipeline.encode_prompt("a cat, sitting", device=CPU)
    found = family.encode_prompt("a cat, sitting")
    assert torch.equal(found[:-1], tokens[0])
    assert torch.equal(found[-1, :10], pooled[0])
    assert not found[-1, 10:].any()
    empty = family.encode_prompt("")
    assert torch.equal(empty[:-1], empty_tokens[0])
    assert torch.equal(empty[-1, :10], empty_pooled[0])


@pytest.mark.parametrize("kind", KINDS)
def test_training_repeats_itself_and_its_lora_paints_what_training_painted(
    job: Callable[..., Job], base_of: Bases, kind: str
) -> None:
    name, base = base_of(kind)
    config = {
        "model_family": name, "pretrained_model_name_or_path": str(base), "lora_alpha": 8,
        "validation_prompt": "ring 2", "validation_num_inference_steps": 3, "validation_guidance": 2.5,
        "validation_resolution": 32, "validation_seed": 5, "validation_step_interval": 0, "max_train_steps": 4,
        "checkpoint_step_interval": 0, "resolution": 32,
    }  # fmt: skip
    made, again = job(kind, config=config), job(f"{kind}-again", config={**config, "validation_prompt": ""})
    assert (made.run(), again.run()) == (Exit.DONE, Exit.DONE)
    assert sha256(made.output / LORA) == sha256(again.output / LORA)

    pipeline = DiffusionPipeline.from_pretrained(base)
    pipeline.set_progress_bar_config(disable=True)
    length = {"max_sequence_length": 256} if kind == "schnell" else {}

    def paint() -> np.ndarray:
        return np.asarray(
            pipeline(
                "ring 2", num_inference_steps=3, guidance_scale=2.5, width=32, height=32,
                generator=torch.manual_seed(5), **length,
            ).images[0]
        )  # fmt: skip

    before, after = (np.asarray(Image.open(made.output / f"samples/step-0000000{step}-0.png")) for step in (0, 4))
    assert np.array_equal(paint(), before)
    pipeline.load_lora_weights(made.output, weight_name=LORA)
    assert np.array_equal(paint(), after)
    assert not np.array_equal(before, after)


def test_a_full_fine_tune_of_sdxl_is_a_whole_pipeline(job: Callable[..., Job], xl_base: Path) -> None:
    config = {"model_family": "sdxl", "pretrained_model_name_or_path": str(xl_base), "model_type": "full",
              "max_train_steps": 2, "learning_rate": 1e-3}  # fmt: skip
    made = job(config=config)
    assert made.run() == Exit.DONE
    before = load_file(xl_base / "unet" / "diffusion_pytorch_model.safetensors")
    after = StableDiffusionXLPipeline.from_pretrained(made.output).unet.state_dict()
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    assert len(changed) > 0.9 * len(before)


def test_a_base_of_another_family_is_refused_with_what_to_set(micro_base: Path, xl_base: Path) -> None:
    with pytest.raises(BadSpec, match="is a StableDiffusionPipeline, not a StableDiffusionXLPipeline") as wrong:
        open_family("sdxl", micro_base, device=CPU)
    assert wrong.value.hint == "set model_family to sd"
    with pytest.raises(BadSpec, match="is a StableDiffusionXLPipeline, not a StableDiffusionPipeline") as wrong:
        open_family("sd", xl_base, device=CPU)
    assert wrong.value.hint == "set model_family to sdxl"


def test_a_base_that_predicts_something_else_is_refused(micro_base: Path, tmp_path: Path) -> None:
    base = scheduled(micro_base, tmp_path / "other", prediction_type="sample")
    with pytest.raises(BadSpec, match="predicts 'sample'"):
        open_family("sd", base, device=CPU)
