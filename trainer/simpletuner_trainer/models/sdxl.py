"""Stable Diffusion XL: two text encoders, and a UNet that is also told how its picture was scaled and cut (arXiv 2307.01952).

A prompt is one tensor: a row [width] a token, the penultimate states of both encoders side by side, and one row more
that holds the second encoder's pooled, projected embedding, filled up with zeros.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.models import Noised, Request
from simpletuner_trainer.models.folder import loading, read_config
from simpletuner_trainer.models.sd import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """The `sdxl` family (`simpletuner_trainer.models.Family`)."""

    pipeline_class: ClassVar[Any] = StableDiffusionXLPipeline
    parts = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")

    def __init__(self, base: Path, *, device: torch.device) -> None:
        super().__init__(base, device=device)
        self._pooled_width = int(read_config(base, "text_encoder_2")["projection_dim"])
        if self._pooled_width > self._text_width:
            message = (
                f"the base's pooled embedding ({self._pooled_width}) is wider than its tokens' ({self._text_width})"
            )
            raise BadSpec(message, "no base of Stable Diffusion XL is made so")
        index = json.loads((base / "model_index.json").read_text("utf-8"))
        self._zeroes_empty = bool(index.get("force_zeros_for_empty_prompt", True))

    def encode_prompt(self, prompt: str) -> torch.Tensor:
        """Rows [tokens + 1, width]; of the empty prompt all zeros where the base's pipeline has it so."""
        if self._text_encoder is None:
            with loading("text encoders"):
                self._tokenizer, self._text_encoder = self._load_tokenizers(), self._load_text_encoders()
        rows, pooled = [], torch.empty(0)
        for tokenizer, encoder in zip(self._tokenizer, self._text_encoder, strict=True):
            tokens = tokenizer(
                prompt,
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).input_ids
            with torch.no_grad():
                said = encoder(tokens.to(self._device), output_hidden_states=True)
            rows.append(said.hidden_states[-2][0].float().cpu())
            pooled = said[0].float().cpu()
        filled = torch.nn.functional.pad(pooled, (0, self._text_width - self._pooled_width))
        packed = torch.cat([torch.cat(rows, dim=-1), filled])
        return torch.zeros_like(packed) if self._zeroes_empty and not prompt else packed

    def paint(self, denoiser: torch.nn.Module, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """Through StableDiffusionXLPipeline itself, without its watermark."""
        pipeline = StableDiffusionXLPipeline(
            vae=self._load_vae(), text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None,
            unet=denoiser, scheduler=self._load_scheduler(), add_watermarker=False,
        )  # fmt: skip
        pipeline.set_progress_bar_config(disable=True)
        for request in requests:
            tokens, pooled = self._unpacked(request.prompt[None].to(self._device))
            negative_tokens, negative_pooled = self._unpacked(request.negative[None].to(self._device))
            yield pipeline(
                prompt_embeds=tokens, pooled_prompt_embeds=pooled,
                negative_prompt_embeds=negative_tokens, negative_pooled_prompt_embeds=negative_pooled,
                width=request.size[0], height=request.size[1],
                num_inference_steps=request.steps, guidance_scale=request.guidance,
                generator=torch.Generator().manual_seed(request.seed),
            ).images[0]  # fmt: skip

    def describe(self) -> Mapping[str, str]:
        """Names that other programs look for."""
        return {
            **super().describe(),
            "modelspec.architecture": "stable-diffusion-xl-v1-base",
            "ss_base_model_version": "sdxl_base_v1-0",
            "ss_v2": "False",
        }

    def _predict(self, denoiser: torch.nn.Module, noisy: torch.Tensor, batch: Noised) -> torch.Tensor:
        tokens, pooled = self._unpacked(batch.prompts)
        told = {"text_embeds": pooled, "time_ids": batch.places.to(pooled.dtype)}
        said = denoiser(noisy, batch.timesteps, tokens, added_cond_kwargs=told, return_dict=False)[0]
        return torch.as_tensor(said)

    def _unpacked(self, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [n, tokens, width] and pooled [n, pooled width]."""
        return prompts[:, :-1], prompts[:, -1, : self._pooled_width]

    def _load_tokenizers(self) -> tuple[Any, Any]:
        first, second = (CLIPTokenizer.from_pretrained(self._base / part) for part in ("tokenizer", "tokenizer_2"))
        return first, second

    def _load_text_encoders(self) -> tuple[Any, Any]:
        first = CLIPTextModel.from_pretrained(self._base / "text_encoder", dtype=torch.float32)
        second = CLIPTextModelWithProjection.from_pretrained(self._base / "text_encoder_2", dtype=torch.float32)
        first, second = (encoder.to(self._device).requires_grad_(False) for encoder in (first, second))
        return first, second
