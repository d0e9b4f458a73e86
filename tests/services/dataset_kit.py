"""Small real data sets, and a hash cache that is a dictionary."""

from __future__ import annotations

import io
import os
import random
import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from simpletuner_lab.core.manifest import DatasetManifest, Manifest
from simpletuner_lab.services.rows import FileStamp
from simpletuner_lab.services.scan import scan
from simpletuner_trainer.spec import DatasetConfig


class Remembered(dict[FileStamp, str]):
    """A hash cache in memory."""

    def lookup_many(self, stamps: Sequence[FileStamp]) -> dict[str, str]:
        return {stamp.path: self[stamp] for stamp in stamps if stamp in self}

    def store_many(self, hashed: Mapping[FileStamp, str], *, now: float) -> None:
        assert now > 0
        self.update(hashed)


def later_ns() -> int:
    """A clock that runs ahead, so that files made just now count as settled."""
    return time.time_ns() + 10**10


def image_bytes(seed: int = 0, kind: str = "PNG", size: int = 8, **options: Any) -> bytes:
    """A picture of noise."""
    noise = random.Random(seed).randbytes(size * size * 3)
    out = io.BytesIO()
    Image.frombytes("RGB", (size, size), noise).save(out, kind, **options)
    return out.getvalue()


def put(root: Path, name: str | bytes, data: bytes | str = b"") -> Path:
    """Writes a file of a data set; pictures are made where no data are given."""
    path = Path(os.fsdecode(os.path.join(os.fsencode(root), os.fsencode(name))))
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {
        ".png": "PNG",
        ".jpg": "JPEG",
        ".jpeg": "JPEG",
        ".webp": "WEBP",
        ".bmp": "BMP",
        ".tif": "TIFF",
        ".tiff": "TIFF",
    }
    made = data or image_bytes(len(os.fsencode(name)), kinds[path.suffix.lower()])
    path.write_bytes(made.encode() if isinstance(made, str) else made)
    return path


def small_set(root: Path, count: int = 3) -> Path:
    """A sound data set: pictures with captions, one folder deep."""
    for index in range(count):
        put(root, f"sub/{index}.png", image_bytes(index))
        put(root, f"sub/{index}.txt", f"picture {index}")
    return root


def dataset(root: Path, name: str = "set", **options: Any) -> DatasetConfig:
    return DatasetConfig(id=name, instance_data_dir=str(root), **options)


def scanned(*datasets: DatasetConfig, **options: Any) -> Manifest:
    return scan(list(datasets), **{"hashes": Remembered(), "now_ns": later_ns} | options)


def scanned_set(root: Path, **options: Any) -> DatasetManifest:
    return scanned(dataset(root, **options)).datasets[0]


def names(manifest: DatasetManifest) -> list[str]:
    return [file.name.removeprefix(f"{manifest.id}/") for file in manifest.files]


def reasons(manifest: DatasetManifest) -> dict[str, str]:
    return {entry.name.removeprefix(f"{manifest.id}/"): entry.reason for entry in manifest.withheld}


def exif_with(tag: int, value: object) -> Image.Exif:
    exif = Image.Exif()
    exif[tag] = value
    return exif


def png_text(key: str, value: str, *, compress: bool) -> dict[str, Any]:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(key, value, zip=compress) if not value.isascii() else info.add_text(key, value, zip=compress)
    return {"pnginfo": info}


def png_with_chunk(kind: bytes, payload: bytes, *, at_end: bool = False) -> bytes:
    plain = image_bytes()
    chunk = struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
    cut = len(plain) - 12 if at_end else 33
    return plain[:cut] + chunk + plain[cut:]


def raw_profile(name: str, data: bytes) -> bytes:
    text = f"\n{name}\n{len(data):8}\n".encode() + data.hex().encode()
    return b"Raw profile type " + name.encode() + b"\0\0" + zlib.compress(text)
