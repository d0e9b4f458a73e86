"""The parts of a multipart upload: what is known of each, and what follows for the object they become. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import md5
from typing import Final

from simpletuner_lab.server.storage.checksums import FULL_OBJECT, composite, decoded, encoded, full_object, new_hash
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.records import Record

MAX_PARTS: Final = 10_000
MIN_PART_BYTES: Final = 5 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a multipart upload will become. `checksum` is the algorithm its parts carry, empty for none."""

    id: str
    bucket: str
    key: str
    checksum: str
    initiated_at: float
    record: Record
    checksum_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An acknowledged part. `modified_at` in seconds since the epoch; `stride` as in `slots`, 0 for a file of its own."""

    number: int
    size: int
    etag: str
    modified_at: float
    checksums: dict[str, str]
    stride: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A part as the client names it on completion, with the checksums it repeats."""

    number: int
    etag: str
    checksums: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a finished object: where it lies in it, and its checksum, empty where it has none."""

    number: int
    offset: int
    size: int
    checksum: str


def invalid_part(number: int) -> S3Error:
    """The refusal of a part that is missing or is not the one the client means."""
    return S3Error("InvalidPart", "a part is missing, or its ETag or checksum is another", PartNumber=str(number))


def check_chosen(chosen: Sequence[Chosen], parts: Sequence[Part]) -> list[Part]:
    """The stored parts behind a completion request, each verified against what the client says of it.

    Raises:
        S3Error: MalformedXML, InvalidPartOrder, InvalidPart, EntityTooSmall.
    """
    numbers = [part.number for part in chosen]
    if not numbers or len(numbers) > MAX_PARTS:
        raise S3Error("MalformedXML", f"a completion names from 1 to {MAX_PARTS} parts")
    if numbers != sorted(set(numbers)):
        raise S3Error("InvalidPartOrder", "parts are named once each, in ascending order")
    stored = {part.number: part for part in parts}
    found = []
    for wanted in chosen:
        part = stored.get(wanted.number)
        if part is None or part.etag != wanted.etag:
            raise invalid_part(wanted.number)
        if any(part.checksums.get(name) != value for name, value in wanted.checksums.items()):
            raise invalid_part(wanted.number)
        found.append(part)
    for part in found[:-1]:
        if part.size < MIN_PART_BYTES:
            raise S3Error("EntityTooSmall", f"every part but the last has at least {MIN_PART_BYTES} bytes")
    return found


def joined_etag(parts: Sequence[Part]) -> str:
    """ETag of a multipart object: the MD5 of its parts' MD5s, and their number."""
    digests = b"".join(bytes.fromhex(part.etag) for part in parts)
    return f"{md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


def joined_record(upload: Upload, parts: Sequence[Part]) -> Record:
    """The record of the object; it has a checksum where every part has one."""
    algorithm = upload.checksum
    digests = [decoded(part.checksums.get(algorithm, "")) or b"" for part in parts]
    checksums = {}
    if algorithm and all(digests):
        whole = upload.checksum_type == FULL_OBJECT
        sized = zip(digests, (part.size for part in parts), strict=True)
        checksums[algorithm] = full_object(algorithm, sized) if whole else composite(algorithm, digests)
    runs = itertools.groupby(part.size for part in parts)
    about = upload.record
    return Record(
        etag=joined_etag(parts),
        content_type=about.content_type,
        content_headers=about.content_headers,
        metadata=about.metadata,
        checksums=checksums,
        checksum_type=upload.checksum_type if checksums else "",
        upload_id=upload.id,
        part_sizes=tuple((size, len(list(run))) for size, run in runs),
        part_digests=encoded(b"".join(digests)) if checksums else "",
    )


def pieces(record: Record) -> list[Piece]:
    """The parts that an object was made of, numbered from one; none for one that came in a single piece."""
    algorithm = next(iter(record.checksums), "")
    width = len(new_hash(algorithm).digest()) if record.part_digests else 0
    digests = decoded(record.part_digests) or b""
    sizes = itertools.chain.from_iterable(itertools.repeat(size, count) for size, count in record.part_sizes)
    found, offset = [], 0
    for index, size in enumerate(sizes):
        digest = digests[index * width : (index + 1) * width]
        found.append(Piece(number=index + 1, offset=offset, size=size, checksum=encoded(digest)))
        offset += size
    return found
