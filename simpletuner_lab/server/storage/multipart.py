"""Multipart uploads, each a folder: `upload.json` says what it will be, `00001` and so on are its parts.

A part is acknowledged once it is whole, in place and on the disk, so an upload goes on after a crash with the parts
that were answered. Its bytes are in that file, or in the slot of a file that all parts share (`slots`). A folder
without `upload.json` is a leftover.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simpletuner_lab.server.storage import slots
from simpletuner_lab.server.storage.drafts import Draft
from simpletuner_lab.server.storage.errors import S3Error, disk_errors
from simpletuner_lab.server.storage.folding import names_in
from simpletuner_lab.server.storage.parts import Part, Upload, invalid_part
from simpletuner_lab.server.storage.records import ObjectInfo, Record, Records
from simpletuner_lab.server.storage.tree import folder, open_file

MAX_AGE_S: Final = 7 * 24 * 3600
"""An upload that nobody completed for a week is swept."""

_UNFINISHED_S: Final = 60
_ABOUT: Final = "upload.json"
_ID: Final = re.compile(r"[0-9a-f]{32}")
_PART: Final = re.compile(r"[0-9]{5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWriter:
    """A part on its way into a file of its own: a `Writer`."""

    draft: Draft
    place: Callable[[Draft, Record], None]
    algorithm: str

    def write(self, data: memoryview | bytes) -> None:
        """Appends; raises S3Error InsufficientStorage."""
        self.draft.write(data)

    def commit(self, record: Record) -> None:
        """Acknowledges the part; raises S3Error."""
        self.place(self.draft, record)

    def discard(self) -> None:
        """Removes what was written; after a commit nothing happens."""
        self.draft.discard()


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
        fields = {name: getattr(upload, name) for name in Upload.__slots__}
        about.write(json.dumps(fields | {"record": upload.record.as_json()}).encode())
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

    def all(self) -> list[Upload]:
        """Every upload that is under way."""
        return [upload for upload_id in self._ids() if (upload := self._load(upload_id)) is not None]

    def open_part(self, upload: Upload, number: int, size: int, draft: Draft) -> PartWriter | slots.SlotWriter:
        """Where a part of `size` bytes goes; the draft, in which it is counted already, becomes its file.

        Raises:
            S3Error: NoSuchUpload, InsufficientStorage.
        """

        def place(draft: Draft, record: Record) -> None:
            self._acknowledge(upload, number, draft, record)

        try:
            with disk_errors(), folder(self._place, (upload.id,)) as directory:
                stride = slots.stride_for(directory, number, size)
                opened = slots.open_slot(directory, number, stride) if stride else None
        except FileNotFoundError as error:
            raise _gone() from error
        if opened is None:
            return PartWriter(draft=draft, place=place, algorithm=upload.checksum)
        data, claim = opened
        return slots.SlotWriter(
            about=draft,
            place=place,
            data=data,
            claim=claim,
            offset=(number - 1) * stride,
            stride=stride,
            algorithm=upload.checksum,
        )

    def parts(self, upload: Upload) -> list[Part]:
        """The acknowledged parts by number."""
        try:
            with folder(self._place, (upload.id,)) as directory:
                names = sorted(name for name in names_in(directory) if _PART.fullmatch(name))
                found = [self._part(directory, name) for name in names]
        except FileNotFoundError:
            found = []
        return [part for part in found if part is not None]

    @contextmanager
    def folder_of(self, upload: Upload) -> Iterator[int]:
        """Descriptor of an upload's folder."""
        with folder(self._place, (upload.id,)) as directory:
            yield directory

    @contextmanager
    def part_file(self, directory: int, part: Part) -> Iterator[tuple[int, int]]:
        """Descriptor and offset of a part's bytes, as long as it is still the one that was listed.

        Raises:
            S3Error: InvalidPart.
        """
        descriptor = open_file(f"{part.number:05}", directory)
        record = None if descriptor is None else self._records.read(descriptor)
        if descriptor is None or record is None or record.etag != part.etag:
            if descriptor is not None:
                os.close(descriptor)
            raise invalid_part(part.number)
        try:
            if not record.slot:
                yield descriptor, 0
                return
            stride = record.slot[0]
            data = open_file(f"data-{stride}", directory)
            if data is None:
                raise invalid_part(part.number)
            try:
                yield data, (part.number - 1) * stride
            finally:
                os.close(data)
        finally:
            os.close(descriptor)

    @contextmanager
    def ending(self, upload_id: str, bucket: str, key: str) -> Iterator[Upload]:
        """Holds the upload while it is completed or aborted: whoever comes second finds it gone.

        Raises:
            S3Error: NoSuchUpload.
        """
        self.find(upload_id, bucket, key)
        with self._held(upload_id, fcntl.LOCK_EX) as held:
            if not held:
                raise _gone()
            yield self.find(upload_id, bucket, key)

    def remove(self, upload_id: str) -> None:
        """Ends an upload: its description first, so that nothing takes it for one from then on."""
        directory = self._place / upload_id
        with suppress(FileNotFoundError):
            for name in (_ABOUT, *(entry.name for entry in directory.iterdir() if entry.name != _ABOUT)):
                self._records.forget((directory / name).stat(follow_symlinks=False))
                (directory / name).unlink()
        try:
            directory.rmdir()
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.ENOENT}:  # a part came in just now; the next sweep takes it
                raise

    def used_bytes(self, bucket: str, prefix: str) -> int:
        """Bytes that unfinished uploads hold for keys with this prefix; holes between parts are none."""
        return sum(part.size for upload in self._under(bucket, prefix) for part in self.parts(upload))

    def count(self, bucket: str, prefix: str) -> int:
        """How many are unfinished for keys with this prefix."""
        return sum(1 for _ in self._under(bucket, prefix))

    def _under(self, bucket: str, prefix: str) -> Iterator[Upload]:
        return (upload for upload in self.all() if upload.bucket == bucket and upload.key.startswith(prefix))

    def size_of(self, upload: Upload, number: int) -> int:
        """Bytes of a part that was acknowledged, 0 where none was."""
        with suppress(FileNotFoundError), folder(self._place, (upload.id,)) as directory:
            part = self._part(directory, f"{number:05}")
            return 0 if part is None else part.size
        return 0

    def sweep(self, now: float, made_by: Callable[[str, str, str], ObjectInfo | None]) -> None:
        """Removes leftovers, uploads begun more than a week ago, and those that did become their object.

        In what goes on, the space of parts that a killed server did not acknowledge is given back.
        """
        for upload_id in self._ids():
            upload = self._load(upload_id)
            directory = self._place / upload_id
            if upload is None:
                with suppress(FileNotFoundError):
                    if directory.stat().st_mtime + _UNFINISHED_S < now:
                        shutil.rmtree(directory)
                continue
            with self._held(upload_id, fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
                if not held:  # another server is just completing it, or has
                    continue
                if upload.initiated_at + MAX_AGE_S < now:
                    shutil.rmtree(directory)
                elif made_by(upload.bucket, upload.key, upload.id):
                    self.remove(upload_id)
                else:
                    self._free(upload)

    def _free(self, upload: Upload) -> None:
        """Gives back what is claimed and not acknowledged; other servers may be writing parts at this moment."""
        with self.folder_of(upload) as directory:
            for name in names_in(directory):
                if match := slots.CLAIM.fullmatch(name):
                    self._free_slot(directory, int(match[1]))

    def _free_slot(self, directory: int, number: int) -> None:
        def is_kept() -> bool:
            part = self._part(directory, f"{number:05}")
            return part is not None and part.stride > 0

        slots.free_slot(directory, number, is_kept)

    def _acknowledge(self, upload: Upload, number: int, draft: Draft, record: Record) -> None:
        """One sent again replaces the earlier, and what that had in a slot is given back unless it is being read."""
        draft.seal(record)
        try:
            with folder(self._place, (upload.id,)) as directory:
                old = self._part(directory, f"{number:05}")
                draft.move(directory, f"{number:05}", lambda: _check_begun(directory))
                if old is not None and old.stride and not record.slot:
                    with self._held(upload.id, fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
                        if held:
                            self._free_slot(directory, number)
        except FileNotFoundError as error:
            raise _gone() from error

    @contextmanager
    def _held(self, upload_id: str, how: int) -> Iterator[bool]:
        try:
            descriptor = os.open(self._place / upload_id / _ABOUT, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            fcntl.flock(descriptor, how)
            held = os.fstat(descriptor).st_nlink > 0
        except BlockingIOError:
            held = False
        try:
            yield held
        finally:
            os.close(descriptor)

    def _ids(self) -> list[str]:
        if not self._place.is_dir():
            return []
        return sorted(entry.name for entry in self._place.iterdir() if _ID.fullmatch(entry.name))

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
        stride, size = record.slot or (0, status.st_size)
        return Part(
            number=int(name),
            size=size,
            etag=record.etag,
            modified_at=status.st_mtime,
            checksums=dict(record.checksums),
            stride=stride,
        )


def _check_begun(directory: int) -> None:
    os.stat(_ABOUT, dir_fd=directory)


def _gone() -> S3Error:
    return S3Error("NoSuchUpload", "the upload was completed or aborted meanwhile")
