"""Which names may be buckets and objects. Pure; everything that becomes a path passes here first."""

from __future__ import annotations

import unicodedata
from typing import Final

from simpletuner_lab.core.naming import MARKER, is_bucket
from simpletuner_lab.server.storage.errors import S3Error

MAX_KEY_BYTES: Final = 1024
MAX_SEGMENT_BYTES: Final = 255


def check_bucket(name: str) -> str:
    """The name itself when a bucket may be called so.

    Raises:
        S3Error: InvalidBucketName.
    """
    if not is_bucket(name):
        raise S3Error("InvalidBucketName", "a bucket is 3 to 63 of a-z, 0-9, dot and hyphen, and not a reserved name")
    return name


def check_key(key: str) -> tuple[str, ...]:
    """The names of folders and file that a key is, each fit for every system we run on; `a/` is a marker in `a`.

    Raises:
        S3Error: KeyTooLongError; InvalidArgument for an empty, `.` or `..` segment, the marker's own name, a
            backslash, or a character that has no place in a name or in XML.
    """
    segments = tuple(key.split("/"))
    carried = key.isprintable() if key.isascii() else all(map(is_carried, key))
    if "\\" in key or not carried:
        raise S3Error("InvalidArgument", "the key holds a backslash, a control character or one that XML cannot carry")
    size = len(key.encode())
    if size > MAX_KEY_BYTES or (
        size > MAX_SEGMENT_BYTES and any(len(segment.encode()) > MAX_SEGMENT_BYTES for segment in segments)
    ):
        raise S3Error(
            "KeyTooLongError", f"a key has at most {MAX_KEY_BYTES} bytes, {MAX_SEGMENT_BYTES} between two slashes"
        )
    if any(segment in {".", ".."} or segment.casefold() == MARKER for segment in segments):
        raise S3Error("InvalidArgument", f"the key has a segment that is '.', '..' or '{MARKER}'")
    if not segments[0] or "" in segments[:-1]:
        raise S3Error("InvalidArgument", "the key is empty, begins with a slash or has two of them in a row")
    return segments if segments[-1] else (*segments[:-1], MARKER)


def is_key(key: str) -> bool:
    """Whether `check_key` would let it pass; a file with another name is no object."""
    try:
        check_key(key)
    except S3Error:
        return False
    return True


def is_carried(character: str) -> bool:
    """Whether XML can carry a character; of control characters we let none pass."""
    return character not in "\ufffe\uffff" and unicodedata.category(character) not in {"Cc", "Cs"}
