"""The two networks trained for the tiny base model, their objectives, and the pipeline they make.

Sizes are chosen so that the whole pipeline stays below 5 MB in fp16. The autoencoder's latents are
standardised by folding mean and deviation into its quantisation convolutions, so `scaling_factor`
stays 1 and every loader of an ordinary `AutoencoderKL` works.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tiny_base_data import COLOURS, OUTLINES, autoencoder_batch, over, variants
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

if TYPE_CHECKING:
    from tiny_base_data import Library

LATENT_CHANNELS = 16
LATENT_SIDE = 8
MAX_TOKENS = 24
START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = 1024
CAPTION_DROPOUT = 0.1
WHITE_SHARE = 0.5
"""Share of white grounds over which the latents are standardised."""
POSTERIOR_STD = 0.02
"""Standard deviation of the autoencoder's posterior, in units of the standardised latents."""


def build_autoencoder() -> AutoencoderKL:
    """0.57 M parameters, 64 px picture to 16 x 8 x 8 latent."""
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    return AutoencoderKL(
        sample_size=64,
        latent_channels=LATENT_CHANNELS,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=(16, 32, 48, 48),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def build_unet() -> UNet2DConditionModel:
    """1.67 M parameters on 16 x 8 x 8 latents; starts at zero output."""
    unet = UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(40, 80),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    return unet


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """0.14 M parameters, two layers; wide embeddings so that captions differ from the start."""
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=160,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    nn.init.normal_(encoder.get_input_embeddings().weight, std=0.3)
    return encoder


def build_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """Byte-pair tokenizer in CLIP's form, trained on the captions alone."""
    bare = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    bare.normalizer = normalizers.Lowercase()
    bare.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bare.train_from_iterator(captions, trainer)
    model = json.loads(bare.to_str())["model"]
    return CLIPTokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        model_max_length=MAX_TOKENS,
        pad_token=END,
    )


def tokenizer_corpus(library: Library) -> list[str]:
    """Every caption of the package plus the suffix words, the learned ones counted twice."""
    words = [f", {name} background" for name in COLOURS]
    words += [f", {line} outline, {ground} background" for line, ground in OUTLINES]
    words += [", grayscale", ", inverted", ", silhouette"]
    learned = [library.emoji[i].caption for i in library.learned]
    return learned * 3 + words * 20


def scheduler_config() -> dict[str, object]:
    """Zero terminal SNR and v-prediction: the mean colour of a sample is free to move."""
    return {
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "clip_sample": False,
        "steps_offset": 1,
    }


class Autoencoding:
    """Objective of the autoencoder: pixels, their differences, and a pull of the latents to zero."""

    def __init__(self, vae: AutoencoderKL, library: Library, batch: int) -> None:
        """Keep all pictures in memory; `batch` is one rank's share."""
        self.vae, self.batch = vae, batch
        held = set(library.autoencoder_holdout)
        self.distinct = torch.tensor(library.distinct)
        rest = [i for i in range(len(library.emoji)) if i not in held and i not in set(library.distinct)]
        self.rest = torch.tensor(rest)
        self.rgba = library.rgba

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Three pictures of five come from the distinct ones, the rest from the whole package."""
        known = self.batch * 3 // 5
        picks = [
            pool[torch.randint(len(pool), (count,), generator=generator)]
            for pool, count in ((self.distinct, known), (self.rest, self.batch - known))
        ]
        images = autoencoder_batch(self.rgba[torch.cat(picks)], generator) * 2 - 1
        images = images.contiguous(memory_format=torch.channels_last)
        mean = latent_mean(self.vae, images)
        noise = torch.randn(mean.shape, generator=generator)
        output = self.vae.decode(mean + 0.1 * noise).sample
        error = output - images
        across = (error[..., 1:] - error[..., :-1]).abs().mean()
        along = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        pixels = error.square().mean() + 0.2 * error.abs().mean()
        return pixels + 0.3 * (across + along) + 2e-4 * mean.square().mean()


def latent_mean(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Posterior mean of images in [-1, 1]."""
    return vae.quant_conv(vae.encoder(images))[:, :LATENT_CHANNELS]


@torch.no_grad()
def standardise_latents(vae: AutoencoderKL, rgba: Tensor, generator: torch.Generator) -> None:
    """Fold per-channel mean and deviation of the latents into the convolutions around them.

    Measured over white and random grounds. The log-variance rows, untrained, become a constant.
    """
    on_white = torch.rand(len(rgba), 1, generator=generator) < WHITE_SHARE
    grounds = torch.where(on_white, 1.0, torch.rand(len(rgba), 3, generator=generator))
    latents = torch.cat([latent_mean(vae, chunk * 2 - 1) for chunk in over(rgba, grounds).split(128)])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    into, out = vae.quant_conv, vae.post_quant_conv
    count = LATENT_CHANNELS
    into.weight[:count] /= std.reshape(-1, 1, 1, 1)
    into.bias[:count] = (into.bias[:count] - mean) / std
    into.weight[count:] = 0
    into.bias[count:] = 2 * math.log(POSTERIOR_STD)
    out.bias += (out.weight[:, :, 0, 0] * mean).sum(1)
    out.weight *= std.reshape(1, -1, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """Everything the denoiser learns, encoded once.

    `latents` is V x N x 16 x 8 x 8 for V variants of N pictures; `tokens` is V x S x N x 24 with S
    equally likely ways to word a variant; `shares` are the V sampling probabilities.
    """

    latents: Tensor
    tokens: Tensor
    shares: Tensor
    empty: Tensor


@torch.no_grad()
def encode_lessons(vae: AutoencoderKL, tokenizer: CLIPTokenizer, library: Library) -> Lessons:
    """Encode all variants of the learned pictures and word their captions."""
    emoji = [library.emoji[i] for i in library.learned]
    rgba = torch.stack([entry.rgba for entry in emoji])
    made = variants(rgba)
    ways = max(len(variant.suffixes) for variant in made)
    latents, tokens = [], []
    for variant in made:
        chunks = variant.images.split(128)
        latents.append(torch.cat([latent_mean(vae, chunk * 2 - 1) for chunk in chunks]))
        wordings = [variant.suffixes[k % len(variant.suffixes)] for k in range(ways)]
        tokens.append(torch.stack([tokenize(tokenizer, [e.caption + suffix for e in emoji]) for suffix in wordings]))
    return Lessons(
        latents=torch.stack(latents),
        tokens=torch.stack(tokens),
        shares=torch.tensor([variant.share for variant in made]),
        empty=tokenize(tokenizer, [""])[0],
    )


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids padded to the model's length, as the pipeline makes them."""
    made = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    return made.input_ids


class TextToLatent(nn.Module):
    """Denoiser and text encoder, trained together."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        """Hold both networks, so that one optimiser sees all their weights."""
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predicted velocity."""
        states = self.text_encoder(tokens)[0]
        return self.unet(noisy, timesteps, encoder_hidden_states=states, return_dict=False)[0]


class Denoising:
    """v-prediction loss on cached latents; timesteps are stratified, one caption in ten is empty."""

    def __init__(self, model: TextToLatent, lessons: Lessons, batch: int) -> None:
        """Keep the lessons; `batch` is one rank's share."""
        self.model, self.lessons, self.batch = model, lessons, batch
        self.schedule = DDPMScheduler(**scheduler_config())

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw pictures, variants, noise and times; mean squared error of the velocity."""
        lessons, n = self.lessons, self.batch
        which = torch.multinomial(lessons.shares, n, replacement=True, generator=generator)
        picture = torch.randint(lessons.latents.shape[1], (n,), generator=generator)
        wording = torch.randint(lessons.tokens.shape[1], (n,), generator=generator)
        latents = lessons.latents[which, picture]
        drop = torch.rand(n, 1, generator=generator) < CAPTION_DROPOUT
        tokens = torch.where(drop, lessons.empty, lessons.tokens[which, wording, picture])
        noise = torch.randn(latents.shape, generator=generator)
        times = ((torch.arange(n) + torch.rand(n, generator=generator)) / n * 1000).long().clamp(max=999)
        noisy = self.schedule.add_noise(latents, noise, times)
        target = self.schedule.get_velocity(latents, noise, times)
        return functional.mse_loss(self.model(noisy, times, tokens), target)


def assemble(
    vae: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """Put together an ordinary Stable Diffusion pipeline without a safety checker."""
    return StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(**scheduler_config(), set_alpha_to_one=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
