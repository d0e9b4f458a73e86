"""File systems on which two names are one: macOS and Windows fold case, some fold the ways to write an accent.

Keys that differ must be different objects. Where names fall together, the second one is refused, and a key is found
only under the very name it was stored with.
"""

from __future__ import annotations

import errno
import os
import unicodedata
from pathlib import Path

_PROBE = "Probe-\N{LATIN SMALL LETTER E WITH ACUTE}"


class FallsTogether(OSError):
    """The name is not there, but another that this file system takes for it."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.ENOENT, "another name is taken for this one here", name)


def folded(name: str) -> str:
    """One form for all names that some file system might take for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def names_in(directory: int) -> list[str]:
    """The names in a folder, by its descriptor."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def check_exact(directory: int, name: str) -> None:
    """Passes when the folder holds exactly this name, or none that falls together with it.

    Raises:
        FallsTogether: it holds another.
    """
    names = names_in(directory)
    if name not in names and folded(name) in map(folded, names):
        raise FallsTogether(name)


def probe(place: Path) -> bool:
    """Whether names fall together in this folder, found out by trying.

    Raises:
        OSError: it cannot be tried, on a full disk for one.
    """
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = place / f"{_PROBE}-{os.getpid()}"
    plain = unicodedata.normalize("NFD", path.name)
    others = (place / name for name in (path.name.lower(), plain, plain.lower()))
    path.touch(mode=0o600)
    try:
        return any(other.exists() for other in others)
    finally:
        path.unlink(missing_ok=True)
