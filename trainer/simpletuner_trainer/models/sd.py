"""Stable Diffusion 1.x and 2.x, and everything shaped like them: AutoencoderKL, CLIP, UNet2DConditionModel.

The base's scheduler says what is predicted (noise or velocity) and whether the schedule ends in pure noise
(`rescale_betas_zero_snr`, arXiv 2305.08891); training follows it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import diffusers
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from simpletuner_trainer import lora
from simpletuner_trainer.base import PIPELINES, edges_of
from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.models import Noised, Request, folder_identity

_ATTENTION: Final = ("to_q", "to_k", "to_v", "to_out.0")
_REST: Final = (
    "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "conv_shortcut", "conv_in", "conv_out",
    "time_emb_proj", "conv",
)  # fmt: skip
_ARCHITECTURES: Final = {768: "stable-diffusion-v1", 1024: "stable-diffusion-v2"}
"""By the width of the text embeddings; any other width is a base of one's own."""


_PREDICTIONS: Final = ("epsilon", "v_prediction")


class StableDiffusion:
    """The `sd` family (`simpletuner_trainer.models.Family`)."""

    pipeline_class: Any = StableDiffusionPipeline
    parts: tuple[str, ...] = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    """Folders of a base."""

    def __init__(self, base: Path, *, device: torch.device) -> None:
        self._base, self._device = base, device
        self._vae: Any = None
        self._text_encoder: Any = None
        self._tokenizer: Any = None
        self._noising = DDPMScheduler.from_config(read_config(base, "scheduler"))
        unet, vae = read_config(base, "unet"), read_config(base, "vae")
        self._text_width = int(unet["cross_attention_dim"])
        self._latent_scale = float(vae.get("scaling_factor", 0.18215))
        if unet["in_channels"] != vae["latent_channels"]:
            message = (
                f"the base's denoiser takes {unet['in_channels']} channels, its latents have {vae['latent_channels']}"
            )
            raise BadSpec(message, "an inpainting or depth base cannot be trained here")
        if (prediction := self._noising.config["prediction_type"]) not in _PREDICTIONS:
            message = f"the base's scheduler predicts {prediction!r}"
            raise BadSpec(message, f"a base of this family predicts {' or '.join(_PREDICTIONS)}")
        if vae.get("latents_mean") is not None or vae.get("latents_std") is not None:
            raise BadSpec("the base's VAE shifts its latents (latents_mean)", "such a base cannot be trained here")
        edges = edges_of(unet, vae)
        self.identity = folder_identity(base, self.parts)
        self.edge_multiple, self.native_edge = edges.multiple, edges.native
        self.timesteps = int(self._noising.config["num_train_timesteps"])

    @classmethod
    def open(cls, base: Path, *, device: torch.device) -> Self:
        """Check that `base` is a folder of this family's pipeline, with every part."""
        try:
            pipeline = json.loads((base / "model_index.json").read_text("utf-8")).get("_class_name", "")
        except (OSError, ValueError) as error:
            raise BadSpec(f"{base} is not a diffusers folder: {error}", "it needs a model_index.json") from error
        missing = [part for part in cls.parts if not (base / part).is_dir()]
        if pipeline != cls.pipeline_class.__name__:
            fitting = [name for name, made in PIPELINES.items() if made == pipeline]
            hint = f"set model_family to {fitting[0]}" if fitting else f"supported: {', '.join(PIPELINES.values())}"
            raise BadSpec(f"the base {base} is a {pipeline}, not a {cls.pipeline_class.__name__}", hint)
        if missing:
            raise BadSpec(f"the base {base} lacks {', '.join(missing)}", "download or copy it anew")
        return cls(base, device=device)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Mean and log-variance [2 * channels, H / f, W / f]."""
        if self._vae is None:
            self._vae = self._load_vae()
        with torch.no_grad():
            moments = self._vae.encode(pixels[None].to(self._device)).latent_dist.parameters
        return torch.as_tensor(moments[0].float().cpu())

    def encode_prompt(self, prompt: str) -> torch.Tensor:
        """Last hidden state [tokens, width], as the pipeline computes it."""
        if self._text_encoder is None:
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

    def release_encoders(self) -> None:
        """Drop both; validation loads the VAE again, which costs less than holding it through training."""
        self._vae = self._text_encoder = self._tokenizer = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def load_denoiser(self, dtype: torch.dtype) -> torch.nn.Module:
        """The UNet, frozen."""
        unet: torch.nn.Module = UNet2DConditionModel.from_pretrained(self._base, subfolder="unet", torch_dtype=dtype)
        return unet.requires_grad_(False)

    def lora_targets(self, preset: str) -> Sequence[str]:
        """`attention`: the four projections; `all`: every linear and convolution of the blocks as well."""
        return _ATTENTION if preset == "attention" else (*_ATTENTION, *_REST)

    def latents(self, moments: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Sample the VAE's posterior (log-variance clamped as diffusers does) and scale."""
        mean, log_variance = moments.chunk(2, dim=1)
        return (mean + torch.exp(0.5 * log_variance.clamp(-30.0, 20.0)) * noise) * self._latent_scale

    def losses(self, denoiser: torch.nn.Module, batch: Noised, snr_gamma: float | None) -> torch.Tensor:
        """Mean squared error to the noise or the velocity, weighted by min-SNR where `snr_gamma` is set."""
        noisy = self._noising.add_noise(batch.latents, batch.noise, batch.timesteps)
        said = self._predict(denoiser, noisy, batch)
        velocity = self._noising.config["prediction_type"] == "v_prediction"
        target = self._noising.get_velocity(batch.latents, batch.noise, batch.timesteps) if velocity else batch.noise
        losses = torch.nn.functional.mse_loss(said.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
        return losses if snr_gamma is None else losses * self._min_snr(batch.timesteps, snr_gamma, velocity=velocity)

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

    def save_lora(self, denoiser: torch.nn.Module, folder: Path, metadata: Mapping[str, str]) -> None:
        """``pytorch_lora_weights.safetensors``; alpha and targets travel in its header."""
        self.pipeline_class.save_lora_weights(
            folder,
            unet_lora_layers=lora.state_of(denoiser),
            save_function=lora.writer({"unet": denoiser}, metadata),
        )

    def save_full(self, denoiser: torch.nn.Module, folder: Path) -> None:
        """The base's folder with the trained UNet in it."""
        for part in self.parts:
            if part != "unet":
                shutil.copytree(self._base / part, folder / part, dirs_exist_ok=True)
        shutil.copyfile(self._base / "model_index.json", folder / "model_index.json")
        denoiser.save_pretrained(folder / "unet")

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

    def _load_scheduler(self) -> Any:
        """The one that the base paints with."""
        scheduler_class = getattr(diffusers, read_config(self._base, "scheduler")["_class_name"])
        return scheduler_class.from_pretrained(self._base, subfolder="scheduler")

    def _load_vae(self) -> Any:
        vae = AutoencoderKL.from_pretrained(self._base, subfolder="vae", torch_dtype=torch.float32)
        return vae.to(self._device).requires_grad_(False)


def read_config(base: Path, part: str) -> dict[str, Any]:
    """A part's configuration; `BadSpec` when it cannot be read."""
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    try:
        config: dict[str, Any] = json.loads((base / part / name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadSpec(f"the base's {part}/{name} cannot be read: {error}") from error
    return config
