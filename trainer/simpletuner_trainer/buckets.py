"""Aspect buckets: which size an image is trained at, and which part of it. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from simpletuner_trainer.base import Edges
    from simpletuner_trainer.spec import DatasetConfig, TrainConfig

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a data set is trained at."""

    resolution: float
    resolution_type: str
    """``pixel``: the shorter edge. ``pixel_area``: the edge of a square of the same area. ``area``: megapixels."""
    multiple: int
    """Edges are multiples of this many pixels."""
    square: bool
    """One square for every image; otherwise the size follows the image's aspect."""
    random_crop: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How an image becomes its bucket's pixels: scale to `scaled`, then cut `size` out at `corner`."""

    scaled: Size
    corner: Size
    """Left and top, in the scaled image."""
    size: Size


def aim_of(dataset: DatasetConfig, config: TrainConfig, edges: Edges) -> Aim:
    """The data set's own resolution, else the config's, else the base's."""
    resolution, resolution_type = config.resolution, config.resolution_type
    if dataset.resolution is not None:
        resolution, resolution_type = dataset.resolution, dataset.resolution_type or config.resolution_type
    if resolution is None:
        resolution, resolution_type = float(edges.native), "pixel_area"
    return Aim(
        resolution=resolution,
        resolution_type=resolution_type,
        multiple=edges.multiple,
        square=dataset.crop and dataset.crop_aspect == "square",
        random_crop=dataset.crop and dataset.crop_style == "random",
    )


def bucket_size(image: Size, aim: Aim) -> Size:
    """The size of the bucket that an image of this size belongs to."""
    aspect = 1.0 if aim.square else image[0] / image[1]
    if aim.resolution_type == "pixel":
        width, height = aim.resolution * max(aspect, 1.0), aim.resolution / min(aspect, 1.0)
    else:
        area = aim.resolution * 1e6 if aim.resolution_type == "area" else aim.resolution**2
        width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
    return _to_multiple(width, aim.multiple), _to_multiple(height, aim.multiple)


def fit(image: Size, aim: Aim, draw: tuple[float, float]) -> Fit:
    """Scale so that the bucket is covered, then cut at the centre, or at `draw` (two of [0, 1)) for a random crop."""
    size = bucket_size(image, aim)
    scale = max(size[0] / image[0], size[1] / image[1])
    scaled = (max(size[0], round(image[0] * scale)), max(size[1], round(image[1] * scale)))
    spare = (scaled[0] - size[0], scaled[1] - size[1])
    if aim.random_crop:
        corner = (int(draw[0] * (spare[0] + 1)), int(draw[1] * (spare[1] + 1)))
    else:
        corner = (spare[0] // 2, spare[1] // 2)
    return Fit(scaled=scaled, corner=corner, size=size)


def _to_multiple(edge: float, multiple: int) -> int:
    return max(multiple, round(edge / multiple) * multiple)
