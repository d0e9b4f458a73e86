"""Buckets: the folders directly below the root whose names may be bucket names."""

from __future__ import annotations

import os
import stat
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
            raise S3Error("NoSuchBucket", "there is no such bucket", BucketName=name)


def _is_name(name: str) -> bool:
    try:
        check_bucket(name)
    except S3Error:
        return False
    return True
