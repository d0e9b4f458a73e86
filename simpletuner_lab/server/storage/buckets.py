"""Buckets: the folders directly below the root whose names may be bucket names."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simpletuner_lab.core.naming import MARKER
from simpletuner_lab.server.storage.errors import S3Error, disk_errors
from simpletuner_lab.server.storage.keys import check_bucket
from simpletuner_lab.server.storage.tree import folder

_CREATED: Final = "user.stlab.created"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A folder of objects; `created_at` in seconds since the epoch."""

    name: str
    created_at: float


class Buckets:
    """The buckets of one root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def all(self) -> list[Bucket]:
        """Every bucket, by name."""
        found = []
        with os.scandir(self._root) as entries:
            for entry in entries:
                if _is_name(entry.name) and entry.is_dir(follow_symlinks=False):
                    with suppress(S3Error), folder(self._root, (entry.name,)) as directory:
                        found.append(Bucket(name=entry.name, created_at=_created_at(directory)))
        return sorted(found, key=lambda bucket: bucket.name)

    def create(self, name: str) -> None:
        """Makes a bucket; one that is there stays as it is.

        Raises:
            S3Error: InvalidBucketName, InsufficientStorage.
        """
        check_bucket(name)
        with disk_errors():
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            with folder(self._root, (), create=(name,)) as directory:
                _created_at(directory)

    def delete(self, name: str) -> None:
        """Removes a bucket, with folders in it that hold nothing; a file in it keeps it there, whatever it is.

        The marker of the bucket's own folder alone does not: no key names it, so nobody could delete it before.

        Raises:
            S3Error: NoSuchBucket, BucketNotEmpty.
        """
        self.check(name)
        for _, _, _, directory in os.fwalk(self._root / name, topdown=False, follow_symlinks=False):
            with os.scandir(directory) as entries:
                folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            for empty in folders:
                with suppress(OSError):
                    os.rmdir(empty, dir_fd=directory)
        try:
            with folder(self._root, (name,)) as bucket:
                with os.scandir(bucket) as entries:
                    alone = [entry.name for entry in entries] == [MARKER]
                if alone and not _is_folder(MARKER, bucket):
                    os.unlink(MARKER, dir_fd=bucket)
            with folder(self._root, ()) as root:
                os.rmdir(name, dir_fd=root)
                os.fsync(root)
        except FileNotFoundError as error:
            raise _missing(name) from error
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                raise S3Error("BucketNotEmpty", "the bucket's folder is not empty", BucketName=name) from error
            raise

    def check(self, name: str) -> None:
        """Passes when the bucket exists.

        Raises:
            S3Error: InvalidBucketName, NoSuchBucket.
        """
        try:
            status = (self._root / check_bucket(name)).stat(follow_symlinks=False)
        except FileNotFoundError:
            status = None
        if status is None or not stat.S_ISDIR(status.st_mode):
            raise _missing(name)


def _created_at(directory: int) -> float:
    """The stamp that the folder got when it was made, or first seen here; its times change with what is in it.

    Where a file system keeps no attributes it is the older of the two times that there are.
    """
    status = os.fstat(directory)
    oldest = getattr(status, "st_birthtime", min(status.st_ctime, status.st_mtime))
    if sys.platform != "linux":
        return oldest
    with suppress(OSError, ValueError):
        return float(os.getxattr(directory, _CREATED))
    with suppress(OSError):
        os.setxattr(directory, _CREATED, repr(oldest).encode(), os.XATTR_CREATE)
    return oldest


def _is_folder(name: str, directory: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _missing(name: str) -> S3Error:
    return S3Error("NoSuchBucket", "there is no such bucket", BucketName=name)


def _is_name(name: str) -> bool:
    try:
        check_bucket(name)
    except S3Error:
        return False
    return True
