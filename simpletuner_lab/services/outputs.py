"""Received models: listing them, reading them, and checking that they arrived whole (SPEC D1, D4, D6)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from simpletuner_lab.core.destination import OUTPUTS_BUCKET, job_prefix
from simpletuner_lab.core.diff import Delivered
from simpletuner_lab.core.errors import OutputNotFound
from simpletuner_trainer.spec import MANIFEST_FORMAT, MANIFEST_NAME

CHECKPOINTS: Final = "checkpoints/"
_BLOCK: Final = 1 << 20
_MAX_MANIFEST_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """One delivered file; `path` is relative to the job's folder, with forward slashes."""

    path: str
    bytes: int
    modified_at: float
    sha256: str = ""
    """Known where the file was verified on arrival and has not been written since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """That a result or a checkpoint arrived whole: where, its manifest's SHA-256, when every file was compared with it."""

    prefix: str = ""
    sha256: str
    verified_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """By path: size and checksum, true of a file that was not written after the time beside them."""

    files: Mapping[str, tuple[int, str, float]]

    def sha256(self, path: str, status: os.stat_result) -> str:
        """The checksum of a file that looks like this; empty where it is not known."""
        size, digest, until = self.files.get(path, (-1, "", 0.0))
        return digest if size == status.st_size and status.st_mtime <= until else ""


class Outputs:
    """The outputs of every job under one root, `<root>/outputs/<job id>/…`."""

    def __init__(self, root: Path) -> None:
        self._bucket = root / OUTPUTS_BUCKET

    def folder(self, job_id: str) -> Path:
        """Absolute path of the job's folder, whether or not anything has arrived."""
        return self._bucket / job_prefix(job_id).rstrip("/")

    def list(self, job_id: str, arrivals: Iterable[Arrival] = ()) -> tuple[OutputFile, ...]:
        """Every delivered file, ordered by path. Links are not followed and not listed."""
        folder = self.folder(job_id)
        known = self.known(job_id, arrivals)
        found = []
        for path in _regular_files(folder):
            status = path.stat(follow_symlinks=False)
            name = path.relative_to(folder).as_posix()
            sha256 = known.sha256(name, status)
            found.append(OutputFile(path=name, bytes=status.st_size, modified_at=status.st_mtime, sha256=sha256))
        return tuple(sorted(found, key=lambda file: file.path))

    def known(self, job_id: str, arrivals: Iterable[Arrival]) -> Known:
        """The checksums of what arrived whole; none of a part whose manifest is not the one that was verified."""
        files: dict[str, tuple[int, str, float]] = {}
        for arrival in arrivals:
            try:
                with self.open(job_id, arrival.prefix + MANIFEST_NAME) as stream:
                    text = stream.read(_MAX_MANIFEST_BYTES + 1)
                if hashlib.sha256(text).hexdigest() != arrival.sha256:
                    continue
                listed = [*_entries(text), (MANIFEST_NAME, len(text), arrival.sha256)]
            except (OutputNotFound, ValueError, KeyError, TypeError):
                continue
            files |= {arrival.prefix + name: (size, digest, arrival.verified_at) for name, size, digest in listed}
        return Known(files=files)

    def checkpoints(self, job_id: str) -> tuple[str, ...]:
        """Keys of the checkpoints whose manifest has arrived, such as `checkpoints/step-00000100/`, in order."""
        folder = self.folder(job_id)
        found = (folder / CHECKPOINTS).glob(f"*/{MANIFEST_NAME}")
        return tuple(sorted(f"{CHECKPOINTS}{path.parent.name}/" for path in found))

    def open(self, job_id: str, path: str) -> BinaryIO:
        """Opens one output for reading.

        Raises:
            OutputNotFound: there is no such regular file, or the path is not a plain relative one.
        """
        parts = PurePosixPath(path).parts
        missing = OutputNotFound(f"job {job_id} has no output {path!r}", hint="list the outputs for their paths")
        if not parts or "/".join(parts) != path or ".." in parts or "\0" in path:
            raise missing
        try:
            return _open_below(self.folder(job_id), parts)
        except OSError as error:
            raise missing from error

    def verify(self, job_id: str, prefix: str = "") -> Delivered:
        """Compares every file named by `<prefix>manifest.json` with its size and SHA-256, as found on disk."""
        try:
            with self.open(job_id, prefix + MANIFEST_NAME) as stream:
                text = stream.read(_MAX_MANIFEST_BYTES + 1)
        except OutputNotFound:
            return Delivered(problem=f"no {prefix}{MANIFEST_NAME} has arrived")
        try:
            entries = _entries(text)
        except (ValueError, KeyError, TypeError):
            return Delivered(problem=f"{prefix}{MANIFEST_NAME} cannot be read")
        total = 0
        for name, size, digest in entries:
            try:
                with self.open(job_id, prefix + name) as stream:
                    if (size, digest) != _measure(stream):
                        return Delivered(problem=f"{prefix}{name} differs from its checksum")
            except OutputNotFound:
                return Delivered(problem=f"{prefix}{name} has not arrived")
            total += size
        return Delivered(sha256=hashlib.sha256(text).hexdigest(), files=len(entries), bytes=total)

    def arrived(self, job_id: str) -> Delivered:
        """What has come of a run that gives no checksums: as many files as there are."""
        found = self.list(job_id)
        problem = "" if found else "nothing of it has arrived"
        total = sum(file.bytes for file in found)
        return Delivered(files=len(found), bytes=total, problem=problem, unchecked=True)

    def delete(self, job_id: str) -> None:
        """Removes the job's folder."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)


def _entries(text: bytes) -> list[tuple[str, int, str]]:
    document = json.loads(text)
    if document["format"] != MANIFEST_FORMAT:
        raise ValueError("not a manifest of ours")
    entries = [(entry["path"], entry["bytes"], entry["sha256"]) for entry in document["files"]]
    if not all(isinstance(n, str) and isinstance(b, int) and isinstance(h, str) for n, b, h in entries):
        raise TypeError("members of a wrong type")
    return entries


def _measure(stream: BinaryIO) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    while block := stream.read(_BLOCK):
        digest.update(block)
        size += len(block)
    return size, digest.hexdigest()


def _regular_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".") and stat.S_ISREG(path.stat(follow_symlinks=False).st_mode):
                yield path


def _open_below(folder: Path, parts: tuple[str, ...]) -> BinaryIO:
    """Opens a regular file component by component, so that no link leads out of the folder."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError(parts[-1])
    return os.fdopen(file, "rb")
