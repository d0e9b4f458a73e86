"""The checksums a client may ask for, computed as the bytes pass. Values travel in base64 (S3 documentation).

A checksum of a multipart object is COMPOSITE, the hash of its parts' digests and their number, or FULL_OBJECT, the one
that its bytes in a row have; a cyclic redundancy check of the whole follows from those of the parts.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from awscrt import checksums as crt

from simpletuner_lab.server.storage.errors import S3Error, not_implemented

HEADER: Final = "x-amz-checksum-"
ELEMENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "crc32": "ChecksumCRC32",
        "crc32c": "ChecksumCRC32C",
        "crc64nvme": "ChecksumCRC64NVME",
        "sha1": "ChecksumSHA1",
        "sha256": "ChecksumSHA256",
    }
)
"""Algorithm → the element that carries its value in XML. What is not listed is refused by name."""

COMPOSITE: Final = "COMPOSITE"
FULL_OBJECT: Final = "FULL_OBJECT"

_UNSPOKEN: Final = frozenset({"sha512", "md5", "xxhash64", "xxhash3", "xxhash128"})
_NOT_VALUES: Final = frozenset({HEADER + "algorithm", HEADER + "mode", HEADER + "type"})


class Hash(Protocol):
    """What hashlib's objects do."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Takes the next bytes."""

    def digest(self) -> bytes:
        """The value over all bytes so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """A cyclic redundancy check: how it goes on, how the values of two pieces become that of both, its bytes."""

    extend: Callable[[bytes | memoryview, int], int]
    combine: Callable[[int, int, int], int]
    width: int


CYCLES: Final[Mapping[str, Cycle]] = MappingProxyType(
    {
        "crc32": Cycle(extend=zlib.crc32, combine=crt.combine_crc32, width=4),
        "crc32c": Cycle(extend=crt.crc32c, combine=crt.combine_crc32c, width=4),
        "crc64nvme": Cycle(extend=crt.crc64nvme, combine=crt.combine_crc64nvme, width=8),
    }
)


class Crc:
    """A cyclic redundancy check with the face of a hashlib object."""

    __slots__ = ("_cycle", "_value")

    def __init__(self, cycle: Cycle) -> None:
        self._cycle = cycle
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        """Takes the next bytes."""
        self._value = self._cycle.extend(data, self._value)

    def digest(self) -> bytes:
        """The value, most significant byte first, as S3 writes it."""
        return self._value.to_bytes(self._cycle.width, "big")


def new_hash(algorithm: str) -> Hash:
    """A fresh hash of an algorithm of `ELEMENTS`, or of `md5`."""
    if algorithm in CYCLES:
        return Crc(CYCLES[algorithm])
    return hashlib.new(algorithm, usedforsecurity=False)


def algorithm_named(name: str) -> str:
    """The algorithm a header names (`CRC32`, `x-amz-checksum-crc32`), checked to be one we can compute.

    Raises:
        S3Error: InvalidRequest for what S3 does not know either, NotImplemented for the rest.
    """
    algorithm = name.lower().removeprefix(HEADER)
    if algorithm in _UNSPOKEN:
        raise not_implemented(f"the checksum algorithm {algorithm}")
    if algorithm not in ELEMENTS:
        raise S3Error("InvalidRequest", "the checksum algorithm is not one that S3 knows")
    return algorithm


def type_of(algorithm: str, given: str) -> str:
    """How the checksum of a multipart object is made; `given` is what the client says, empty for nothing.

    Raises:
        S3Error: InvalidRequest, where algorithm and type do not go together.
    """
    if not algorithm:
        if given:
            raise S3Error("InvalidRequest", "x-amz-checksum-type goes with x-amz-checksum-algorithm")
        return ""
    kind = given or (FULL_OBJECT if algorithm == "crc64nvme" else COMPOSITE)
    if kind not in {COMPOSITE, FULL_OBJECT}:
        raise S3Error("InvalidRequest", f"x-amz-checksum-type is {COMPOSITE} or {FULL_OBJECT}")
    if (kind == FULL_OBJECT and algorithm not in CYCLES) or (kind == COMPOSITE and algorithm == "crc64nvme"):
        raise S3Error("InvalidRequest", f"the checksum {algorithm.upper()} cannot be {kind}")
    return kind


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


def encoded(digest: bytes) -> str:
    """A digest as headers and XML carry it."""
    return base64.b64encode(digest).decode("ascii")


def composite(algorithm: str, digests: Sequence[bytes]) -> str:
    """Checksum of a multipart object: the hash of its parts' digests, and how many there were."""
    whole = new_hash(algorithm)
    whole.update(b"".join(digests))
    return f"{encoded(whole.digest())}-{len(digests)}"


def full_object(algorithm: str, parts: Iterable[tuple[bytes, int]]) -> str:
    """Checksum of bytes in a row from the digests and sizes of their pieces, none of which is read again."""
    cycle = CYCLES[algorithm]
    value = 0
    for digest, size in parts:
        value = cycle.combine(value, int.from_bytes(digest, "big"), size)
    return encoded(value.to_bytes(cycle.width, "big"))
