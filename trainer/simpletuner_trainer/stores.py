"""Where results go: an S3 bucket or a folder, both as plain objects by key. Errors say whether trying again can help."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from simpletuner_trainer.errors import BadSpec, MissingPackage, Refused
from simpletuner_trainer.files import FileEntry, sha256_of, sync_file, sync_folder
from simpletuner_trainer.spec import Destination, FolderDestination, S3Destination

_PART_BYTES: Final = 8 << 20
_CONNECT_TIMEOUT_S: Final = 10
_READ_TIMEOUT_S: Final = 60
_DIGEST_KEY: Final = "sha256"
_TYPES: Final = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".md": "text/markdown",
    ".png": "image/png",
}
_NOT_THERE: Final = (403, 404)
"""A HEAD on what is not there is 403 where listing is not allowed; if it means more, the PUT that follows says so."""
_NO: Final = (400, 401, 403, 404, 405, 411, 413)
"""Answers that stay the same however often one asks."""


class Unreachable(Exception):
    """The destination did not do it this time; it may the next."""


class Store(Protocol):
    """Objects under one prefix. Methods raise `Unreachable` (try again) or `Refused` (do not)."""

    def names(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted."""
        ...

    def has(self, key: str, entry: FileEntry) -> bool:
        """Whether exactly this content is there."""
        ...

    def put(self, path: Path, key: str, entry: FileEntry) -> None:
        """Add or replace an object; it is whole or not there."""
        ...

    def get(self, key: str, path: Path) -> None:
        """Copy an object's content to a new file."""
        ...


def open_store(destination: Destination) -> Store:
    """The store of a destination; nothing is sent yet. `BadSpec` when credentials are not in the environment."""
    return FolderStore(destination) if isinstance(destination, FolderDestination) else S3Store(destination)


class FolderStore:
    """Objects as files."""

    def __init__(self, destination: FolderDestination) -> None:
        self._root = Path(destination.path)

    def names(self, prefix: str) -> list[str]:
        """Paths of files; partial ones (hidden) are not objects."""
        with _disk():
            paths = (path for path in self._root.rglob("*") if path.is_file() and not path.name.startswith("."))
            return sorted(
                name for path in paths if (name := path.relative_to(self._root).as_posix()).startswith(prefix)
            )

    def has(self, key: str, entry: FileEntry) -> bool:
        """Compares size, then content."""
        path = self._root / key
        with _disk():
            return path.is_file() and path.stat().st_size == entry.bytes and sha256_of(path) == entry.sha256

    def put(self, path: Path, key: str, entry: FileEntry) -> None:
        """Copy beside, put it on the disk, rename, and check what arrived."""
        target = self._root / key
        partial = target.with_name(f".{target.name}.partial")
        with _disk():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, partial)
            sync_file(partial)
            if sha256_of(partial) != entry.sha256:
                raise Unreachable(f"{key}: what arrived is not what was sent")
            partial.replace(target)
            sync_folder(target.parent)

    def get(self, key: str, path: Path) -> None:
        """Copy a file back."""
        with _disk():
            shutil.copyfile(self._root / key, path)


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise Refused(f"the destination folder refuses: {error}", "check its permissions") from error
    except OSError as error:
        raise Unreachable(f"{error.filename or 'destination'}: {error.strerror}") from error


class S3Store:
    """Objects in a bucket, by boto3: one connection, multipart from 8 MiB, content digests as object metadata."""

    def __init__(self, destination: S3Destination) -> None:
        self._destination = destination
        try:
            import boto3
            from boto3.s3.transfer import TransferConfig
            from botocore.config import Config
        except ImportError as error:
            raise MissingPackage("boto3 is not installed", "pip install 'simpletuner-trainer[train]'") from error
        names = (destination.access_key_env, destination.secret_key_env)
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            message = f"the destination's credentials are missing: {' and '.join(missing)} not set"
            raise BadSpec(message, "whoever starts the trainer sets them in its environment")
        session_token = os.environ.get(destination.session_token_env) if destination.session_token_env else None
        self._client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=destination.endpoint_url,
            region_name=destination.region,
            aws_access_key_id=os.environ[destination.access_key_env],
            aws_secret_access_key=os.environ[destination.secret_key_env],
            aws_session_token=session_token,
            config=Config(
                signature_version="s3v4",
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=_READ_TIMEOUT_S,
                retries={"total_max_attempts": 2, "mode": "standard"},
                # Checksum trailers are not spoken by every S3 server; digests in the manifests stand in for them.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"} if destination.endpoint_url else {},
            ),
        )
        # In this thread: an upload must not outlive the run by a pool of threads that cannot be stopped.
        self._transfer = TransferConfig(
            multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, use_threads=False
        )

    def names(self, prefix: str) -> list[str]:
        """Page by page."""
        start = self._destination.prefix
        keys: list[str] = []
        with _answers(f"list {prefix or 'objects'}"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._destination.bucket, Prefix=start + prefix):
                keys += [entry["Key"].removeprefix(start) for entry in page.get("Contents", ())]
        return sorted(keys)

    def has(self, key: str, entry: FileEntry) -> bool:
        """Compares size and the digest that was stored with it."""
        from botocore.exceptions import ClientError

        with _answers(f"look for {key}"):
            try:
                head = self._client.head_object(Bucket=self._destination.bucket, Key=self._destination.prefix + key)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] in _NOT_THERE:
                    return False
                raise
        return head["ContentLength"] == entry.bytes and head.get("Metadata", {}).get(_DIGEST_KEY) == entry.sha256

    def put(self, path: Path, key: str, entry: FileEntry) -> None:
        """Single request below 8 MiB, multipart above."""
        kind = _TYPES.get(path.suffix, "application/octet-stream")
        with _answers(f"store {key}"), path.open("rb") as file:
            self._client.upload_fileobj(
                file,
                self._destination.bucket,
                self._destination.prefix + key,
                ExtraArgs={"Metadata": {_DIGEST_KEY: entry.sha256}, "ContentType": kind},
                Config=self._transfer,
            )

    def get(self, key: str, path: Path) -> None:
        """Ranged requests for large objects."""
        with _answers(f"fetch {key}"), path.open("wb") as file:
            full_key = self._destination.prefix + key
            self._client.download_fileobj(self._destination.bucket, full_key, file, Config=self._transfer)


@contextlib.contextmanager
def _answers(what: str) -> Iterator[None]:
    """Sort botocore's errors by whether trying again can help. Credentials are in none of the messages."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code, said = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        if status not in _NO or code == "RequestTimeout":
            raise Unreachable(f"could not {what}: {status} {code}") from error
        message = f"the destination refused to {what}: {status} {code} {said}".rstrip()
        hint = (
            "the job's credentials are revoked, expired or wrong" if status in (401, 403) else "check the destination"
        )
        raise Refused(message, hint) from error
    except (BotoCoreError, Boto3Error) as error:
        raise Unreachable(f"could not {what}: {error}") from error
