"""FLUX.1 (dev, schnell) and everything shaped like them: a transformer over 2 x 2 patches of latents, CLIP and T5.

A prompt is one tensor: a row [width] a token of T5, and one row more that holds CLIP's pooled embedding, filled up with
zeros. Timesteps are sigmas (`models.flow`). A base that was distilled with guidance (dev) is told a guidance at each step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from simpletuner_trainer import kohya
from simpletuner_trainer.base import edges_of_patches
from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.models import Noised, Request, flow
from simpletuner_trainer.models.folder import DiffusersFolder, loading, read_config
from simpletuner_trainer.spec import KOHYA_NAME

if TYPE_CHECKING:
    from simpletuner_trainer.spec import TrainConfig

_ATTENTION: Final = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"
)  # fmt: skip
_REST: Final = (
    "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp",
    "norm.linear", "norm1.linear", "norm1_context.linear",
)  # fmt: skip
_SCHEDULER: Final = "FlowMatchEulerDiscreteScheduler"
_PATCH: Final = 2
_GUIDED_TOKENS: Final = 512
_TOKENS: Final = 256
"""T5 tokens of a prompt that a base with guidance (dev) and one without (schnell) were made for."""


class Flux(DiffusersFolder):
    """The `flux` family (`simpletuner_trainer.models.Family`)."""

    pipeline_class: ClassVar[Any] = FluxPipeline
    parts = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    denoiser_part = "transformer"

    def __init__(self, base: Path, *, device: torch.device) -> None:
        super().__init__(base, device=device)
        transformer, self._scheduler = read_config(base, "transformer"), read_config(base, "scheduler")
        if (name := self._scheduler.get("_class_name")) != _SCHEDULER:
            raise BadSpec(f"the base's scheduler is {name}", f"a base of this family has {_SCHEDULER}")
        if transformer["in_channels"] != self._latent_channels * _PATCH**2:
            message = f"the base's denoiser takes {transformer['in_channels']} channels, "
            message += f"patches of its latents have {self._latent_channels * _PATCH**2}"
            raise BadSpec(message, "a fill, depth or canny base cannot be trained here")
        self._text_width = int(transformer["joint_attention_dim"])
        self._pooled_width = int(transformer["pooled_projection_dim"])
        if self._pooled_width > self._text_width:
            message = (
                f"the base's pooled embedding ({self._pooled_width}) is wider than its tokens' ({self._text_width})"
            )
            raise BadSpec(message, "no base of Flux is made so")
        self._single_blocks = int(transformer["num_single_layers"])
        self._guided = bool(transformer.get("guidance_embeds", False))
        self._tokens = _GUIDED_TOKENS if self._guided else _TOKENS
        edges = edges_of_patches(read_config(base, "vae"))
        self.edge_multiple, self.native_edge = edges.multiple, edges.native

    def encode_prompt(self, prompt: str) -> torch.Tensor:
        """Rows [tokens + 1, width]."""
        if self._text_encoder is None:
            with loading("text encoders"):
                self._tokenizer, self._text_encoder = self._load_tokenizers(), self._load_text_encoders()
        rows = []
        for tokenizer, encoder, length, part in zip(
            self._tokenizer, self._text_encoder, (self._tokenizer[0].model_max_length, self._tokens),
            ("pooler_output", "last_hidden_state"), strict=True,
        ):  # fmt: skip
            tokens = tokenizer(
                prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            ).input_ids
            with torch.no_grad():
                rows.append(encoder(tokens.to(self._device))[part].float().cpu())
        pooled, sequence = rows
        filled = torch.nn.functional.pad(pooled, (0, self._text_width - self._pooled_width))
        return torch.cat([sequence[0], filled])

    def load_denoiser(self, dtype: torch.dtype) -> torch.nn.Module:
        """The transformer, frozen."""
        with loading("transformer"):
            transformer: torch.nn.Module = FluxTransformer2DModel.from_pretrained(
                self._base, subfolder="transformer", torch_dtype=dtype
            )
        return transformer.requires_grad_(False)

    def lora_targets(self, preset: str) -> Sequence[str]:
        """`attention`: the projections of picture and text; `all`: every linear of the blocks as well."""
        if preset == "attention":
            return _ATTENTION
        # The last layer of the whole transformer is called proj_out as well, and is in no block.
        return (*_ATTENTION, *_REST, *(f"{block}.proj_out" for block in range(self._single_blocks)))

    def timesteps(self, quantiles: torch.Tensor, size: tuple[int, int], config: TrainConfig) -> torch.Tensor:
        """Sigmas, fp32 [n]."""
        tokens = (size[0] // _PATCH) * (size[1] // _PATCH)
        return flow.sigmas(quantiles, config, auto_shift=flow.shift_for(tokens, self._scheduler))

    def losses(self, denoiser: torch.nn.Module, batch: Noised, config: TrainConfig) -> torch.Tensor:
        """Mean squared error to the direction from picture to noise."""
        noisy = flow.noisy(batch.latents, batch.noise, batch.timesteps)
        height, width = batch.latents.shape[-2:]
        tokens, pooled = self._unpacked(batch.prompts)
        guidance = torch.full_like(batch.timesteps, config.flux_guidance_value) if self._guided else None
        said = denoiser(
            hidden_states=packed(noisy), timestep=batch.timesteps, guidance=guidance,
            encoder_hidden_states=tokens, pooled_projections=pooled,
            txt_ids=tokens.new_zeros(tokens.shape[1], 3),
            img_ids=places_of_patches(height, width).to(tokens.device), return_dict=False,
        )[0]  # fmt: skip
        target = packed(batch.noise - batch.latents)
        losses = torch.nn.functional.mse_loss(said.float(), target.float(), reduction="none")
        return losses.mean(dim=(1, 2))

    def paint(self, denoiser: torch.nn.Module, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """Through FluxPipeline itself. Guidance is what the base is told; there is no negative prompt."""
        pipeline = FluxPipeline(
            vae=self._load_vae(), text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None,
            transformer=denoiser, scheduler=self._load_scheduler(),
        )  # fmt: skip
        pipeline.set_progress_bar_config(disable=True)
        for request in requests:
            tokens, pooled = self._unpacked(request.prompt[None].to(self._device))
            yield pipeline(
                prompt_embeds=tokens, pooled_prompt_embeds=pooled,
                width=request.size[0], height=request.size[1],
                num_inference_steps=request.steps, guidance_scale=request.guidance,
                generator=torch.Generator().manual_seed(request.seed),
            ).images[0]  # fmt: skip

    def save_kohya(self, denoiser: torch.nn.Module, folder: Path, metadata: Mapping[str, str]) -> None:
        """The file of `kohya`, with the matrices as the authors of Flux cut them."""
        kohya.write(folder / KOHYA_NAME, kohya.flux(denoiser), {"ss_network_module": "networks.lora_flux", **metadata})

    def describe(self) -> Mapping[str, str]:
        """Names that other programs look for."""
        return {
            "modelspec.architecture": "flux-1-dev" if self._guided else "flux-1-schnell",
            "modelspec.implementation": "diffusers",
            "ss_base_model_version": "flux1",
            "ss_v2": "False",
        }

    def _unpacked(self, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [n, tokens, width] and pooled [n, pooled width]."""
        return prompts[:, :-1], prompts[:, -1, : self._pooled_width]

    def _load_tokenizers(self) -> tuple[Any, Any]:
        first = CLIPTokenizer.from_pretrained(self._base / "tokenizer")
        return first, T5TokenizerFast.from_pretrained(self._base / "tokenizer_2")

    def _load_text_encoders(self) -> tuple[Any, Any]:
        """T5 as it is stored: at twice the width it has no room beside anything."""
        first = CLIPTextModel.from_pretrained(self._base / "text_encoder", dtype=torch.float32)
        second = T5EncoderModel.from_pretrained(self._base / "text_encoder_2", dtype="auto")
        first, second = (encoder.to(self._device).requires_grad_(False) for encoder in (first, second))
        return first, second


def packed(latents: torch.Tensor) -> torch.Tensor:
    """Latents [n, channels, h, w] as patches [n, h / 2 * w / 2, channels * 4], row by row."""
    count, channels, height, width = latents.shape
    patches = latents.reshape(count, channels, height // _PATCH, _PATCH, width // _PATCH, _PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * _PATCH**2)


def places_of_patches(height: int, width: int) -> torch.Tensor:
    """Where each patch of latents of this size lies, for the rotary embedding: fp32 [patches, 3] of (0, row, column)."""
    rows, columns = torch.meshgrid(
        torch.arange(height // _PATCH), torch.arange(width // _PATCH), indexing="ij"
    )  # fmt: skip
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float()
