"""Buckets: the folders directly below the root whose names may be bucket names."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from simpletuner_lab.server.storage.errors import S3Error, disk_errors
from simpletuner_lab.server.storage.keys import check_bucket
from simpletuner_lab.server.storage.tree import folder


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
                    created_at = entry.stat(follow_symlinks=False).st_ctime
                    found.append(Bucket(name=entry.name, created_at=created_at))
        return sorted(found, key=lambda bucket: bucket.name)

    def create(self, name: str) -> None:
        """Makes a bucket; one that is there stays as it is.

        Raises:
            S3Error: InvalidBucketName, InsufficientStorage.
        """
        check_bucket(name)
        with disk_errors():
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            with folder(self._root, (), create=(name,)):
                return

    def delete(self, name: str) -> None:
        """Removes a bucket, with folders in it that hold nothing; a file in it, whatever it is, keeps it there.

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


def _missing(name: str) -> S3Error:
    return S3Error("NoSuchBucket", "there is no such bucket", BucketName=name)


def _is_name(name: str) -> bool:
    try:
        check_bucket(name)
    except S3Error:
        return False
    return True
