"""Multipart uploads, each a folder: `upload.json` says what it will be, `00001` and so on are its parts.

A part is acknowledged once it is whole, in place and on the disk, so an upload goes on after a crash with the parts
that were answered. A folder without `upload.json` is a leftover. Completing copies the parts inside the kernel; a
cheaper way for tens of gigabytes (writing parts of equal size straight into one file) would replace `copy_parts` alone.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import md5
from pathlib import Path
from typing import Final

from simpletuner_lab.server.storage.checksums import composite
from simpletuner_lab.server.storage.drafts import Draft
from simpletuner_lab.server.storage.errors import S3Error, disk_errors
from simpletuner_lab.server.storage.records import Record, Records
from simpletuner_lab.server.storage.tree import folder, open_file

MAX_PARTS: Final = 10_000
MIN_PART_BYTES: Final = 5 << 20
MAX_AGE_S: Final = 7 * 24 * 3600
"""An upload that nobody completed for a week is swept."""

_UNFINISHED_S: Final = 60
_ABOUT: Final = "upload.json"
_ID: Final = re.compile(r"[0-9a-f]{32}")
_PART: Final = re.compile(r"[0-9]{5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a multipart upload will become. `checksum` is the algorithm its parts carry, empty for none."""

    id: str
    bucket: str
    key: str
    checksum: str
    initiated_at: float
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An acknowledged part; `modified_at` in seconds since the epoch."""

    number: int
    size: int
    etag: str
    modified_at: float
    checksums: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A part as the client names it on completion, with the checksums it repeats."""

    number: int
    etag: str
    checksums: dict[str, str] = field(default_factory=dict)


class Uploads:
    """The multipart uploads under one folder."""

    def __init__(self, place: Path, records: Records) -> None:
        self._place = place
        self._records = records

    def create(self, upload: Upload, about: Draft) -> None:
        """Begins an upload; `about` is an empty draft that becomes its description.

        Raises:
            S3Error: InsufficientStorage.
        """
        about.write(json.dumps(asdict(upload)).encode())
        with disk_errors():
            self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.fsync(about.descriptor)
            with folder(self._place, (), create=(upload.id,)) as directory:
                about.move(directory, _ABOUT)

    def find(self, upload_id: str, bucket: str, key: str) -> Upload:
        """The upload with this id, of this object and no other.

        Raises:
            S3Error: NoSuchUpload.
        """
        upload = self._load(upload_id)
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            raise S3Error("NoSuchUpload", "there is no such upload: never begun, completed or aborted")
        return upload

    def put_part(self, upload: Upload, number: int, part: Draft, record: Record) -> None:
        """Acknowledges a part; one sent again replaces the earlier.

        Raises:
            S3Error: NoSuchUpload, when the upload ended meanwhile; InsufficientStorage.
        """
        part.seal(record)
        try:
            with folder(self._place, (upload.id,)) as directory:
                os.stat(_ABOUT, dir_fd=directory)
                part.move(directory, f"{number:05}")
        except FileNotFoundError as error:
            raise S3Error("NoSuchUpload", "the upload was completed or aborted meanwhile") from error

    def parts(self, upload: Upload) -> list[Part]:
        """The acknowledged parts by number."""
        try:
            with folder(self._place, (upload.id,)) as directory:
                with os.scandir(directory) as entries:
                    names = sorted(entry.name for entry in entries if _PART.fullmatch(entry.name))
                found = [self._part(directory, name) for name in names]
        except FileNotFoundError:
            found = []
        return [part for part in found if part is not None]

    def copy_parts(self, upload: Upload, chosen: Sequence[Chosen], whole: Draft) -> None:
        """Copies the chosen parts, one after the other, into `whole`.

        Raises:
            S3Error: NoSuchUpload, InvalidPart, InsufficientStorage.
        """
        with folder(self._place, (upload.id,)) as directory:
            for wanted in chosen:
                descriptor = open_file(f"{wanted.number:05}", directory)
                if descriptor is None:
                    raise invalid_part(wanted.number)
                try:
                    record = self._records.read(descriptor)
                    if record is None or record.etag != wanted.etag:
                        raise invalid_part(wanted.number)
                    whole.copy_from(descriptor, os.fstat(descriptor).st_size)
                finally:
                    os.close(descriptor)

    @contextmanager
    def ending(self, upload_id: str, bucket: str, key: str) -> Iterator[Upload]:
        """Holds the upload while it is completed or aborted: whoever comes second finds it gone.

        Raises:
            S3Error: NoSuchUpload.
        """
        self.find(upload_id, bucket, key)
        gone = S3Error("NoSuchUpload", "the upload was completed or aborted meanwhile")
        try:
            descriptor = os.open(self._place / upload_id / _ABOUT, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise gone from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink == 0:
                raise gone
            yield self.find(upload_id, bucket, key)
        finally:
            os.close(descriptor)

    def remove(self, upload_id: str) -> None:
        """Ends an upload: its description first, so that nothing takes it for one from then on."""
        directory = self._place / upload_id
        for name in (_ABOUT, *(entry.name for entry in directory.iterdir() if entry.name != _ABOUT)):
            self._records.forget((directory / name).stat(follow_symlinks=False))
            (directory / name).unlink()
        try:
            directory.rmdir()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # a part came in at this moment; the next sweep takes it
                raise

    def used_bytes(self, bucket: str, prefix: str) -> int:
        """Bytes that unfinished uploads hold for keys with this prefix."""
        total = 0
        for upload_id in self._ids():
            upload = self._load(upload_id)
            if upload is not None and upload.bucket == bucket and upload.key.startswith(prefix):
                total += sum(part.size for part in self.parts(upload))
        return total

    def sweep(self, now: float) -> None:
        """Removes leftovers and uploads begun more than a week ago."""
        for upload_id in self._ids():
            upload = self._load(upload_id)
            directory = self._place / upload_id
            begun = upload.initiated_at + MAX_AGE_S if upload else directory.stat().st_mtime + _UNFINISHED_S
            if begun < now:
                shutil.rmtree(directory)

    def _ids(self) -> list[str]:
        if not self._place.is_dir():
            return []
        return [entry.name for entry in self._place.iterdir() if _ID.fullmatch(entry.name)]

    def _load(self, upload_id: str) -> Upload | None:
        if not _ID.fullmatch(upload_id):
            return None
        try:
            fields = json.loads((self._place / upload_id / _ABOUT).read_bytes())
            return Upload(**{**fields, "record": Record(**fields["record"])})
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def _part(self, directory: int, name: str) -> Part | None:
        descriptor = open_file(name, directory)
        if descriptor is None:
            return None
        try:
            record, status = self._records.read(descriptor), os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if record is None:
            return None
        return Part(
            number=int(name),
            size=status.st_size,
            etag=record.etag,
            modified_at=status.st_mtime,
            checksums=dict(record.checksums),
        )


def invalid_part(number: int) -> S3Error:
    """The refusal of a part that is missing or is not the one the client means."""
    return S3Error("InvalidPart", "a part is missing, or its ETag or checksum is another", PartNumber=str(number))


def check_chosen(chosen: Sequence[Chosen], parts: Sequence[Part]) -> list[Part]:
    """The stored parts behind a completion request, each verified against what the client says of it. Pure.

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


def joined_checksums(algorithm: str, parts: Sequence[Part]) -> dict[str, str]:
    """Composite checksum of a multipart object; none when a part came without."""
    values = [part.checksums.get(algorithm, "") for part in parts]
    return {algorithm: composite(algorithm, values)} if algorithm and all(values) else {}
