"""Files that are whole or not there: hashes, durable writes, and the manifest that arrives last."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from simpletuner_trainer.errors import DiskFull
from simpletuner_trainer.spec import MANIFEST_FORMAT, MANIFEST_NAME

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a manifest: POSIX path under its folder, size, SHA-256 of its content."""

    path: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, folder: Path, name: str) -> FileEntry:
        """Look at the file now."""
        path = folder / name
        return cls(path=name, bytes=path.stat().st_size, sha256=sha256_of(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a folder holds once it is whole."""

    kind: str
    """``checkpoint`` or ``result``."""
    step: int
    plan_digest: str
    files: tuple[FileEntry, ...]

    def encode(self) -> bytes:
        """As the file that is written."""
        return (json.dumps({"format": MANIFEST_FORMAT, **asdict(self)}, indent=1) + "\n").encode()

    @classmethod
    def decode(cls, document: bytes) -> Manifest:
        """From the file; `ValueError` where it is none, or names a path outside its folder."""
        body: Any = json.loads(document)
        try:
            if body.pop("format") != MANIFEST_FORMAT:
                raise ValueError("not a manifest of this format")
            files = tuple(FileEntry(**entry) for entry in body.pop("files"))
            manifest = cls(**body, files=files)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a manifest: {error}") from error
        for entry in files:
            inside = PurePosixPath(entry.path)
            if inside.is_absolute() or ".." in inside.parts or "\\" in entry.path or not inside.parts:
                raise ValueError(f"{entry.path!r} leaves the folder")
        return manifest

    @classmethod
    def of(cls, folder: Path, *, kind: str, step: int, plan_digest: str) -> Manifest:
        """Describe every file under `folder` but a manifest, sorted by path."""
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        files = tuple(FileEntry.of(folder, name) for name in names if name != MANIFEST_NAME)
        return cls(kind=kind, step=step, plan_digest=plan_digest, files=files)

    @classmethod
    def verified(cls, folder: Path) -> Manifest:
        """Read a folder's manifest and check every file against it; `ValueError` says what is wrong."""
        try:
            manifest = cls.decode((folder / MANIFEST_NAME).read_bytes())
            for entry in manifest.files:
                if FileEntry.of(folder, entry.path) != entry:
                    raise ValueError(f"{entry.path} is damaged")
        except OSError as error:
            raise ValueError(f"{error.filename}: {error.strerror}") from error
        return manifest


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path` in one step; the content is on the disk when this returns."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Put a file's content on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Put every file and name under `folder` on the disk."""
    folders: Iterable[Path] = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folder.rglob("*"):
        if path.is_file():
            sync_file(path)
    for inside in folders:
        sync_folder(inside)


@contextlib.contextmanager
def writing(what: str, step: int | None = None) -> Iterator[None]:
    """Turn a full disk, quota or file-size limit while writing `what` into `DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        hint = "free some space and start again: it goes on from the last checkpoint"
        raise DiskFull(f"no space left while writing {what}", hint, step=step) from error
