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
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from simpletuner_lab.core.destination import OUTPUTS_BUCKET
from simpletuner_lab.server.storage.buckets import Buckets
from simpletuner_lab.server.storage.conditions import ALWAYS, Condition
from simpletuner_lab.server.storage.drafts import Coming, Draft, Drafts, Movable, Quota, alone_in
from simpletuner_lab.server.storage.entries import Entries
from simpletuner_lab.server.storage.errors import S3Error, disk_errors
from simpletuner_lab.server.storage.folding import FallsTogether, check_exact, probe
from simpletuner_lab.server.storage.keys import check_key
from simpletuner_lab.server.storage.listing import Page, list_page
from simpletuner_lab.server.storage.multipart import Uploads
from simpletuner_lab.server.storage.records import ObjectInfo, Record, Records
from simpletuner_lab.server.storage.tree import NOT_THERE, Found, Walk, folder, open_file, remove_empty

_READ_BYTES: Final = 1 << 20
_PLACING_TRIES: Final = 100


class ObjectReader:
    """An open object: it stays what it was when opened, whatever is written or deleted meanwhile."""

    def __init__(self, descriptor: int, info: ObjectInfo) -> None:
        self.descriptor = descriptor
        self.info = info

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        return os.pread(self.descriptor, size, offset)

    def close(self) -> None:
        """Lets the file go."""
        os.close(self.descriptor)


class Writer(Protocol):
    """Bytes on their way. Either `commit` makes them what they shall be, or `discard` leaves everything as it was.

    `algorithm` is a checksum that is wanted of the bytes, whatever the client sends; empty for none.
    """

    @property
    def algorithm(self) -> str:
        """See above."""

    def write(self, data: memoryview | bytes) -> None:
        """Appends; raises S3Error InsufficientStorage."""

    def commit(self, record: Record) -> None:
        """Makes the bytes and the record visible in one step, durably; raises S3Error when that cannot be."""

    def discard(self) -> None:
        """Removes what was written; after a commit nothing happens."""


class ObjectWriter:
    """A `Writer` whose bytes become a file of their own."""

    algorithm = ""

    def __init__(self, draft: Draft, place: Callable[[Draft, Record], None]) -> None:
        self._draft = draft
        self._place = place

    def write(self, data: memoryview | bytes) -> None:
        """Appends; raises S3Error InsufficientStorage."""
        self._draft.write(data)

    def copy_from(self, reader: ObjectReader, size: int) -> None:
        """Appends the first bytes of an object; raises S3Error InsufficientStorage."""
        self._draft.copy_from(reader.descriptor, 0, size)

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
        folds: bool | None = None,
    ) -> None:
        own = root / ".stlab"
        self._root = root
        self._own = own
        self._folds = folds
        self.records = records or Records(own / "records")
        self._drafts = Drafts(own / "drafts", self.records, token)
        self._entries = Entries()
        self.buckets = Buckets(root)
        self.uploads = Uploads(own / "uploads", self.records)
        self.token = token

    @property
    def folds(self) -> bool:
        """Whether the file system takes different names for the same; as long as it cannot be asked, it may."""
        if self._folds is None:
            try:
                self._folds = probe(self._own)
            except OSError:
                return True
        return self._folds

    def sweep(self, now: float) -> None:
        """Makes the root and the bucket of outputs, and removes what an earlier process left half done."""
        self.buckets.create(OUTPUTS_BUCKET)
        self._drafts.sweep()
        self.uploads.sweep(now, self.made_by)
        self.records.sweep(now, self._root)

    def open_writer(
        self, bucket: str, key: str, size: int, quota: Quota | None = None, condition: Condition = ALWAYS
    ) -> ObjectWriter:
        """Begins an object of `size` bytes.

        Raises:
            S3Error: NoSuchBucket, a key that cannot be, InsufficientStorage; PreconditionFailed or NoSuchKey, when
                the condition fails already. It is asked again on commit.
        """
        check_key(key)
        try:
            self.buckets.check(bucket)
        except S3Error:
            if bucket != OUTPUTS_BUCKET:
                raise
            self.buckets.create(bucket)  # a person who cleared the folder still gets the next delivery
        if condition.is_set:
            condition.check(self.find(bucket, key))

        def place(draft: Draft, record: Record) -> None:
            draft.seal(record)
            self.place(draft, bucket, key, condition)

        there = self.find(bucket, key) if quota is not None else None
        return ObjectWriter(self.open_draft(bucket, key, size, quota, there.size if there else 0), place)

    def open_draft(self, bucket: str, key: str, size: int, quota: Quota | None = None, replaced: int = 0) -> Draft:
        """A file on its way to this key, counted in its quota from now on, less the bytes that it will replace."""
        return self._drafts.open(Coming(bucket, key, size, replaced), quota, self.usage)

    def open_reader(self, bucket: str, key: str) -> ObjectReader:
        """Opens an object.

        Raises:
            S3Error: NoSuchBucket, NoSuchKey, a key that cannot be.
        """
        self.buckets.check(bucket)
        *folders, name = check_key(key)
        try:
            with folder(self._root, (bucket, *folders), exact=self.folds) as directory:
                descriptor = self._open(directory, name)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            descriptor = None
        if descriptor is None:
            raise S3Error("NoSuchKey", "there is no such object", Key=key)
        return ObjectReader(descriptor, self._info(descriptor, key))

    def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """What is known of an object, None when there is none.

        Raises:
            S3Error: NoSuchBucket, a key that cannot be.
        """
        try:
            reader = self.open_reader(bucket, key)
        except S3Error as error:
            if error.code != "NoSuchKey":
                raise
            return None
        reader.close()
        return reader.info

    def made_by(self, bucket: str, key: str, upload_id: str) -> ObjectInfo | None:
        """The object as it stands, when this very multipart upload made it."""
        try:
            found = self.find(bucket, key)
        except S3Error:
            return None
        return found if found is not None and found.record.upload_id == upload_id else None

    def delete(self, bucket: str, key: str, condition: Condition = ALWAYS) -> None:
        """Removes an object and the folders it leaves empty; one that is not there is no error.

        Raises:
            S3Error: NoSuchBucket, a key that cannot be; PreconditionFailed or NoSuchKey, when the condition fails.
        """
        self.buckets.check(bucket)
        *folders, name = check_key(key)
        try:
            with folder(self._root, (bucket, *folders), exact=self.folds) as directory:
                with alone_in(directory):
                    status = self._unlink(directory, name, key, condition)
                if status is None:
                    return
                os.fsync(directory)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            condition.check(None)
            return
        self.records.forget(status)
        remove_empty(self._root, bucket, folders)

    def delete_bucket(self, bucket: str) -> None:
        """Removes a bucket without objects and without unfinished uploads.

        Raises:
            S3Error: NoSuchBucket, BucketNotEmpty.
        """
        self.buckets.check(bucket)
        busy = any(upload.bucket == bucket for upload in self.uploads.all())
        if busy or next(iter(Walk(self._root, bucket, "")), None) is not None:
            raise S3Error("BucketNotEmpty", "the bucket holds objects or unfinished uploads", BucketName=bucket)
        self.buckets.delete(bucket)

    def list_page(self, bucket: str, *, prefix: str, delimiter: str, after: bytes, max_keys: int) -> Page:
        """One page of the bucket's keys behind `after`, in the order of their UTF-8 bytes."""
        self.buckets.check(bucket)
        walk = Walk(self._root, bucket, prefix, after, self._entries)
        return list_page(walk, self.describe, prefix=prefix, delimiter=delimiter, max_keys=max_keys)

    def usage(self, bucket: str, prefix: str) -> int:
        """Bytes of all objects whose keys start with the prefix, unfinished uploads among them."""
        total = self.uploads.used_bytes(bucket, prefix)
        return total + sum(_size(found) for found in Walk(self._root, bucket, prefix, entries=self._entries))

    def place(self, draft: Movable, bucket: str, key: str, condition: Condition = ALWAYS) -> None:
        """Gives a sealed draft its name, making the folders above it.

        Raises:
            S3Error: NoSuchBucket; ObjectExistsAsDirectory or ParentIsObject, when a name cannot be file and folder;
                KeysFallTogether; ConditionalRequestConflict, when another was faster and the condition fails now.
        """
        *folders, name = check_key(key)
        for _ in range(_PLACING_TRIES):
            self.buckets.check(bucket)
            try:
                with (
                    disk_errors(),
                    folder(self._root, (bucket,), create=folders, exact=self.folds) as directory,
                ):
                    draft.move(directory, name, partial(self._check_place, directory, name, key, condition))
            except FallsTogether as error:
                raise S3Error(
                    "KeysFallTogether", "this file system takes the key for that of another object", Key=key
                ) from error
            except FileNotFoundError:  # a delete took an empty folder away in between
                continue
            except OSError as error:
                raise _collision(error, key) from error
            return
        raise S3Error("InternalError", "the object could not be put in its place", Key=key)

    def describe(self, found: Found) -> ObjectInfo | None:
        """What is known of an object met on a walk; None when it has just gone."""
        try:
            status = os.stat(found.name, dir_fd=found.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        record = self.records.kept(status)
        if record is not None:
            return ObjectInfo(key=found.key, size=status.st_size, modified_at=status.st_mtime, record=record)
        descriptor = open_file(found.name, found.directory)
        if descriptor is None:
            return None
        try:
            return self._info(descriptor, found.key)
        finally:
            os.close(descriptor)

    def _check_place(self, directory: int, name: str, key: str, condition: Condition) -> None:
        """Whether a name may be taken; the folder is locked. A condition that fails held when the write began."""
        if self.folds:
            check_exact(directory, name)
        if not condition.is_set:
            return
        found = self.describe(Found(key, directory, name))
        try:
            condition.check(found)
        except S3Error as error:
            raise S3Error(
                "ConditionalRequestConflict", "another write or delete of this key was faster", Key=key
            ) from error

    def _open(self, directory: int, name: str) -> int | None:
        if self.folds:
            check_exact(directory, name)
        return open_file(name, directory)

    def _unlink(self, directory: int, name: str, key: str, condition: Condition) -> os.stat_result | None:
        descriptor = self._open(directory, name)
        try:
            if condition.is_set:
                condition.check(None if descriptor is None else self._info(descriptor, key))
            if descriptor is None:
                return None
            os.unlink(name, dir_fd=directory)
            return os.fstat(descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _info(self, descriptor: int, key: str) -> ObjectInfo:
        """A file without a record was dropped in by a person: its ETag is computed now and kept where possible."""
        status = os.fstat(descriptor)
        record = self.records.read(descriptor, status)
        if record is None:
            record = Record(etag=_md5(descriptor))
            with suppress(OSError):
                self.records.write(descriptor, record, status)
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
