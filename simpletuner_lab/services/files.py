"""Writing small files so that a kill leaves the old one or the new one, never a piece."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from simpletuner_lab.core.errors import DiskFull, StoreUnusable, lacks_room


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces `path` with `data`, mode 0600: temporary file, fsync, rename, fsync of the folder.

    Raises:
        DiskFull: there is no room for it.
        StoreUnusable: it cannot be written for another reason. What was there stays, as with a full disk.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if lacks_room(error):
            raise DiskFull(f"no room for {path}", hint="free some space and try again") from error
        raise StoreUnusable(
            f"{path} cannot be written: {error.strerror}", hint="see whether its folder can be"
        ) from error
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes a rename in this folder survive a power cut."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
