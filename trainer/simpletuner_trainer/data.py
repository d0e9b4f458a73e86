"""What there is to train on: images, their captions, and a report on both before anything is trained."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from simpletuner_trainer.buckets import Fit, Size, measure
from simpletuner_trainer.errors import BadData
from simpletuner_trainer.fields import is_text, printable
from simpletuner_trainer.files import sha256_of
from simpletuner_trainer.spec import (
    CAPTION_SUFFIX,
    IMAGE_SUFFIXES,
    METADATA_NAME,
    DatasetConfig,
    RunSpec,
    TrainConfig,
    parse_metadata_jsonl,
)

_MOST_PIXELS: Final = 1 << 28
_MOST_NAMED: Final = 8
_EXIF_ORIENTATION: Final = 0x0112
_SIDEWAYS: Final = (5, 6, 7, 8)
_TIFF_WIDTH: Final = 0x0100
_TIFF_HEIGHT: Final = 0x0101
_STRIP: Final = 4
"""Images with a longer edge of more than so many shorter ones are told of."""
_UNREADABLE: Final = (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError)
"""What Pillow raises for a file that is not the image its name says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image and what is said of it."""

    dataset: str
    name: str
    """``dataset/path``, for messages and for the order."""
    path: Path
    sha256: str
    size: Size
    """As it is seen: after its EXIF orientation."""
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Every picture that is trained on, in a fixed order, and what a person should know about them."""

    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over what is trained on, not over where it lies: another digest is another training."""
        content = [[picture.dataset, picture.sha256, *picture.captions] for picture in self.pictures]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


@dataclass(slots=True)
class _Findings:
    """Grows while the data sets are read."""

    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def fault(self, what: str, names: Iterable[str], hint: str) -> None:
        """Training cannot be right with this."""
        listed = sorted(names)
        if listed:
            self.faults.append(f"{what}: {_listed(listed)}")
            self.hints.append(hint)


def take_stock(run: RunSpec) -> Inventory:
    """Read every data set of the run. `BadData` names everything that keeps training from being right."""
    found = _Findings()
    for dataset in run.train.datasets:
        root = _root_of(dataset, run)
        if root is None:
            message = f"data set {dataset.id!r}: {dataset.instance_data_dir!r} is outside of the archive"
            found.fault(message, [dataset.instance_data_dir], "paths in the spec are relative to the archive's root")
        elif not root.is_dir():
            found.fault(f"data set {dataset.id!r} is absent", [str(root)], "check instance_data_dir")
        else:
            _read_dataset(dataset, root, run.train.config, found)
    if found.faults:
        raise BadData("; ".join(found.faults), "; ".join(dict.fromkeys(found.hints)))
    found.notes += _duplicates(found.pictures)
    return Inventory(pictures=tuple(found.pictures), notes=tuple(found.notes))


def fault_of(picture: Picture) -> str | None:
    """Decode the image; why it cannot be, or None."""
    try:
        open_image(picture.path)
    except _UNREADABLE as error:
        return f"{picture.name} ({error})"
    return None


def examine(run: RunSpec) -> Inventory:
    """Take stock and decode every image, as training does before its first step. `BadData` for what would end it."""
    stock = take_stock(run)
    if broken := [fault for picture in stock.pictures if (fault := fault_of(picture))]:
        raise broken_images(broken)
    return stock


def broken_images(faults: Collection[str]) -> BadData:
    """The error for images that `fault_of` finds fault with."""
    return BadData(f"broken images: {_listed(faults)}", "replace or remove these files")


def open_image(path: Path, fit: Fit | None = None) -> Image.Image:
    """The image upright, in RGB (on white where it is transparent), scaled and cut to `fit`."""
    with warnings.catch_warnings(action="ignore"), Image.open(path) as opened:
        opened.load()
        upright = ImageOps.exif_transpose(opened)
    image = _to_rgb(upright)
    if fit is None:
        return image
    left, top = fit.corner
    scaled = image if image.size == fit.scaled else image.resize(fit.scaled, Image.Resampling.LANCZOS)
    return scaled.crop((left, top, left + fit.size[0], top + fit.size[1]))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _root_of(dataset: DatasetConfig, run: RunSpec) -> Path | None:
    """The data set's folder; None where an archive came and the path leaves it."""
    root = (run.data_root / dataset.instance_data_dir).resolve()
    if run.data is not None and not root.is_relative_to(run.data_root.resolve()):
        return None
    return root


def _read_dataset(dataset: DatasetConfig, root: Path, config: TrainConfig, found: _Findings) -> None:
    names = sorted(_image_names(root))
    if not names:
        hint = f"images end in {', '.join(sorted(IMAGE_SUFFIXES))}"
        found.fault(f"data set {dataset.id!r} has no images", [str(root)], hint)
        return
    try:
        captioned = _Captions.of(dataset, root)
    except ValueError as error:
        found.fault(f"data set {dataset.id!r}", [str(error)], f"correct {METADATA_NAME}")
        return
    left_out: dict[str, list[str]] = {}
    unreadable, uncaptioned, unwritable, kept = [], [], [], []
    for name in names:
        full_name = f"{dataset.id}/{printable(name)}"
        try:
            size, sha256 = _size_of(root / name), sha256_of(root / name)
            captions = captioned.for_image(name)
        except _UNREADABLE as error:
            unreadable.append(f"{full_name} ({printable(str(error))})")
            continue
        if (why := _unwanted(size, dataset, config)) is not None:
            left_out.setdefault(why, []).append(full_name)
        elif not captions:
            uncaptioned.append(full_name)
        elif not all(map(is_text, captions)):
            unwritable.append(full_name)
        else:
            kept.append(Picture(dataset=dataset.id, name=full_name, path=root / name, sha256=sha256, size=size,
                                captions=captions))  # fmt: skip
    found.fault("cannot be read", unreadable, "replace or remove these files")
    found.fault("without a caption", uncaptioned, captioned.hint)
    found.fault("the name is to be the caption and is not UTF-8", unwritable, "rename these files")
    strips = [picture.name for picture in kept if max(picture.size) > _STRIP * min(picture.size)]
    if strips and (not dataset.crop or dataset.crop_aspect == "preserve"):
        found.notes.append(f"more than {_STRIP} times as long as wide, and trained at such a size: {_listed(strips)}")
    found.notes += [
        f"{len(unwanted)} images {why} are left out: {_listed(unwanted)}" for why, unwanted in left_out.items()
    ]
    unwanted = [name for names_of_one in left_out.values() for name in names_of_one]
    if len(unwanted) == len(names):
        found.fault(f"data set {dataset.id!r} has only images {' or '.join(left_out)}", unwanted, "move the bound")
    found.pictures += kept
    captions_total = sum(len(picture.captions) for picture in kept)
    found.notes.append(f"data set {dataset.id!r}: {len(kept)} images, {captions_total} captions")


def _image_names(root: Path) -> Iterator[str]:
    """POSIX paths under `root`; hidden files and folders, and folders that are links, are not followed."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES:
                yield path.relative_to(root).as_posix()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Captions:
    """Where the captions of one data set come from."""

    dataset: DatasetConfig
    root: Path
    metadata: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, dataset: DatasetConfig, root: Path) -> _Captions:
        metadata: dict[str, tuple[str, ...]] = {}
        if dataset.caption_strategy == "metadata" and not dataset.only_instance_prompt:
            try:
                metadata = parse_metadata_jsonl((root / METADATA_NAME).read_text("utf-8-sig"))
            except OSError as error:
                raise ValueError(f"{METADATA_NAME} cannot be read: {error.strerror}") from error
        return cls(dataset=dataset, root=root, metadata=metadata)

    @property
    def hint(self) -> str:
        if self.dataset.caption_strategy == "metadata":
            return f"add a line for each to {METADATA_NAME}, or set instance_prompt"
        return "put a .txt with the caption beside each, or set caption_strategy or instance_prompt"

    def for_image(self, name: str) -> tuple[str, ...]:
        """Its captions; none where nothing says what it shows. An instance prompt stands in for what is missing."""
        prompt = self.dataset.instance_prompt
        if self.dataset.only_instance_prompt or self.dataset.caption_strategy == "instanceprompt":
            return (prompt,) if prompt else ()
        match self.dataset.caption_strategy:
            case "filename":
                captions = _cleaned([re.sub(r"[_\-\s]+", " ", Path(name).stem)])
            case "metadata":
                captions = _cleaned(self.metadata.get(name, ()))
            case _:
                captions = self._from_textfile(name)
        if not captions:
            return (prompt,) if prompt else ()
        if prompt and self.dataset.prepend_instance_prompt:
            return tuple(f"{prompt} {caption}" for caption in captions)
        return captions

    def _from_textfile(self, name: str) -> tuple[str, ...]:
        path = (self.root / name).with_suffix(CAPTION_SUFFIX)
        if not path.is_file():
            return ()
        written = path.read_text("utf-8-sig")
        return _cleaned([written] if self.dataset.disable_multiline_split else written.splitlines())


def _cleaned(captions: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(caption.strip() for caption in captions if caption.strip()))


def _size_of(path: Path) -> Size:
    """Width and height from the header, as the image is seen."""
    with warnings.catch_warnings(action="ignore"), Image.open(path) as opened:
        width, height = opened.size
        if isinstance(opened, TiffImageFile):  # whose size some versions of Pillow turn upright, and some do not
            width, height = opened.tag_v2.get(_TIFF_WIDTH, width), opened.tag_v2.get(_TIFF_HEIGHT, height)
        if width * height > _MOST_PIXELS:
            raise ValueError(f"{width} x {height} is more than {_MOST_PIXELS} pixels")
        return (height, width) if opened.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS else (width, height)


def _unwanted(size: Size, dataset: DatasetConfig, config: TrainConfig) -> str | None:
    """Which bound of the data set leaves an image of this size out; None: it is trained on."""
    least = config.minimum_image_size if dataset.minimum_image_size is None else dataset.minimum_image_size
    if least is not None and measure(size, dataset.resolution_type or config.resolution_type) < least:
        return "below minimum_image_size"
    aspect = size[0] / size[1]
    if dataset.minimum_aspect_ratio is not None and aspect < dataset.minimum_aspect_ratio:
        return "below minimum_aspect_ratio"
    if dataset.maximum_aspect_ratio is not None and aspect > dataset.maximum_aspect_ratio:
        return "above maximum_aspect_ratio"
    return None


def _duplicates(pictures: Iterable[Picture]) -> list[str]:
    counts = Counter(picture.sha256 for picture in pictures)
    twice = [picture.name for picture in pictures if counts[picture.sha256] > 1]
    return [f"the same image more than once, so it counts more: {_listed(twice)}"] if twice else []


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    return ", ".join(listed[:_MOST_NAMED]) + more
