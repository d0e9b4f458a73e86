"""Aspect buckets: which size an image is trained at, and which part of it. Pure arithmetic."""

from __future__ import annotations

import hashlib
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
    aspects: tuple[float, ...] = ()
    """Width by height: what each image's aspect is chosen from. None: the image's own."""
    random_aspect: bool = False
    """Any of `aspects`; otherwise the nearest to the image's own."""
    random_crop: bool = False
    downsample: tuple[float, float] | None = None
    """Images larger than the first are scaled to the second before they are cut, both as `resolution_type` measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How an image becomes its bucket's pixels: scale to `scaled`, then cut `size` out at `corner`."""

    scaled: Size
    corner: Size
    """Left and top, in the scaled image."""
    size: Size

    @property
    def mirrored_corner(self) -> Size:
        """Where the same part lies once the scaled image is mirrored, left for right."""
        return self.scaled[0] - self.corner[0] - self.size[0], self.corner[1]


def aim_of(dataset: DatasetConfig, config: TrainConfig, edges: Edges) -> Aim:
    """The data set's own resolution, else the config's, else the base's."""
    resolution, resolution_type = config.resolution, config.resolution_type
    if dataset.resolution is not None:
        resolution, resolution_type = dataset.resolution, dataset.resolution_type or config.resolution_type
    if resolution is None:
        resolution, resolution_type = float(edges.native), "pixel_area"
    downsample = None
    if dataset.crop and dataset.maximum_image_size is not None and dataset.target_downsample_size is not None:
        downsample = (dataset.maximum_image_size, dataset.target_downsample_size)
    return Aim(
        resolution=resolution,
        resolution_type=resolution_type,
        multiple=edges.multiple,
        aspects=_aspects(dataset),
        random_aspect=dataset.crop_aspect == "random",
        random_crop=dataset.crop and dataset.crop_style == "random",
        downsample=downsample,
    )


def _aspects(dataset: DatasetConfig) -> tuple[float, ...]:
    if not dataset.crop or dataset.crop_aspect == "preserve":
        return ()
    return (1.0,) if dataset.crop_aspect == "square" else dataset.crop_aspect_buckets


def measure(image: Size, resolution_type: str) -> float:
    """How large an image is, in the unit that `Aim.resolution_type` counts."""
    width, height = image
    match resolution_type:
        case "pixel":
            return min(width, height)
        case "area":
            return width * height / 1e6
        case _:
            return math.sqrt(width * height)


def aspect_pick(seed: int, sha256: str) -> float:
    """Of [0, 1), drawn once an image from its content, so that what comes of it can be cached."""
    digest = hashlib.sha256(f"{seed}/aspect/{sha256}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def bucket_size(image: Size, aim: Aim, pick: float = 0.0) -> Size:
    """The size of the bucket that an image of this size belongs to; `pick` of [0, 1) draws a random aspect."""
    aspect = _aspect(image[0] / image[1], aim, pick)
    if aim.resolution_type == "pixel":
        width, height = aim.resolution * max(aspect, 1.0), aim.resolution / min(aspect, 1.0)
    else:
        area = aim.resolution * 1e6 if aim.resolution_type == "area" else aim.resolution**2
        width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
    return _to_multiple(width, aim.multiple), _to_multiple(height, aim.multiple)


def fit(image: Size, aim: Aim, draw: tuple[float, float], pick: float = 0.0) -> Fit:
    """Scale so that the bucket is covered, then cut at the centre, or at `draw` (two of [0, 1)) for a random crop."""
    size = bucket_size(image, aim, pick)
    scale = max(size[0] / image[0], size[1] / image[1], _downsampling(image, aim))
    scaled = (max(size[0], round(image[0] * scale)), max(size[1], round(image[1] * scale)))
    spare = (scaled[0] - size[0], scaled[1] - size[1])
    if aim.random_crop:
        corner = (int(draw[0] * (spare[0] + 1)), int(draw[1] * (spare[1] + 1)))
    else:
        corner = (spare[0] // 2, spare[1] // 2)
    return Fit(scaled=scaled, corner=corner, size=size)


def _aspect(own: float, aim: Aim, pick: float) -> float:
    if not aim.aspects:
        return own
    if aim.random_aspect:
        return aim.aspects[int(pick * len(aim.aspects))]
    return min(aim.aspects, key=lambda aspect: abs(math.log(aspect / own)))


def _downsampling(image: Size, aim: Aim) -> float:
    """The scale that `Aim.downsample` asks for, 0 where it does not."""
    large = measure(image, aim.resolution_type)
    if aim.downsample is None or large <= aim.downsample[0]:
        return 0.0
    ratio = aim.downsample[1] / large
    return math.sqrt(ratio) if aim.resolution_type == "area" else ratio


def _to_multiple(edge: float, multiple: int) -> int:
    return max(multiple, round(edge / multiple) * multiple)
