"""Packs what a manifest names into one zip, and nothing else (SPEC K1, K6, C2).

The same files give the same bytes: names are written in the order of their UTF-8 bytes, each with one time, one mode
and one method. Every file is hashed while it is packed; one that is not what the plan said ends the packing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Container, Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from simpletuner_lab.core.errors import DiskFull, PlanChanged, lacks_room
from simpletuner_lab.core.manifest import FileEntry, Manifest
from simpletuner_lab.core.provider import Archive
from simpletuner_lab.core.withhold import portable_rule, suffix_of
from simpletuner_lab.services.files import sync_folder
from simpletuner_lab.services.inspection import CHUNK, leaving, open_beneath, open_folder
from simpletuner_lab.services.stripping import CannotStripError
from simpletuner_trainer.spec import IMAGE_SUFFIXES

PackProgress = Callable[[str, int, int, int], None]
"""Called with (stage, files done, files in all, bytes done); may raise to stop the packing."""


def untold(_stage: str, _done: int, _total: int, _bytes: int) -> None:
    """For who does not want to know."""


STORED_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp"})
"""Compressed already; all else is deflated (SPEC K1), at zlib's own level, 6. Another build of zlib may deflate to
other bytes: the archive's digest holds for this machine. Consent rests on the files' digests, which hold anywhere."""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = stat.S_IFREG | 0o644
_UNIX: Final = 3
_ENTRY_BYTES: Final = 30 + 46 + 24 + 3 * 28
"""Of one file's headers, its name (twice) not counted: local, central, descriptor, zip64 extras."""
_LEAST_ENTRY_BYTES: Final = 30 + 46 + 16
"""The same without zip64: an entry of a zip that is written in one pass has a descriptor behind it."""
_END_BYTES: Final = 22
_LEAST_DEFLATED_BYTES: Final = 2
"""Nothing, deflated."""
_MARGIN_BYTES: Final = 1 << 24
"""Left free on the disk beside the archive."""


def pack(manifest: Manifest, spool: Path, *, progress: PackProgress = untold) -> Archive:
    """Writes the archive to `spool` (mode 0600), whole or not at all.

    Raises:
        PlanChanged: a file is gone, another, or no file any more; nothing is left.
        DiskFull: there is no room for it; nothing is left.
    """
    spool.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_room(manifest, spool.parent)
    descriptor, temporary = tempfile.mkstemp(dir=spool.parent, prefix=f".{spool.name}.")  # exclusive, mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            sink = _Sink(file)
            _write(manifest, sink, progress)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, spool)  # noqa: PTH105
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if lacks_room(error):
            raise DiskFull(f"no room left in {spool.parent}", hint="free some space and submit again") from error
        raise
    sync_folder(spool.parent)
    return Archive(
        path=spool,
        bytes=sink.bytes,
        sha256=sink.digest.hexdigest(),
        files=len(manifest.files),
        content_bytes=manifest.bytes,
    )


def least_bytes(manifest: Manifest) -> int:
    """What its archive has at least: exactly so much where all files are stored and none is beyond 4 GiB."""
    return sum(_least(file) for file in manifest.files) + _END_BYTES


def _least(file: FileEntry) -> int:
    return (
        _LEAST_ENTRY_BYTES + 2 * len(file.name.encode()) + (file.bytes if _is_stored(file) else _LEAST_DEFLATED_BYTES)
    )


def _is_stored(entry: FileEntry) -> bool:
    return _suffix(entry) in STORED_SUFFIXES


def _suffix(entry: FileEntry) -> str:
    return suffix_of(entry.name.rsplit("/", 1)).lower()


def verify(spool: Path, sha256: str) -> bool:
    """Whether a spool is there, a plain file, and still has this digest."""
    with contextlib.ExitStack() as stack:
        try:
            folder = open_folder(str(spool.parent))
            stack.callback(os.close, folder)
            file = stack.enter_context(open_beneath(folder, (spool.name,)))
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except OSError:
            return False


def _require_room(manifest: Manifest, folder: Path) -> None:
    needed = manifest.bytes + sum(_ENTRY_BYTES + 2 * len(file.name.encode()) for file in manifest.files)
    free = shutil.disk_usage(folder).free
    if free < needed + _MARGIN_BYTES:
        message = f"the archive needs {needed:,} bytes in {folder}; {max(0, free - _MARGIN_BYTES):,} are free"
        raise DiskFull(message, hint="free some space, or set SIMPLETUNER_HOME to a larger disk")


class _Sink:
    """Where the zip goes: counts and hashes on the way. It cannot seek, so nothing written is ever changed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        """Writes all of it."""
        self._file.write(data)
        self.digest.update(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing to do before the end."""

    def close(self) -> None:
        """The file is closed by the one who opened it."""


def _write(manifest: Manifest, sink: _Sink, progress: PackProgress) -> None:
    files = manifest.files
    stripped = frozenset(dataset.id for dataset in manifest.datasets if dataset.strip_exif)
    done_bytes = 0
    with _opened_roots(manifest) as roots, zipfile.ZipFile(sink, "w") as archive:
        progress("packaging", 0, len(files), 0)
        for done, entry in enumerate(files):
            with contextlib.closing(_add(archive, roots, entry, stripped)) as pieces:
                for size in pieces:
                    done_bytes += size
                    progress("packaging", done, len(files), done_bytes)
        progress("packaging", len(files), len(files), done_bytes)


@contextlib.contextmanager
def _opened_roots(manifest: Manifest) -> Iterator[dict[str, int]]:
    """A descriptor of each data set's root, by its id."""
    with contextlib.ExitStack() as stack:
        roots: dict[str, int] = {}
        for dataset in manifest.datasets:
            try:
                roots[dataset.id] = open_folder(dataset.root)
            except OSError as error:
                raise _changed(dataset.root, f"cannot be read any more: {error.strerror}") from error
            stack.callback(os.close, roots[dataset.id])
        yield roots


def _add(archive: zipfile.ZipFile, roots: dict[str, int], entry: FileEntry, stripped: Container[str]) -> Generator[int]:
    """Packs one file, yielding the size of each piece."""
    dataset, *parts = entry.name.split("/")
    if dataset not in roots or not parts or portable_rule(parts) is not None:
        raise _changed(entry.name, "has a name that was never planned")
    left, digest = entry.bytes, hashlib.sha256()
    strip = dataset in stripped and _suffix(entry) in IMAGE_SUFFIXES
    with _opened_source(roots[dataset], parts, entry) as source, archive.open(_header(entry), "w") as target:
        for chunk in _read(source, entry, strip=strip):
            left -= len(chunk)
            if left < 0:
                break
            digest.update(chunk)
            target.write(chunk)
            yield len(chunk)
    if left != 0 or digest.hexdigest() != entry.sha256:
        raise _changed(entry.name, "is not what it was when the plan was made")


@contextlib.contextmanager
def _opened_source(root: int, parts: list[str], entry: FileEntry) -> Iterator[BinaryIO]:
    try:
        source = open_beneath(root, parts)
    except OSError as error:
        raise _changed(entry.name, f"cannot be opened any more: {error.strerror}") from error
    with source:
        yield source


def _read(source: BinaryIO, entry: FileEntry, *, strip: bool) -> Iterator[bytes]:
    try:
        yield from leaving(source) if strip else iter(lambda: source.read(CHUNK), b"")
    except OSError as error:
        raise _changed(entry.name, f"cannot be read any more: {error.strerror}") from error
    except CannotStripError as error:
        raise _changed(entry.name, f"is not what it was when the plan was made: {error}") from error


def _header(entry: FileEntry) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(entry.name, _EPOCH)
    info.compress_type = zipfile.ZIP_STORED if _is_stored(entry) else zipfile.ZIP_DEFLATED
    info.create_system = _UNIX
    info.external_attr = _MODE << 16
    info.file_size = entry.bytes  # decides whether the entry needs zip64
    return info


def _changed(name: str, what: str) -> PlanChanged:
    return PlanChanged(
        f"{name} {what}; nothing was sent", hint="make a new plan, look at it, and agree to its new digest"
    )
