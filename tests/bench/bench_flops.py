"""Floating-point operations that caching saves a step, of the real architectures. Counted on the meta device, never timed.

    python tests/bench/bench_flops.py

Nothing is computed and nothing downloaded: the layers are those of the published configurations below, without weights.
One image a step, a LoRA of rank 16 on the attention, forward and backward. Operations are not time: convolutions and
matrices run at different speeds, so the ratio is a ceiling in operations and says nothing of seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from peft import LoraConfig
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

RANK = 16
TOKENS = 77
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
VAE = {
    "block_out_channels": (128, 256, 512, 512), "down_block_types": ("DownEncoderBlock2D",) * 4, "latent_channels": 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4, "layers_per_block": 2, "sample_size": 512,
}  # fmt: skip
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_BIG_G = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "projection_dim": 1280, "hidden_act": "gelu",
}  # fmt: skip
UNET_15 = {
    "sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768,
    "attention_head_dim": 8, "layers_per_block": 2,
}  # fmt: skip
UNET_XL = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "layers_per_block": 2,
    "attention_head_dim": (5, 10, 20), "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What one step of a LoRA training computes."""

    name: str
    edge: int
    """Of the image, in pixels."""
    unet: Mapping[str, Any]
    text: tuple[tuple[type[torch.nn.Module], Mapping[str, Any]], ...]


ARCHITECTURES = (
    Architecture(name="SD 1.5", edge=512, unet=UNET_15, text=((CLIPTextModel, CLIP_L),)),
    Architecture(
        name="SDXL", edge=1024, unet=UNET_XL, text=((CLIPTextModel, CLIP_L), (CLIPTextModelWithProjection, CLIP_BIG_G))
    ),
)


def counted(work: Callable[[], object]) -> float:
    """Operations of a call, in 1e12 (a multiplication and an addition are two)."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e12


def train(made: Architecture) -> float:
    """Forward and backward of the denoiser."""
    unet = UNet2DConditionModel(**made.unet).requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))
    latents = torch.empty(1, 4, made.edge // 8, made.edge // 8)
    prompts = torch.empty(1, TOKENS, made.unet["cross_attention_dim"])
    told = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
    more = {"added_cond_kwargs": told} if "addition_embed_type" in made.unet else {}
    return counted(lambda: unet(latents, torch.zeros(1), prompts, **more).sample.sum().backward())


def encode_image(made: Architecture) -> float:
    vae = AutoencoderKL(**VAE)
    with torch.no_grad():
        return counted(lambda: vae.encode(torch.empty(1, 3, made.edge, made.edge)))


def encode_text(made: Architecture) -> float:
    tokens = torch.zeros(1, TOKENS, dtype=torch.int64)
    encoders = [cls(CLIPTextConfig(vocab_size=49408, max_position_embeddings=TOKENS, **how)) for cls, how in made.text]
    with torch.no_grad():
        return sum(counted(lambda encoder=encoder: encoder(tokens)) for encoder in encoders)


def main() -> None:
    for made in ARCHITECTURES:
        with torch.device("meta"):
            step, image, text = train(made), encode_image(made), encode_text(made)
        saved = image + text
        print(f"{made.name} at {made.edge} px, TFLOP a step: denoiser {step:.3f}, VAE {image:.3f}, text {text:.3f}")
        print(
            f"  caching saves {saved:.3f} of {step + saved:.3f}: {100 * saved / (step + saved):.0f} % of the operations, "
            f"a ceiling of {(step + saved) / step:.2f} x in operations, not in seconds"
        )


if __name__ == "__main__":
    main()
