"""One page of a listing: keys rolled up at a delimiter, cut off after so many, to be continued (S3's ListObjects)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.server.storage.parts import Upload
from simpletuner_lab.server.storage.records import ObjectInfo
from simpletuner_lab.server.storage.tree import AFTER_ALL, Found, Walk

MAX_PAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`next_after` is where the next page begins, empty on the last one."""

    objects: tuple[ObjectInfo, ...]
    prefixes: tuple[str, ...]
    next_after: bytes = b""

    @property
    def last(self) -> str:
        """The last key or common prefix of a page that was cut off."""
        return self.next_after.removesuffix(AFTER_ALL).decode()


def rolled_up(key: str, prefix: str, delimiter: str) -> str | None:
    """The common prefix that stands for this key, None where the key stands for itself."""
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if at < 0 else key[: at + len(delimiter)]


def after_marker(marker: str, prefix: str, delimiter: str) -> bytes:
    """Where version 1 goes on: behind everything that a common prefix given as marker stands for."""
    whole = marker.startswith(prefix) and rolled_up(marker, prefix, delimiter) == marker
    return marker.encode() + (AFTER_ALL if whole else b"")


def list_page(
    walk: Walk, describe: Callable[[Found], ObjectInfo | None], *, prefix: str, delimiter: str, max_keys: int
) -> Page:
    """The first `max_keys` keys and common prefixes that the walk meets; `describe` gives None for one just gone."""
    objects: list[ObjectInfo] = []
    prefixes: list[str] = []
    last = b""
    """Where the page ends if it ends with a common prefix."""
    for found in walk if max_keys else ():
        if len(objects) + len(prefixes) == max_keys:
            next_after = last or objects[-1].key.encode()
            return Page(objects=tuple(objects), prefixes=tuple(prefixes), next_after=next_after)
        common = rolled_up(found.key, prefix, delimiter) if delimiter else None
        if common is not None:
            prefixes.append(common)
            last = walk.after = common.encode() + AFTER_ALL
        elif (info := describe(found)) is not None:
            objects.append(info)
            last = b""
    return Page(objects=tuple(objects), prefixes=tuple(prefixes))


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsPage:
    """`next_key` and `next_id` are where the next page begins, empty on the last one."""

    uploads: tuple[Upload, ...]
    prefixes: tuple[str, ...]
    next_key: str = ""
    next_id: str = ""


def uploads_page(
    uploads: Iterable[Upload], *, prefix: str, delimiter: str, after: tuple[str, str], limit: int
) -> UploadsPage:
    """The first `limit` uploads and common prefixes behind `after`, a key and, where it is not empty, an id.

    A key alone passes by all uploads of it. The ids of one key sort by the time at which they were given.
    """
    key_after, id_after = after[0].encode(), after[1]
    found: list[Upload] = []
    prefixes: list[str] = []
    last = ("", "")
    for upload in sorted(uploads, key=lambda upload: (upload.key.encode(), upload.id)):
        key = upload.key.encode()
        passed = key <= key_after and not (key == key_after and id_after and upload.id > id_after)
        common = rolled_up(upload.key, prefix, delimiter)
        rolled = common is not None and (after[0].startswith(common) or common in prefixes[-1:])
        if not upload.key.startswith(prefix) or (key_after and passed) or rolled:
            continue
        if len(found) + len(prefixes) == limit:
            if not limit:
                break
            return UploadsPage(uploads=tuple(found), prefixes=tuple(prefixes), next_key=last[0], next_id=last[1])
        if common is not None:
            prefixes.append(common)
            last = (common, "")
        else:
            found.append(upload)
            last = (upload.key, upload.id)
    return UploadsPage(uploads=tuple(found), prefixes=tuple(prefixes))
