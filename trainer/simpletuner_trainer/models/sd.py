"""Stable Diffusion 1.x and 2.x, and everything shaped like them: AutoencoderKL, CLIP, UNet2DConditionModel.

The base's scheduler says what is predicted (noise or velocity) and whether the schedule ends in pure noise
(`rescale_betas_zero_snr`, arXiv 2305.08891); training follows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from simpletuner_trainer.base import edges_of, schedule_fault
from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.models import Noised, Request
from simpletuner_trainer.models.folder import DiffusersFolder, loading, read_config

if TYPE_CHECKING:
    from simpletuner_trainer.spec import TrainConfig

_ATTENTION: Final = ("to_q", "to_k", "to_v", "to_out.0")
_REST: Final = (
    "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "conv_shortcut", "conv_in", "conv_out",
    "time_emb_proj", "conv",
)  # fmt: skip
_ARCHITECTURES: Final = {768: "stable-diffusion-v1", 1024: "stable-diffusion-v2"}
"""By the width of the text embeddings; any other width is a base of one's own."""


_PREDICTIONS: Final = ("epsilon", "v_prediction")


class StableDiffusion(DiffusersFolder):
    """The `sd` family (`simpletuner_trainer.models.Family`)."""

    pipeline_class: ClassVar[Any] = StableDiffusionPipeline
    parts: ClassVar[tuple[str, ...]] = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")

    def __init__(self, base: Path, *, device: torch.device) -> None:
        super().__init__(base, device=device)
        scheduler = read_config(base, "scheduler")
        if wrong := schedule_fault(scheduler):
            raise BadSpec(wrong, "a base of this family noises by betas, as DDPM does")
        self._noising = DDPMScheduler.from_config(scheduler)
        unet = read_config(base, "unet")
        self._text_width = int(unet["cross_attention_dim"])
        if unet["in_channels"] != self._latent_channels:
            message = (
                f"the base's denoiser takes {unet['in_channels']} channels, its latents have {self._latent_channels}"
            )
            raise BadSpec(message, "an inpainting or depth base cannot be trained here")
        if (prediction := self._noising.config["prediction_type"]) not in _PREDICTIONS:
            message = f"the base's scheduler predicts {prediction!r}"
            raise BadSpec(message, f"a base of this family predicts {' or '.join(_PREDICTIONS)}")
        edges = edges_of(unet, read_config(base, "vae"))
        self.edge_multiple, self.native_edge = edges.multiple, edges.native

    def encode_prompt(self, prompt: str) -> torch.Tensor:
        """Last hidden state [tokens, width], as the pipeline computes it."""
        if self._text_encoder is None:
            with loading("text encoder"):
                self._tokenizer = CLIPTokenizer.from_pretrained(self._base / "tokenizer")
                self._text_encoder = CLIPTextModel.from_pretrained(self._base / "text_encoder", dtype=torch.float32)
            self._text_encoder.to(self._device).requires_grad_(False)
        tokens = self._tokenizer(
            prompt,
            padding="max_length",
            max_length=self._tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        with torch.no_grad():
            return torch.as_tensor(self._text_encoder(tokens.to(self._device))[0][0].float().cpu())

    def load_denoiser(self, dtype: torch.dtype) -> torch.nn.Module:
        """The UNet, frozen."""
        with loading("unet"):
            unet: torch.nn.Module = UNet2DConditionModel.from_pretrained(
                self._base, subfolder="unet", torch_dtype=dtype
            )
        return unet.requires_grad_(False)

    def lora_targets(self, preset: str) -> Sequence[str]:
        """`attention`: the four projections; `all`: every linear and convolution of the blocks as well."""
        return _ATTENTION if preset == "attention" else (*_ATTENTION, *_REST)

    def timesteps(self, quantiles: torch.Tensor, size: tuple[int, int], config: TrainConfig) -> torch.Tensor:  # noqa: ARG002
        """Uniform over the schedule's steps: int64 [n]."""
        most = int(self._noising.config["num_train_timesteps"])
        return (quantiles * most).long().clamp_(max=most - 1)

    def losses(self, denoiser: torch.nn.Module, batch: Noised, config: TrainConfig) -> torch.Tensor:
        """Mean squared error to the noise or the velocity, weighted by min-SNR where it is asked for."""
        noisy = self._noising.add_noise(batch.latents, batch.noise, batch.timesteps)
        said = self._predict(denoiser, noisy, batch)
        velocity = self._noising.config["prediction_type"] == "v_prediction"
        target = self._noising.get_velocity(batch.latents, batch.noise, batch.timesteps) if velocity else batch.noise
        losses = torch.nn.functional.mse_loss(said.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
        if config.snr_gamma is None:
            return losses
        return losses * self._min_snr(batch.timesteps, config.snr_gamma, velocity=velocity)

    def _predict(self, denoiser: torch.nn.Module, noisy: torch.Tensor, batch: Noised) -> torch.Tensor:
        return torch.as_tensor(denoiser(noisy, batch.timesteps, batch.prompts, return_dict=False)[0])

    def _min_snr(self, timesteps: torch.Tensor, gamma: float, *, velocity: bool) -> torch.Tensor:
        """min(SNR, gamma) over SNR (noise) or SNR + 1 (velocity): arXiv 2303.09556, with the limit 1 or 0 at SNR 0."""
        signal = self._noising.alphas_cumprod.to(timesteps.device)[timesteps]
        snr = signal / (1.0 - signal)
        if velocity:
            return snr.clamp(max=gamma) / (snr + 1.0)
        return torch.where(snr > gamma, gamma / snr, torch.ones_like(snr))

    def paint(self, denoiser: torch.nn.Module, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """Through StableDiffusionPipeline itself, so that the picture is what its user will get."""
        pipeline = StableDiffusionPipeline(
            vae=self._load_vae(), text_encoder=None, tokenizer=None, unet=denoiser,
            scheduler=self._load_scheduler(),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        pipeline.set_progress_bar_config(disable=True)
        for request in requests:
            yield pipeline(
                prompt_embeds=request.prompt[None].to(self._device),
                negative_prompt_embeds=request.negative[None].to(self._device),
                width=request.size[0], height=request.size[1],
                num_inference_steps=request.steps, guidance_scale=request.guidance,
                generator=torch.Generator().manual_seed(request.seed),
            ).images[0]  # fmt: skip

    def describe(self) -> Mapping[str, str]:
        """Names that other programs look for."""
        velocity = self._noising.config["prediction_type"] == "v_prediction"
        return {
            "modelspec.architecture": _ARCHITECTURES.get(self._text_width, "stable-diffusion-custom"),
            "modelspec.prediction_type": "v" if velocity else "epsilon",
            "modelspec.implementation": "diffusers",
            "ss_v2": str(self._text_width == 1024),
            "ss_zero_terminal_snr": str(bool(self._noising.config["rescale_betas_zero_snr"])),
        }
