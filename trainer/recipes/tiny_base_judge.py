"""Does the base draw what it is told, and does a style LoRA take? Numbers and a picture grid.

All measures compare samples with the pictures that have the same caption. Colours are in levels of
0 to 255. A LoRA here is trained by the plainest means, so that the base is judged and not a trainer.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from peft import LoraConfig
from PIL import Image
from tiny_base_fit import Plan, Run
from tiny_base_models import Denoising, Lessons, TextToLatent, latent_mean, tokenize
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import StableDiffusionPipeline

LORA_TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "conv_shortcut",
    "conv_in",
    "conv_out",
    "time_emb_proj",
    "conv",
)
"""Attention, feed-forward, residual and sampling convolutions of the UNet."""

SAMPLING_STEPS = 20
GUIDANCE = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Captions and their RGB pictures in [0, 1], N x 3 x 64 x 64."""

    captions: tuple[str, ...]
    images: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Closeness:
    """How near samples come to the target pictures of the same captions."""

    mean_colour: float
    """L2 distance between the mean RGB of all samples and of all targets."""
    picture_colour: float
    """The same per picture, then averaged."""
    edge_strength: float
    """Wasserstein-1 distance between the distributions of gradient magnitude, in levels."""
    edge_place: float
    """Correlation of blurred gradient magnitude with the own target, less that with the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraTrial:
    """One LoRA training: settings and measured cost."""

    rank: int
    pictures: int
    steps: int
    lr: float
    batch: int
    parameters: int
    cpu_s: float
    wall_s: float
    final_loss: float


def read_training(folder: Path) -> Pictures:
    """PNG files with .txt captions beside them."""
    files = sorted(folder.glob("*.png"))
    captions = tuple(f.with_suffix(".txt").read_text(encoding="utf-8").strip() for f in files)
    return Pictures(captions=captions, images=torch.stack([read_rgb(f) for f in files]))


def read_holdout(folder: Path) -> Pictures:
    """PNG files named with their captions in captions.json."""
    listed = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    images = torch.stack([read_rgb(folder / name) for name in listed])
    return Pictures(captions=tuple(listed.values()), images=images)


def read_rgb(file: Path) -> Tensor:
    """One picture as 3 x H x W in [0, 1]."""
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def write_rgb(image: Tensor, file: Path, *, colours: int | None = None) -> None:
    """Write 3 x H x W in [0, 1] as PNG, with a palette of at most `colours` if given."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels)
    if colours:
        picture = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    picture.save(file, optimize=True)


@torch.no_grad()
def sample(pipe: StableDiffusionPipeline, captions: tuple[str, ...], seed: int = 0) -> Tensor:
    """One picture per caption, each from its own seed, so that two models share their noise."""
    drawn = []
    for start in range(0, len(captions), 32):
        chunk = list(captions[start : start + 32])
        seeds = [torch.Generator().manual_seed(seed + start + k) for k in range(len(chunk))]
        made = pipe(
            chunk,
            num_inference_steps=SAMPLING_STEPS,
            guidance_scale=GUIDANCE,
            generator=seeds,
            height=64,
            width=64,
            output_type="pt",
        )
        drawn.append(made.images.float())
    return torch.cat(drawn)


def train_lora(
    pipe: StableDiffusionPipeline,
    pictures: Pictures,
    *,
    rank: int,
    steps: int,
    lr: float,
    batch: int = 16,
    seed: int = 0,
) -> LoraTrial:
    """Add a fresh adapter to the pipeline's UNet and train it; the text encoder stays frozen."""
    torch.manual_seed(seed)
    pipe.text_encoder.requires_grad_(False)
    pipe.unet.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(LORA_TARGETS))
    pipe.unet.add_adapter(config)
    with torch.no_grad():
        latents = latent_mean(pipe.vae, pictures.images * 2 - 1)
    lessons = Lessons(
        latents=latents[None],
        tokens=tokenize(pipe.tokenizer, list(pictures.captions))[None, None],
        shares=torch.ones(1),
        empty=tokenize(pipe.tokenizer, [""])[0],
    )
    model = TextToLatent(pipe.unet, pipe.text_encoder)
    run = Run(model, Plan(steps=steps, lr=lr, warmup_steps=30, decay_share=1.0, seed=seed))
    objective = Denoising(model, lessons, batch)
    cpu, wall = time.process_time(), time.monotonic()
    losses = [run.advance(objective, 0, 1) for _ in range(steps)]
    tail = losses[-max(1, steps // 10) :]
    return LoraTrial(
        rank=rank,
        pictures=len(pictures.captions),
        steps=steps,
        lr=lr,
        batch=batch,
        parameters=sum(p.numel() for p in run.params),
        cpu_s=round(time.process_time() - cpu, 1),
        wall_s=round(time.monotonic() - wall, 1),
        final_loss=round(sum(tail) / len(tail), 4),
    )


def closeness(samples: Tensor, targets: Tensor) -> Closeness:
    """Compare N samples with the N targets of the same captions."""
    means, wanted = samples.mean((2, 3)) * 255, targets.mean((2, 3)) * 255
    ours, theirs = gradient_magnitude(samples), gradient_magnitude(targets)
    sorted_ours, sorted_theirs = ours.flatten().sort().values, theirs.flatten().sort().values
    return Closeness(
        mean_colour=round(float((means.mean(0) - wanted.mean(0)).norm()), 1),
        picture_colour=round(float((means - wanted).norm(dim=1).mean()), 1),
        edge_strength=round(float((sorted_ours - sorted_theirs).abs().mean()), 2),
        edge_place=round(_own_less_others(ours, theirs), 3),
    )


def gradient_magnitude(images: Tensor) -> Tensor:
    """Largest channel's gradient magnitude from central differences, in levels, N x 1 x 62 x 62."""
    across = (images[..., 1:-1, 2:] - images[..., 1:-1, :-2]) / 2
    along = (images[..., 2:, 1:-1] - images[..., :-2, 1:-1]) / 2
    return (across.square() + along.square()).sqrt().amax(1, keepdim=True) * 255


def _own_less_others(ours: Tensor, theirs: Tensor) -> float:
    """Mean correlation with the own target minus the mean correlation with all other targets."""

    def normal(magnitude: Tensor) -> Tensor:
        flat = functional.avg_pool2d(magnitude, 5, 2).flatten(1)
        flat = flat - flat.mean(1, keepdim=True)
        return flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-6)

    table = normal(ours) @ normal(theirs).T
    own = table.diagonal().mean()
    others = (table.sum() - table.diagonal().sum()) / max(1, table.numel() - len(table))
    return float(own - others)


def recognised(samples: Tensor, wanted: Tensor, gallery: Tensor) -> float:
    """Share of samples whose nearest gallery picture (16 px, RGB, L2) is the wanted one.

    `wanted` holds gallery indices. Chance is one over the gallery's size.
    """

    def small(images: Tensor) -> Tensor:
        return functional.avg_pool2d(images, 4).flatten(1)

    nearest = torch.cdist(small(samples), small(gallery)).argmin(1)
    return float((nearest == wanted).float().mean())


def psnr(output: Tensor, images: Tensor) -> float:
    """PSNR in dB of the mean squared error over all pictures, images in [0, 1]."""
    return float(-10 * (output.clamp(0, 1) - images).square().mean().log10())


@torch.no_grad()
def reconstruct(pipe: StableDiffusionPipeline, images: Tensor) -> Tensor:
    """Pictures through the autoencoder at the posterior mean."""
    chunks = [pipe.vae.decode(latent_mean(pipe.vae, chunk * 2 - 1)).sample for chunk in images.split(128)]
    return (torch.cat(chunks) / 2 + 0.5).clamp(0, 1)


def grid(rows: list[Tensor], file: Path, gap_px: int = 2) -> None:
    """Write rows of equally many pictures as one PNG."""
    padded = [torch.cat(list(functional.pad(row, (0, gap_px, 0, gap_px), value=1.0)), 2) for row in rows]
    write_rgb(torch.cat(padded, 1), file)


def as_table(values: dict[str, object]) -> str:
    """JSON with dataclasses as objects, for the results file."""
    return json.dumps(values, indent=2, default=asdict) + "\n"
