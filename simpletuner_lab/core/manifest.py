"""What would leave: every file of every data set, and every file that stays behind with its reason (SPEC K2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simpletuner_lab.core.event import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file that leaves. `name` is its path in the archive, `<data set id>/<relative path>` with forward slashes."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """One file (or folder, with a trailing slash) that stays, and why."""

    name: str
    reason: str
    secret: bool = False
    """Withheld because it is or holds a secret, rather than because training does not read it."""
    wanted: bool = False
    """Training would have read it: without it the result is another one, so it is worth a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetManifest:
    """One data set as it would be sent."""

    id: str
    root: str
    """Absolute path on this machine: shown to its owner, never part of the digest, never sent."""
    files: tuple[FileEntry, ...]
    withheld: tuple[Withheld, ...]
    images: int
    captions_found: int
    captions_missing: tuple[str, ...]
    with_gps: int = 0
    """Photos that carry a location in their metadata."""
    strip_exif: bool = False
    """What pictures tell beside their pixels is taken out on the way (SPEC K7): sizes and digests are of what leaves."""

    @property
    def bytes(self) -> int:
        """Size of all files that leave."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All data sets of a plan."""

    datasets: tuple[DatasetManifest, ...]

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of the archive, ordered by the UTF-8 bytes of its name: the order they are written in."""
        return tuple(sorted((f for d in self.datasets for f in d.files), key=lambda f: f.name.encode()))

    @property
    def bytes(self) -> int:
        """Size of all files that leave, before packing."""
        return sum(dataset.bytes for dataset in self.datasets)

    def summary(self) -> Mapping[str, Scalar]:
        """Counts for events and lists."""
        return {
            "files": sum(len(d.files) for d in self.datasets),
            "bytes": self.bytes,
            "withheld": sum(len(d.withheld) for d in self.datasets),
            "datasets": len(self.datasets),
        }
