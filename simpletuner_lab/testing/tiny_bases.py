"""Bases of a few thousand parameters, with random weights from a fixed seed: to train anything with, in seconds and offline.

They paint noise, before a training and after it; what they are good for is that everything else about them is real.
Torch and diffusers are imported when a base is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_SCALED: Final = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULES: Final[Mapping[str, Mapping[str, Any]]] = {
    "epsilon": {**_SCALED, "prediction_type": "epsilon", "rescale_betas_zero_snr": False},
    "velocity": {**_SCALED, "prediction_type": "v_prediction", "rescale_betas_zero_snr": False},
    "zero-snr": {**_SCALED, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
}
"""What the published bases of Stable Diffusion 1.x and 2.x predict, and by which schedule."""


def make_base(folder: Path, **schedule: Any) -> Path:
    """A whole StableDiffusionPipeline: 32 px, f4, a tokenizer of single letters, velocity with zero terminal SNR.

    `schedule` changes members of its scheduler's configuration.
    """
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789,"]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(
        vocab={token: number for number, token in enumerate(vocabulary)}, merges=[], model_max_length=12,
        bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>",
    )  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=12, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8, attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8), latent_channels=4, norm_num_groups=2, layers_per_block=1, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, scaling_factor=0.5,
    )  # fmt: skip
    scheduler = DDIMScheduler(**{
        "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing", "clip_sample": False, "steps_offset": 1, **schedule,
    })  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def make_xl_base(folder: Path, base: Path) -> Path:
    """A whole StableDiffusionXLPipeline; VAE and tokenizer are those of `make_base`, in the folder `base`."""
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(1)
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")

    def text(**widths: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer), intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=12, bos_token_id=0, eos_token_id=1, pad_token_id=1, **widths,
        )  # fmt: skip

    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=20, attention_head_dim=2, norm_num_groups=4, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=10 + 6 * 4,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    pipeline = StableDiffusionXLPipeline(
        vae=AutoencoderKL.from_pretrained(base / "vae"), text_encoder=CLIPTextModel(text(hidden_size=8)),
        text_encoder_2=CLIPTextModelWithProjection(text(hidden_size=12, projection_dim=10)),
        tokenizer=tokenizer, tokenizer_2=tokenizer, unet=unet, scheduler=scheduler, add_watermarker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def make_flux_base(folder: Path, base: Path, *, guided: bool = True) -> Path:
    """A whole FluxPipeline with random weights; its CLIP and tokenizer are those of `make_base`."""
    import torch
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

    torch.manual_seed(2)
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789,"]
    tokenizer = T5TokenizerFast(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *letters], extra_ids=0,
        model_max_length=512,
    )  # fmt: skip
    text = T5Config(vocab_size=len(tokenizer), d_model=12, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=12, pooled_projection_dim=8, guidance_embeds=guided, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8), latent_channels=4, norm_num_groups=2, layers_per_block=1, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0 if guided else 1.0, use_dynamic_shifting=guided)
    pipeline = FluxPipeline(
        vae=vae, text_encoder=CLIPTextModel.from_pretrained(base / "text_encoder"), tokenizer_2=tokenizer,
        tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer"), text_encoder_2=T5EncoderModel(text),
        transformer=transformer, scheduler=scheduler,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder
