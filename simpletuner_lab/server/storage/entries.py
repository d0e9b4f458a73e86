"""What a folder holds, in the order of keys, kept while it is certain that nothing in it was made, removed or renamed.

A listing of many pages would else read and sort the whole folder for each of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final

from simpletuner_lab.core.naming import MARKER
from simpletuner_lab.server.storage.keys import is_key

MOST_NAMES: Final = 200_000
"""So many names are kept in all, about 15 MB."""

SETTLED_NS: Final = 2_000_000_000
"""A time stamp so old is not given to the next change too: file systems count in ticks of up to two seconds."""

SLASH: Final = b"/"


class Entries:
    """The entries of folders, by their descriptor: files and folders whose names may stand in keys.

    Each is the bytes by which it sorts: a file its name, a folder its name and a slash, the marker of the folder itself
    nothing. Links and devices are left out.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], tuple[tuple[int, int], list[bytes]]] = {}

    def of(self, directory: int) -> Sequence[bytes]:
        """In ascending order; not to be changed."""
        status = os.fstat(directory)
        place, stamp = (status.st_dev, status.st_ino), (status.st_mtime_ns, status.st_ctime_ns)
        kept = self._kept.get(place)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        settled = max(stamp) + SETTLED_NS < time.time_ns()
        found = _read(directory)
        if settled:
            self._keep(place, (stamp, found))
        return found

    def _keep(self, place: tuple[int, int], what: tuple[tuple[int, int], list[bytes]]) -> None:
        others = sum(len(names) for _, names in tuple(self._kept.values()))
        if others + len(what[1]) > MOST_NAMES:
            self._kept.clear()
        if len(what[1]) <= MOST_NAMES:
            self._kept[place] = what


def name_of(entry: bytes) -> str:
    """The name of an entry in its folder."""
    return entry.rstrip(SLASH).decode() or MARKER


def _read(directory: int) -> list[bytes]:
    with os.scandir(directory) as entries:
        found = [
            b"" if name == MARKER else (f"{name}/" if is_folder else name).encode()
            for entry in entries
            if (is_folder := entry.is_dir(follow_symlinks=False)) or entry.is_file(follow_symlinks=False)
            if is_key(name := entry.name) or (name == MARKER and not is_folder)
        ]
    return sorted(found)
