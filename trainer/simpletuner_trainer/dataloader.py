"""The dataloader: which data sets to train on and how each is seen, checked.

Pure standard library: the lab checks the same list, through `simpletuner_trainer.spec`, before anything is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from simpletuner_trainer import unsupported
from simpletuner_trainer.fields import (
    Problem,
    anything,
    boolean,
    choice,
    integer,
    is_text,
    matching,
    number,
    numbers,
    option,
    optional,
    read_options,
    text,
)

IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
"""Lower-case suffixes of files that are read as images."""
CAPTION_SUFFIX: Final = ".txt"
"""`textfile` captions: ``image.png`` has its captions in ``image.txt``, one a line."""
METADATA_NAME: Final = "metadata.jsonl"
"""`metadata` captions: one JSON object a line with ``file_name`` and ``text``, at the data set's root."""

RESOLUTION_TYPES: Final = ("pixel", "area", "pixel_area")
_MIN_EDGE_PX: Final = 16
_MAX_EDGE_PX: Final = 16_384
_MOST_MEGAPIXELS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetConfig:
    """One image data set of the dataloader list."""

    id: str = option(
        "",
        matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "1 to 64 of A-Z a-z 0-9 . _ -, not starting with . _ -"),
        required=True,
    )
    type: str = option("local", choice("local"))
    dataset_type: str = option("image", choice("image"))
    instance_data_dir: str = option("", text, required=True)
    disabled: bool = option(False, boolean)

    caption_strategy: str = option("textfile", choice("textfile", "filename", "instanceprompt", "metadata"))
    instance_prompt: str | None = option(None, optional(text))
    prepend_instance_prompt: bool = option(False, boolean)
    only_instance_prompt: bool = option(False, boolean)
    disable_multiline_split: bool = option(False, boolean)
    """False: each line of a caption file is a caption of its own."""

    repeats: int = option(0, integer(least=0, most=100_000))
    """Times more than once that each image is seen in an epoch."""
    probability: float | None = option(None, optional(number(above=0, most=1e6)))
    """This set's share of the micro-batches, relative to the sum over all sets; None: every image counts the same."""
    random_flip: bool = option(False, boolean)
    """Half of the times an image is seen it is seen mirrored, left for right."""
    crop: bool = option(False, boolean)
    crop_style: str = option("random", choice("center", "random", also={"centre": "center"}))
    crop_aspect: str = option("square", choice("square", "preserve", "closest", "random"))
    crop_aspect_buckets: tuple[float, ...] = option((), numbers(above=0))
    """Width by height: what `closest` and `random` choose from."""
    resolution: float | None = option(None, optional(number(above=0)))
    resolution_type: str | None = option(None, optional(choice(*RESOLUTION_TYPES)))
    minimum_image_size: float | None = option(None, optional(number(least=0)))
    maximum_image_size: float | None = option(None, optional(number(above=0)))
    """With `crop`: a larger image is scaled to `target_downsample_size` and then cut, in units of the resolution's."""
    target_downsample_size: float | None = option(None, optional(number(above=0)))
    minimum_aspect_ratio: float | None = option(None, optional(number(above=0)))
    """Width by height; images outside of the two are left out."""
    maximum_aspect_ratio: float | None = option(None, optional(number(above=0)))
    cache_dir_vae: str | None = option(None, optional(text), shapes_weights=False)
    """Accepted for SimpleTuner's sake; caches have a place of their own (docs/config.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _TextEmbeds:
    """SimpleTuner's entry that places the text cache; checked, then dropped: caches have a place of their own (docs/config.md)."""

    id: str = option("", text, required=True)
    type: str = option("local", choice("local"))
    dataset_type: str = option("text_embeds", choice("text_embeds"))
    default: bool = option(False, boolean)
    disabled: bool = option(False, boolean)
    cache_dir: str | None = option(None, optional(text))
    write_batch_size: object = option(None, anything)


def resolution_problems(path: str, resolution: float | None, resolution_type: str) -> list[Problem]:
    """What is wrong with a resolution of this type, of the config or of a data set."""
    if resolution is None:
        return []
    if resolution_type == "area":
        if resolution > _MOST_MEGAPIXELS:
            hint = "`area` counts megapixels; `pixel_area` takes the edge of a square in pixels"
            return [Problem(f"{path}.resolution", f"is {resolution:g} megapixels", hint)]
    elif not _MIN_EDGE_PX <= resolution <= _MAX_EDGE_PX or not float(resolution).is_integer():
        hint = f"`{resolution_type}` counts whole pixels of an edge, {_MIN_EDGE_PX} to {_MAX_EDGE_PX}"
        return [Problem(f"{path}.resolution", f"is {resolution:g}", hint)]
    return []


def parse_datasets(dataloader: object, resolution_type: str) -> tuple[tuple[DatasetConfig, ...], list[Problem]]:
    """The enabled data sets and every problem of the list; `resolution_type` is the config's."""
    if not isinstance(dataloader, list | tuple):
        return (), [Problem("dataloader", "is not a list of data sets")]
    datasets: list[DatasetConfig] = []
    problems: list[Problem] = []
    owners: dict[str, int] = {}
    for index, entry in enumerate(dataloader):
        path = f"dataloader[{index}]"
        kind = _entry_kind(entry)
        good, wrong = read_options(kind, entry, path, refused=unsupported.DATASET_KEYS)
        dataset_id = good.get("id", "")
        if dataset_id and owners.setdefault(dataset_id.lower(), index) != index:
            other = owners[dataset_id.lower()]
            wrong.append(Problem(f"{path}.id", f"is {dataset_id!r}, as dataloader[{other}]", "ids differ beyond case"))
        if kind is DatasetConfig:
            dataset = DatasetConfig(**good)
            wrong += _dataset_conflicts(dataset, path, resolution_type)
            if not dataset.disabled:
                datasets.append(dataset)
        problems += wrong
    if not datasets and not problems:
        problems.append(Problem("dataloader", "has no image data set", "add one with type local and instance_data_dir"))
    weighted = [dataset.id for dataset in datasets if dataset.probability is not None]
    if weighted and len(weighted) < len(datasets):
        message = f"has a probability on {', '.join(weighted)} alone"
        problems.append(Problem("dataloader", message, "set it on every enabled data set or on none"))
    return tuple(datasets), problems


def _entry_kind(entry: object) -> type[Any]:
    if isinstance(entry, Mapping):
        named = entry.get("dataset_type", entry.get("--dataset_type"))
        return _TextEmbeds if named == "text_embeds" else DatasetConfig
    return DatasetConfig


def _dataset_conflicts(dataset: DatasetConfig, path: str, resolution_type: str) -> list[Problem]:
    problems = []
    needs = (
        dataset.caption_strategy == "instanceprompt" or dataset.only_instance_prompt or dataset.prepend_instance_prompt
    )
    if needs and not dataset.instance_prompt:
        why = (
            "caption_strategy is instanceprompt" if dataset.caption_strategy == "instanceprompt" else "it is to be used"
        )
        problems.append(Problem(f"{path}.instance_prompt", f"is missing and {why}"))
    if dataset.resolution_type is not None and dataset.resolution is None:
        problems.append(Problem(f"{path}.resolution", "is missing beside resolution_type", "set both or neither"))
    problems += _size_conflicts(dataset, path)
    return problems + resolution_problems(path, dataset.resolution, dataset.resolution_type or resolution_type)


def _size_conflicts(dataset: DatasetConfig, path: str) -> list[Problem]:
    problems = []
    least, most, target = dataset.minimum_image_size, dataset.maximum_image_size, dataset.target_downsample_size
    if (most is None) != (target is None):
        missing = "maximum_image_size" if most is None else "target_downsample_size"
        other = "target_downsample_size" if most is None else "maximum_image_size"
        problems.append(Problem(f"{path}.{missing}", f"is missing beside {other}", "set both or neither"))
    elif most is not None and target is not None and target > most:
        hint = f"maximum_image_size is {most:g}: large images are scaled down to it or less"
        problems.append(Problem(f"{path}.target_downsample_size", f"is {target:g}", hint))
    if least is not None and most is not None and least > most:
        problems.append(Problem(f"{path}.minimum_image_size", f"is {least:g}", f"maximum_image_size is {most:g}"))
    narrowest, widest = dataset.minimum_aspect_ratio, dataset.maximum_aspect_ratio
    if narrowest is not None and widest is not None and narrowest > widest:
        hint = f"maximum_aspect_ratio is {widest:g}: no image would be left"
        problems.append(Problem(f"{path}.minimum_aspect_ratio", f"is {narrowest:g}", hint))
    chooses = dataset.crop and dataset.crop_aspect in ("closest", "random")
    if chooses and not dataset.crop_aspect_buckets:
        message = f"is missing and crop_aspect is {dataset.crop_aspect}"
        problems.append(Problem(f"{path}.crop_aspect_buckets", message, "a list of width by height, as [0.75, 1, 1.5]"))
    return problems


def parse_metadata_jsonl(document: str) -> dict[str, tuple[str, ...]]:
    """Captions by relative POSIX path from the text of a `metadata.jsonl`; several lines a file are several captions.

    Raises `ValueError` with the line's number.
    """
    captions: dict[str, tuple[str, ...]] = {}
    for index, line in enumerate(document.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            raise ValueError(f"{METADATA_NAME}, line {index}: not JSON") from None
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("file_name", "text")):
            raise ValueError(f"{METADATA_NAME}, line {index}: needs the strings `file_name` and `text`")
        if not (is_text(entry["file_name"]) and is_text(entry["text"])):
            raise ValueError(f"{METADATA_NAME}, line {index}: holds half a character (a lone surrogate)")
        name = str(PurePosixPath(entry["file_name"]))
        captions[name] = (*captions.get(name, ()), entry["text"])
    return captions
