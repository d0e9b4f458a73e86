"""The object store: plain files `<root>/<bucket>/<key>` that a person can open, and `<root>/.stlab` for what is not done.

Synchronous, without a database and without a clock; run it on an executor. An object appears whole or not at all:
it is written as a draft on the same file system, flushed to the disk, renamed, and its folder flushed. Files that a
person drops in are objects too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simpletuner_lab.core.destination import OUTPUTS_BUCKET
from simpletuner_lab.server.storage.buckets import Buckets
from simpletuner_lab.server.storage.drafts import Draft, Drafts, Quota
from simpletuner_lab.server.storage.errors import S3Error, disk_errors
from simpletuner_lab.server.storage.keys import check_key
from simpletuner_lab.server.storage.listing import Page, list_page
from simpletuner_lab.server.storage.multipart import Uploads
from simpletuner_lab.server.storage.records import Record, Records
from simpletuner_lab.server.storage.tree import NOT_THERE, Found, Walk, folder, open_file, remove_empty

_READ_BYTES: Final = 1 << 20
_PLACING_TRIES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """An object as listings and headers tell of it; `modified_at` in seconds since the epoch."""

    key: str
    size: int
    modified_at: float
    record: Record


class ObjectReader:
    """An open object: it stays what it was when opened, whatever is written or deleted meanwhile."""

    def __init__(self, descriptor: int, info: ObjectInfo) -> None:
        self._descriptor = descriptor
        self.info = info

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        return os.pread(self._descriptor, size, offset)

    def close(self) -> None:
        """Lets the file go."""
        os.close(self._descriptor)


class ObjectWriter:
    """An object on its way. Either `commit` makes it visible, or `discard` leaves everything as it was."""

    def __init__(self, draft: Draft, place: Callable[[Draft, Record], None]) -> None:
        self._draft = draft
        self._place = place

    def write(self, data: memoryview | bytes) -> None:
        """Appends; raises S3Error InsufficientStorage."""
        self._draft.write(data)

    def commit(self, record: Record) -> None:
        """Makes the bytes and the record visible in one step, durably; raises S3Error when that cannot be."""
        self._place(self._draft, record)

    def discard(self) -> None:
        """Removes what was written; after a commit nothing happens."""
        self._draft.discard()


class ObjectStore:
    """Buckets and objects below one folder. `token` gives 32 random hexadecimal digits."""

    def __init__(
        self,
        root: Path,
        *,
        token: Callable[[], str] = lambda: secrets.token_hex(16),
        records: Records | None = None,
    ) -> None:
        own = root / ".stlab"
        self._root = root
        self._records = records or Records(own / "records")
        self._drafts = Drafts(own / "drafts", self._records, token)
        self.buckets = Buckets(root)
        self.uploads = Uploads(own / "uploads", self._records)
        self.token = token

    def sweep(self, now: float) -> None:
        """Makes the root and the bucket of outputs, and removes what an earlier process left half done."""
        self.buckets.create(OUTPUTS_BUCKET)
        self._drafts.sweep()
        self.uploads.sweep(now)

    def open_writer(self, bucket: str, key: str, size: int, quota: Quota | None = None) -> ObjectWriter:
        """Begins an object of `size` bytes.

        Raises:
            S3Error: NoSuchBucket, a key that cannot be, InsufficientStorage.
        """
        check_key(key)
        if bucket == OUTPUTS_BUCKET:
            self.buckets.create(bucket)  # a person who cleared the folder still gets the next delivery
        self.buckets.check(bucket)

        def place(draft: Draft, record: Record) -> None:
            draft.seal(record)
            self.place(draft, bucket, key)

        return ObjectWriter(self.open_draft(bucket, key, size, quota), place)

    def open_draft(self, bucket: str, key: str, size: int, quota: Quota | None = None) -> Draft:
        """A file on its way to this key, counted in its quota from now on."""
        return self._drafts.open(bucket, key, size, quota, self.usage)

    def open_reader(self, bucket: str, key: str) -> ObjectReader:
        """Opens an object.

        Raises:
            S3Error: NoSuchBucket, NoSuchKey, a key that cannot be.
        """
        self.buckets.check(bucket)
        *folders, name = check_key(key)
        try:
            with folder(self._root, (bucket, *folders)) as directory:
                descriptor = open_file(name, directory)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            descriptor = None
        if descriptor is None:
            raise S3Error("NoSuchKey", "there is no such object", Key=key)
        return ObjectReader(descriptor, self._info(descriptor, key))

    def delete(self, bucket: str, key: str) -> None:
        """Removes an object and the folders it leaves empty; one that is not there is no error."""
        self.buckets.check(bucket)
        *folders, name = check_key(key)
        try:
            with folder(self._root, (bucket, *folders)) as directory:
                descriptor = open_file(name, directory)
                if descriptor is None:
                    return
                status = os.fstat(descriptor)
                os.close(descriptor)
                os.unlink(name, dir_fd=directory)
                os.fsync(directory)
        except OSError as error:
            if error.errno in NOT_THERE:
                return
            raise
        self._records.forget(status)
        remove_empty(self._root, bucket, folders)

    def list_page(self, bucket: str, *, prefix: str, delimiter: str, after: bytes, max_keys: int) -> Page:
        """One page of the bucket's keys behind `after`, in the order of their UTF-8 bytes."""
        self.buckets.check(bucket)
        walk = Walk(self._root, bucket, prefix, after)
        return list_page(walk, self.describe, prefix=prefix, delimiter=delimiter, max_keys=max_keys)

    def usage(self, bucket: str, prefix: str) -> int:
        """Bytes of all objects whose keys start with the prefix, unfinished uploads among them."""
        total = self.uploads.used_bytes(bucket, prefix)
        return total + sum(_size(found) for found in Walk(self._root, bucket, prefix))

    def place(self, draft: Draft, bucket: str, key: str) -> None:
        """Gives a sealed draft its name, making the folders above it.

        Raises:
            S3Error: NoSuchBucket; ObjectExistsAsDirectory or ParentIsObject, when a name cannot be file and folder.
        """
        *folders, name = check_key(key)
        for _ in range(_PLACING_TRIES):
            self.buckets.check(bucket)
            try:
                with disk_errors(), folder(self._root, (bucket,), create=folders) as directory:
                    draft.move(directory, name)
            except FileNotFoundError:  # a delete took an empty folder away in between
                continue
            except OSError as error:
                raise _collision(error, key) from error
            return
        raise S3Error("InternalError", "the object could not be put in its place", Key=key)

    def describe(self, found: Found) -> ObjectInfo | None:
        """What is known of an object met on a walk; None when it has just gone."""
        descriptor = open_file(found.name, found.directory)
        if descriptor is None:
            return None
        try:
            return self._info(descriptor, found.key)
        finally:
            os.close(descriptor)

    def _info(self, descriptor: int, key: str) -> ObjectInfo:
        """A file without a record was dropped in by a person: its ETag is computed now and kept where possible."""
        status = os.fstat(descriptor)
        record = self._records.read(descriptor)
        if record is None:
            record = Record(etag=_md5(descriptor))
            with suppress(OSError):
                self._records.write(descriptor, record, status)
        return ObjectInfo(key=key, size=status.st_size, modified_at=status.st_mtime, record=record)


def _md5(descriptor: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    offset = 0
    while block := os.pread(descriptor, _READ_BYTES, offset):
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()


def _size(found: Found) -> int:
    try:
        return os.stat(found.name, dir_fd=found.directory, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _collision(error: OSError, key: str) -> Exception:
    if error.errno in {errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST}:
        return S3Error("ObjectExistsAsDirectory", "other keys begin with this one and a slash", Key=key)
    if error.errno in {errno.ENOTDIR, errno.ELOOP}:
        return S3Error("ParentIsObject", "the first part of this key, up to a slash, is an object or a link", Key=key)
    return error
