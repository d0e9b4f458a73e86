"""The checksums a client may ask for, computed as the bytes pass. Values travel in base64 (S3 documentation)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from simpletuner_lab.server.storage.errors import S3Error, not_implemented

HEADER: Final = "x-amz-checksum-"
ELEMENTS: Final[Mapping[str, str]] = MappingProxyType(
    {"crc32": "ChecksumCRC32", "crc32c": "ChecksumCRC32C", "sha1": "ChecksumSHA1", "sha256": "ChecksumSHA256"}
)
"""Algorithm → the element that carries its value in XML. What is not listed is refused by name."""

_ALL_NAMES: Final = frozenset({*ELEMENTS, "crc64nvme", "sha512", "md5", "xxhash64", "xxhash3", "xxhash128"})
_NOT_VALUES: Final = frozenset({HEADER + "algorithm", HEADER + "mode", HEADER + "type"})


class Hash(Protocol):
    """What hashlib's objects do."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Takes the next bytes."""

    def digest(self) -> bytes:
        """The value over all bytes so far."""


class Crc:
    """A 32-bit cyclic redundancy check with the face of a hashlib object."""

    __slots__ = ("_function", "_value")

    def __init__(self, function: Callable[[bytes | memoryview, int], int]) -> None:
        self._function = function
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        """Takes the next bytes."""
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        """The value, most significant byte first, as S3 writes it."""
        return self._value.to_bytes(4, "big")


def new_hash(algorithm: str) -> Hash:
    """A fresh hash.

    Raises:
        S3Error: NotImplemented for an algorithm that this installation cannot compute.
    """
    if algorithm == "md5":
        return hashlib.md5(usedforsecurity=False)
    if algorithm == "sha1":
        return hashlib.sha1(usedforsecurity=False)
    if algorithm == "sha256":
        return hashlib.sha256()
    if algorithm == "crc32":
        return Crc(zlib.crc32)
    if algorithm == "crc32c":
        return Crc(_crc32c())
    raise not_implemented(f"the checksum algorithm {algorithm}")


def algorithm_named(name: str) -> str:
    """The algorithm a header names (`CRC32`, `x-amz-checksum-crc32`), checked to be one we can compute."""
    algorithm = name.lower().removeprefix(HEADER)
    if algorithm not in _ALL_NAMES:
        raise S3Error("InvalidRequest", "the checksum algorithm is not one that S3 knows")
    if algorithm not in ELEMENTS:
        raise not_implemented(f"the checksum algorithm {algorithm}")
    new_hash(algorithm)
    return algorithm


def declared(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """The one checksum a request declares for its body, as (algorithm, base64 value).

    Raises:
        S3Error: more than one is declared, or the value has the wrong form.
    """
    names = [name for name in headers if name.startswith(HEADER) and name not in _NOT_VALUES]
    if len(names) > 1:
        raise S3Error("InvalidRequest", "a request carries one checksum, not several")
    if not names:
        return None
    algorithm = algorithm_named(names[0])
    return algorithm, checked_value(algorithm, headers[names[0]])


def checked_value(algorithm: str, value: str) -> str:
    """The value itself when it is base64 of as many bytes as the algorithm gives."""
    if len(decoded(value) or b"") != len(new_hash(algorithm).digest()):
        raise S3Error("InvalidRequest", f"the value of {HEADER}{algorithm} is not base64 of the right length")
    return value


def decoded(value: str) -> bytes | None:
    """The bytes of a base64 value, None where it is not base64."""
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None


def composite(algorithm: str, values: Iterable[str]) -> str:
    """Checksum of a multipart object: the hash of its parts' digests, and how many there were."""
    digests = [decoded(value) or b"" for value in values]
    whole = new_hash(algorithm)
    whole.update(b"".join(digests))
    return f"{base64.b64encode(whole.digest()).decode('ascii')}-{len(digests)}"


def _crc32c() -> Callable[[bytes | memoryview, int], int]:
    """From a library that happens to be installed; in plain Python it would be slower than any network."""
    for module, name, value_first in (("awscrt.checksums", "crc32c", False), ("google_crc32c", "extend", True)):
        try:
            found: Callable[..., int] = getattr(importlib.import_module(module), name)
        except ImportError:
            continue
        if value_first:
            return lambda data, value: found(value, bytes(data))
        return lambda data, value: found(bytes(data), value)
    raise not_implemented("the checksum algorithm crc32c (without awscrt or google-crc32c)")
