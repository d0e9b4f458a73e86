"""Pictures, captions and styles of the tiny base model: pure functions of the unpacked emoji package.

Images are float tensors in [0, 1], channels first, 64 px square; RGBA pictures keep straight (not
premultiplied) alpha. Every random draw comes from a generator that the caller seeds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path

SIZE_PX = 64
"""Side of every picture, in pixels: the resolution of the package's PNG files."""

BASE_CATEGORIES = (
    "Smileys & Emotion",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
)
"""Categories the denoiser learns; people, flags and symbols serve the autoencoder only."""

SEPARATION = 0.12
"""Least mean absolute RGB difference (16 px thumbnails over white) between two distinct pictures."""

FINEST = 0.25
"""Most line coverage (mean of the edge map) of a learned picture: finer ones blur in the autoencoder."""

HOLDOUT_EVERY = 4
"""Every fourth learned picture never becomes part of a style's training set."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "black": (0.0, 0.0, 0.0),
    "gray": (0.5, 0.5, 0.5),
    "red": (0.86, 0.12, 0.12),
    "orange": (1.0, 0.55, 0.1),
    "yellow": (1.0, 0.88, 0.2),
    "green": (0.15, 0.6, 0.2),
    "cyan": (0.3, 0.85, 0.9),
    "blue": (0.15, 0.3, 0.85),
    "purple": (0.5, 0.2, 0.7),
    "pink": (1.0, 0.6, 0.75),
    "brown": (0.45, 0.28, 0.15),
    "white": (1.0, 1.0, 1.0),
}

BACKGROUNDS = tuple(name for name in COLOURS if name != "white")

OUTLINES: tuple[tuple[str, str], ...] = (
    ("red", "white"),
    ("green", "white"),
    ("blue", "white"),
    ("orange", "white"),
    ("purple", "white"),
    ("white", "black"),
    ("green", "black"),
    ("white", "red"),
    ("yellow", "blue"),
    ("pink", "brown"),
)
"""(line, ground) pairs the base knows by name. Black on white and anything neon are left out:
those are the styles a LoRA is to teach."""

NEON_GROUND = (12 / 255, 12 / 255, 46 / 255)
NEON_TOP = (0.0, 240 / 255, 1.0)
NEON_BOTTOM = (1.0, 30 / 255, 200 / 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Emoji:
    """One named picture of the package."""

    caption: str
    category: str
    rgba: Tensor  # 4 x 64 x 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """All pictures, and which of them matter more.

    `distinct` pictures look unlike each other; the autoencoder sees them more often. `learned` are the
    distinct ones that are not too finely drawn; the denoiser knows these and no others.
    """

    emoji: tuple[Emoji, ...]
    distinct: tuple[int, ...]
    learned: tuple[int, ...]

    @property
    def rgba(self) -> Tensor:
        """All pictures as one N x 4 x 64 x 64 tensor."""
        return torch.stack([entry.rgba for entry in self.emoji])

    @property
    def autoencoder_holdout(self) -> tuple[int, ...]:
        """Pictures that no training step ever sees: every twentieth that is not distinct."""
        distinct = set(self.distinct)
        return tuple(i for i in range(len(self.emoji)) if i not in distinct)[::20]

    @property
    def style_training(self) -> tuple[int, ...]:
        """Learned pictures that style sets may train on."""
        return tuple(i for n, i in enumerate(self.learned) if n % HOLDOUT_EVERY)

    @property
    def style_holdout(self) -> tuple[int, ...]:
        """Learned pictures whose styled version is kept back to judge a LoRA."""
        return self.learned[::HOLDOUT_EVERY]


def caption_of(name: str, subcategory: str) -> str:
    """Caption in the base model's language: "name, subcategory", lower case, blanks for hyphens."""
    return f"{name}, {subcategory}".lower().replace("-", " ").replace("_", " ")


def load_library(package: Path) -> Library:
    """Read the unpacked npm package; raises OSError if a picture it names is missing."""
    entries = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    entries = [e for e in entries if e["has_img_google"] and e["category"] != "Component"]
    entries.sort(
        key=lambda e: (
            BASE_CATEGORIES.index(e["category"]) if e["category"] in BASE_CATEGORIES else 99,
            e["sort_order"],
        )
    )
    emoji = tuple(
        Emoji(
            caption=caption_of(e["name"] or e["short_name"], e["subcategory"]),
            category=e["category"],
            rgba=_read_rgba(package / "img" / "google" / "64" / e["image"]),
        )
        for e in entries
    )
    distinct = _well_separated(emoji)
    coverage = edge_map(torch.stack([emoji[i].rgba for i in distinct])).mean((1, 2, 3))
    learned = tuple(i for i, share in zip(distinct, coverage.tolist(), strict=True) if share <= FINEST)
    return Library(emoji=emoji, distinct=distinct, learned=learned)


def _read_rgba(path: Path) -> Tensor:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _well_separated(emoji: tuple[Emoji, ...]) -> tuple[int, ...]:
    """Greedy choice in order: skip a picture that looks like one already chosen (clock faces, moons)."""
    chosen: list[int] = []
    kept: list[Tensor] = []
    for index, entry in enumerate(emoji):
        if entry.category not in BASE_CATEGORIES:
            continue
        thumb = functional.avg_pool2d(over(entry.rgba[None], COLOURS["white"]), 4)[0]
        if not kept or float((torch.stack(kept) - thumb).abs().mean((1, 2, 3)).min()) >= SEPARATION:
            chosen.append(index)
            kept.append(thumb)
    return tuple(chosen)


def over(rgba: Tensor, ground: tuple[float, float, float] | Tensor) -> Tensor:
    """Composite N x 4 x H x W over a colour: one triple, or N x 3."""
    colour = torch.as_tensor(ground).reshape(-1, 3, 1, 1)
    alpha = rgba[:, 3:]
    return rgba[:, :3] * alpha + colour * (1 - alpha)


def edge_map(rgba: Tensor) -> Tensor:
    """Line drawing as N x 1 x H x W coverage: Sobel magnitude of colour and alpha, soft threshold.

    A light blur first drops shading and texture that neither autoencoder nor eye can hold at 64 px.
    """
    layers = torch.cat([over(rgba, (0.5, 0.5, 0.5)), 0.8 * rgba[:, 3:]], 1)
    layers = functional.pad(layers, (3, 3, 3, 3), mode="replicate")
    layers = _smooth(layers)
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
    kernels = torch.stack([kernel, kernel.T])[:, None]
    n, c, h, w = layers.shape
    gradient = functional.conv2d(layers.reshape(n * c, 1, h, w), kernels).reshape(n, c, 2, h - 2, w - 2)
    magnitude = gradient.square().sum(2).sqrt().amax(1, keepdim=True)
    return (EDGE_GAIN * magnitude - EDGE_FLOOR).clamp(0, 1)


EDGE_GAIN = 3.0
EDGE_FLOOR = 0.45
"""Soft threshold of the edge map: coverage = clamp(gain * magnitude - floor)."""


def _smooth(layers: Tensor) -> Tensor:
    """Binomial 5-tap blur in both directions, valid part only (2 px fewer on each side)."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    n, c, h, w = layers.shape
    flat = layers.reshape(n * c, 1, h, w)
    flat = functional.conv2d(functional.conv2d(flat, taps.reshape(1, 1, 5, 1)), taps.reshape(1, 1, 1, 5))
    return flat.reshape(n, c, h - 4, w - 4)


def neon(rgba: Tensor) -> Tensor:
    """Glowing outlines on navy, cyan at the top to magenta at the bottom."""
    n = len(rgba)
    lines = [torch.tensor(c).expand(n, 3) for c in (NEON_TOP, NEON_BOTTOM, NEON_GROUND)]
    return glowing_lines(edge_map(rgba), *lines)


def glowing_lines(edges: Tensor, top: Tensor, bottom: Tensor, ground: Tensor) -> Tensor:
    """Lines with a halo, blending from `top` to `bottom` colour down the picture; colours are N x 3."""
    halo = functional.avg_pool2d(functional.avg_pool2d(edges, 7, 1, 3), 5, 1, 2)
    mix = (edges + 0.5 * halo).clamp(0, 1)
    down = torch.linspace(0, 1, edges.shape[2]).reshape(1, 1, -1, 1)
    line = top[:, :, None, None] * (1 - down) + bottom[:, :, None, None] * down
    return ground[:, :, None, None] * (1 - mix) + line * mix


def ink(rgba: Tensor) -> Tensor:
    """Black outlines on white."""
    return (1 - edge_map(rgba)).expand(-1, 3, -1, -1)


def outlines(rgba: Tensor, line: Tensor, ground: Tensor) -> Tensor:
    """Plain outlines in one colour on another; colours are N x 3 or 1 x 3."""
    edges = edge_map(rgba)
    return ground[:, :, None, None] * (1 - edges) + line[:, :, None, None] * edges


def grayscale(rgb: Tensor) -> Tensor:
    """Luma (Rec. 601) in all three channels."""
    weights = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    return (rgb * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to show every learned picture to the denoiser, and how often."""

    suffixes: tuple[str, ...]
    share: float
    images: Tensor  # N x 3 x 64 x 64


def variants(rgba: Tensor) -> list[Variant]:
    """Show all pictures as the denoiser sees them: mostly plain pictures on white, else a named ground, filter or outline."""
    white = over(rgba, COLOURS["white"])
    black = torch.zeros(3)
    made = [
        Variant(suffixes=("", "", "", "", ", white background"), share=0.55, images=white),
        Variant(suffixes=(", grayscale",), share=0.04, images=grayscale(white)),
        Variant(suffixes=(", inverted",), share=0.04, images=1 - white),
        Variant(
            suffixes=(", silhouette",),
            share=0.04,
            images=over(
                torch.cat([black.reshape(1, 3, 1, 1).expand(len(rgba), 3, SIZE_PX, SIZE_PX), rgba[:, 3:]], 1),
                COLOURS["white"],
            ),
        ),
    ]
    made += [
        Variant(suffixes=(f", {name} background",), share=0.17 / len(BACKGROUNDS), images=over(rgba, COLOURS[name]))
        for name in BACKGROUNDS
    ]
    for line, ground in OUTLINES:
        drawn = outlines(rgba, torch.tensor([COLOURS[line]]), torch.tensor([COLOURS[ground]]))
        suffix = f", {line} outline, {ground} background"
        made.append(Variant(suffixes=(suffix,), share=0.16 / len(OUTLINES), images=drawn))
    return made


def autoencoder_batch(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """Augmented RGB pictures for one autoencoder step, from N x 4 x 64 x 64.

    The set is small and mostly yellow on white, so grounds, tints, inversion and line drawings in
    random colours stand in for the variety a real autoencoder sees.
    """
    n = len(rgba)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    def coin(*shape: int, heads: float = 0.5) -> Tensor:
        return draw(*shape) < heads

    rgba = torch.where(coin(n, 1, 1, 1), rgba.flip(3), rgba)
    dim = torch.where(coin(n, 1), 0.3, 1.0)
    ground = torch.where(coin(n, 1, heads=0.45), torch.ones(n, 3), draw(n, 3) * dim)
    rgb = over(rgba, ground)
    kind = draw(n)

    def replace(low: float, high: float, other: Tensor) -> None:
        chosen = (kind >= low) & (kind < high)
        rgb[chosen] = other[chosen]

    edges = edge_map(rgba)
    dark = draw(n, 3) * 0.25
    replace(0.00, 0.05, grayscale(rgb))
    replace(0.05, 0.10, 1 - rgb)
    replace(0.10, 0.16, rgb * (0.4 + 0.6 * draw(n, 3)[:, :, None, None]))
    replace(0.16, 0.25, (1 - edges).expand(-1, 3, -1, -1))
    replace(0.25, 0.33, draw(n, 3)[:, :, None, None] * (1 - edges) + draw(n, 3)[:, :, None, None] * edges)
    replace(0.33, 0.46, glowing_lines(edges, draw(n, 3).sqrt(), draw(n, 3).sqrt(), dark))
    return rgb.clamp(0, 1)
