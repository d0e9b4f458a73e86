"""Which names may be buckets and objects. Pure; everything that becomes a path passes here first."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from simpletuner_lab.server.storage.errors import S3Error, not_implemented

MAX_KEY_BYTES: Final = 1024
MAX_SEGMENT_BYTES: Final = 255
RESERVED_BUCKETS: Final = frozenset({"api"})
"""`/api/...` at the root of the public listener is not a bucket (DESIGN §2.8)."""

_BUCKET: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_ADDRESS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")


def check_bucket(name: str) -> str:
    """The name itself when a bucket may be called so.

    Raises:
        S3Error: InvalidBucketName.
    """
    if name in RESERVED_BUCKETS or not _BUCKET.fullmatch(name) or _ADDRESS.fullmatch(name):
        raise S3Error("InvalidBucketName", "a bucket is 3 to 63 of a-z, 0-9, dot and hyphen, and not a reserved name")
    return name


def check_key(key: str) -> tuple[str, ...]:
    """The segments of a key, each fit to be a file name on every system we run on.

    Raises:
        S3Error: KeyTooLongError; InvalidArgument for an empty, `.` or `..` segment, a backslash, or a character that
            has no place in a name or in XML; NotImplemented for a key that ends in a slash.
    """
    segments = tuple(key.split("/"))
    if any(not _is_plain(character) for character in key):
        raise S3Error("InvalidArgument", "the key holds a backslash, a control character or one that XML cannot carry")
    if len(key.encode()) > MAX_KEY_BYTES or any(len(segment.encode()) > MAX_SEGMENT_BYTES for segment in segments):
        raise S3Error(
            "KeyTooLongError", f"a key has at most {MAX_KEY_BYTES} bytes, {MAX_SEGMENT_BYTES} between two slashes"
        )
    if any(segment in {".", ".."} for segment in segments) or "" in segments[:-1] or not key:
        raise S3Error("InvalidArgument", "the key has an empty segment, or one that is '.' or '..'")
    if segments[-1] == "":
        raise not_implemented("a key that ends in a slash (a folder marker)")
    return segments


def is_key(key: str) -> bool:
    """Whether `check_key` would let it pass; a file with another name is no object."""
    try:
        check_key(key)
    except S3Error:
        return False
    return True


def _is_plain(character: str) -> bool:
    return character not in "\\\ufffe\uffff" and unicodedata.category(character) not in {"Cc", "Cs"}
