"""Unpacks the archive that came with the job, trusting nothing in it: bounded, verified, and whole or not there."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

from simpletuner_trainer.errors import BadData
from simpletuner_trainer.files import sha256_of, write_durably, writing
from simpletuner_trainer.spec import DataArchive

_CHUNK: Final = 1 << 20
_HINT: Final = "submit the job again: the archive is not the one that was planned"


def unpack(data: DataArchive, target: Path) -> None:
    """Verify the archive's digest and unpack it to `target`; done before is not done again.

    `BadData` for another digest, more files or bytes than the spec says, names that escape, links, and damage.
    """
    if unpacked(data, target):
        return
    archive = Path(data.archive)
    if not archive.is_file():
        raise BadData(f"the archive {archive} is not there", _HINT)
    if sha256_of(archive) != data.sha256:
        raise BadData(f"the archive {archive.name} is not the one the spec names (its SHA-256 differs)", _HINT)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    with writing("the unpacked data"):
        _extract(archive, partial, data)
        partial.replace(target)
        write_durably(_marker(target), data.sha256.encode("ascii"))


def unpacked(data: DataArchive, target: Path) -> bool:
    """Whether `target` holds this very archive."""
    marker = _marker(target)
    return target.is_dir() and marker.is_file() and marker.read_text("ascii") == data.sha256


def _marker(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _extract(archive: Path, target: Path, data: DataArchive) -> None:
    target.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            if len(entries) > data.files:
                raise BadData(f"the archive holds {len(entries)} files; the spec allows {data.files}", _HINT)
            left = data.bytes
            for entry in entries:
                left -= _extract_one(opened, entry, target, left)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadData(f"the archive {archive.name} is damaged: {error}", _HINT) from error


def _extract_one(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int) -> int:
    """Write one entry, at most `left` bytes whatever its header claims; the bytes written."""
    path = target / _safe_name(entry)
    written = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(entry) as source, path.open("xb") as sink:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                if written > left:
                    raise BadData("the archive unpacks to more bytes than the spec allows", _HINT)
                sink.write(chunk)
    except (FileExistsError, NotADirectoryError):
        raise BadData(f"the archive holds {entry.filename!r} twice", _HINT) from None
    return written


def _safe_name(entry: zipfile.ZipInfo) -> PurePosixPath:
    name = PurePosixPath(entry.filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    escapes = not name.parts or name.is_absolute() or ".." in name.parts
    odd = any(char in entry.filename for char in "\\\0:")
    if escapes or odd or kind not in (0, stat.S_IFREG):
        raise BadData(f"the archive holds {entry.filename!r}, which is not a plain file inside it", _HINT)
    return name
