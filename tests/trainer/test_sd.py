"""The sd family: what the base's own configuration decides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.models import Noised, open_family
from simpletuner_trainer.models.sd import StableDiffusion
from simpletuner_trainer.spec import TrainConfig

CPU = torch.device("cpu")
PLAIN = TrainConfig(pretrained_model_name_or_path="x")
MIN_SNR = TrainConfig(pretrained_model_name_or_path="x", snr_gamma=5.0)


def altered(base: Path, folder: Path, part: str, name: str, **changes: object) -> Path:
    shutil.copytree(base, folder)
    path = folder / part / name
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")
    return folder


class Oracle(torch.nn.Module):
    """A denoiser that says what it is told."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *_: object, **__: object) -> tuple[torch.Tensor]:
        return (self.answer,)


def batch() -> Noised:
    drawn = torch.Generator().manual_seed(0)
    return Noised(
        latents=torch.randn(3, 4, 8, 8, generator=drawn), noise=torch.randn(3, 4, 8, 8, generator=drawn),
        timesteps=torch.tensor([0, 500, 999]), prompts=torch.zeros(3, 12, 8),
        places=torch.zeros(3, 6, dtype=torch.int64),
    )  # fmt: skip


def test_what_a_base_says_of_itself(micro_base: Path, tmp_path: Path) -> None:
    family = open_family("sd", micro_base, device=CPU)
    assert (family.edge_multiple, family.native_edge) == (8, 32)
    ends = family.timesteps(torch.tensor([0.0, 0.5, 0.9999, 1.0], dtype=torch.float64), (8, 8), PLAIN)
    assert ends.tolist() == [0, 500, 999, 999]
    shutil.copytree(micro_base, tmp_path / "same")
    assert open_family("sd", tmp_path / "same", device=CPU).identity == family.identity
    other = altered(micro_base, tmp_path / "other", "scheduler", "scheduler_config.json", beta_end=0.03)
    assert open_family("sd", other, device=CPU).identity != family.identity


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_target_is_what_the_bases_scheduler_predicts(micro_base: Path, tmp_path: Path, prediction: str) -> None:
    base = altered(micro_base, tmp_path / "b", "scheduler", "scheduler_config.json", prediction_type=prediction)
    family = StableDiffusion.open(base, device=CPU)
    made = batch()
    signal = family._noising.alphas_cumprod[made.timesteps].reshape(-1, 1, 1, 1)
    velocity = signal.sqrt() * made.noise - (1 - signal).sqrt() * made.latents
    target = made.noise if prediction == "epsilon" else velocity
    assert family.losses(Oracle(target), made, PLAIN).abs().max() < 1e-10
    assert torch.allclose(family.losses(Oracle(target + 2), made, PLAIN), torch.full((3,), 4.0))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weights(micro_base: Path, tmp_path: Path, prediction: str) -> None:
    """At SNR far above gamma the weight is gamma / SNR (+ 1); at SNR 0, where this schedule ends, 1 or 0: never NaN."""
    base = altered(micro_base, tmp_path / "b", "scheduler", "scheduler_config.json", prediction_type=prediction)
    family = StableDiffusion.open(base, device=CPU)
    made = batch()
    signal = family._noising.alphas_cumprod[made.timesteps]
    snr = signal / (1 - signal)
    target = made.noise
    if prediction == "v_prediction":
        spread = signal.reshape(-1, 1, 1, 1)
        target = spread.sqrt() * made.noise - (1 - spread).sqrt() * made.latents
    weights = family.losses(Oracle(target + 1), made, MIN_SNR)
    over = snr + 1 if prediction == "v_prediction" else snr
    assert weights[0] == pytest.approx(float(5 / over[0]), rel=1e-4)
    assert weights[2] == pytest.approx(0.0 if prediction == "v_prediction" else 1.0)


def test_encoders_say_what_the_pipeline_says(micro_base: Path) -> None:
    family = StableDiffusion.open(micro_base, device=CPU)
    pipeline = StableDiffusionPipeline.from_pretrained(micro_base, safety_checker=None)
    prompt, _ = pipeline.encode_prompt("a cat, sitting", CPU, 1, do_classifier_free_guidance=False)
    assert torch.equal(family.encode_prompt("a cat, sitting"), prompt[0])
    pixels = torch.linspace(-1, 1, 3 * 32 * 32).reshape(3, 32, 32)
    moments = family.encode_image(pixels)
    posterior = pipeline.vae.encode(pixels[None]).latent_dist
    assert torch.allclose(family.latents(moments[None], torch.zeros(1, 4, 8, 8)), posterior.mode() * 0.5)
    one = torch.ones(1, 4, 8, 8)
    assert torch.allclose(family.latents(moments[None], one), (posterior.mean + posterior.std) * 0.5)


def test_bases_that_cannot_be_trained(micro_base: Path, tmp_path: Path) -> None:
    inpainting = altered(micro_base, tmp_path / "inpainting", "unet", "config.json", in_channels=9)
    with pytest.raises(BadSpec, match="takes 9 channels"):
        StableDiffusion.open(inpainting, device=CPU)
    shutil.copytree(micro_base, tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "vae")
    with pytest.raises(BadSpec, match="lacks vae"):
        StableDiffusion.open(tmp_path / "half", device=CPU)
