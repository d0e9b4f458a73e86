"""A bucket of any S3 as a store, by boto3: content digests at both ends, and uploads that go on where they stopped."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from simpletuner_trainer.errors import MissingPackage, Refused
from simpletuner_trainer.files import FileEntry, write_durably
from simpletuner_trainer.spec import S3Destination
from simpletuner_trainer.stores import Moved, Receipt, Shipment, Unreachable, changed, credentials, require_token

PART_BYTES: Final = 8 << 20
"""Larger files go in parts of this size, or of a larger one where these would be more than `_MOST_PARTS`."""
_MOST_PARTS: Final = 10_000
_CONNECT_TIMEOUT_S: Final = 10
_READ_TIMEOUT_S: Final = 30
_DIGEST_KEY: Final = "sha256"
_TYPES: Final = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".md": "text/markdown",
    ".png": "image/png",
}
_NOT_THERE: Final = (403, 404)
"""A HEAD on what is not there is 403 where listing is not allowed; if it means more, the PUT that follows says so."""
_NO: Final = (301, 400, 401, 403, 404, 405, 409, 411, 413, 507)
"""Answers that stay the same however often one asks."""
_ONCE_MORE: Final = frozenset({"RequestTimeout", "NoSuchUpload", "OperationAborted", "ConditionalRequestConflict"})
"""What may be answered otherwise the next time all the same."""
_HINTS: Final = {
    "NoSuchBucket": "make the bucket, or name another",
    "PermanentRedirect": "the bucket is in another region: say which",
    "InsufficientStorage": "there is no room left there: make some, or raise the limit of these keys",
    "ParentIsObject": "an object stands where the folder must go: remove it, or choose another prefix",
    "ObjectExistsAsDirectory": "a folder stands where the object must go: choose another prefix",
    "AccessDenied": "the credentials are revoked, expired or for something else",
}
_UNSPOKEN: Final = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest", "UnsupportedOperation"})
"""What servers say that do not know checksums in headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A multipart upload that another process may go on with; as a file in the folder of notes."""

    upload_id: str
    sha256: str
    bytes: int
    part_bytes: int


class S3Store:
    """Objects under a prefix of a bucket; in this thread alone, so that no upload outlives the run."""

    def __init__(self, destination: S3Destination, environment: Mapping[str, str], notes: Path | None) -> None:
        self._destination = destination
        self._notes = notes
        self._checksums = True
        access, secret = credentials(environment, destination.access_key_env, destination.secret_key_env)
        named = destination.session_token_env
        token = environment.get(named) if named else None
        if named and token:
            require_token(named, token)
        self._client = _client(destination, access, secret, token or None)

    def require(self) -> None:
        """Whether the credentials open it."""
        with _answers("list objects"):
            self._client.list_objects_v2(Bucket=self._destination.bucket, Prefix=self._destination.prefix, MaxKeys=1)

    def names(self, prefix: str) -> list[str]:
        """Page by page."""
        start = self._destination.prefix
        keys: list[str] = []
        with _answers(f"list {prefix or 'objects'}"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._destination.bucket, Prefix=start + prefix):
                keys += [entry["Key"].removeprefix(start) for entry in page.get("Contents", ())]
        return sorted(keys)

    def ship(self, shipment: Shipment, moved: Moved) -> Receipt:
        """File by file; each is looked at again once it is there."""
        for name in shipment.names:
            entry, key = shipment.entry(name), shipment.prefix + name
            if not self._has(key, entry):
                self._put(shipment.folder / name, key, entry, moved)
                if not self._has(key, entry):
                    raise Unreachable(f"{key}: what arrived is not what was sent")
            moved()
        return Receipt(url=f"s3://{self._destination.bucket}/{self._destination.prefix}{shipment.prefix}")

    def get(self, key: str, path: Path) -> None:
        """In one stream."""
        with _answers(f"fetch {key}"), path.open("wb") as file:
            self._client.download_fileobj(*self._place(key), file, Config=_in_this_thread())

    def _place(self, key: str) -> tuple[str, str]:
        return self._destination.bucket, self._destination.prefix + key

    def _where(self, key: str) -> dict[str, str]:
        bucket, full_key = self._place(key)
        return {"Bucket": bucket, "Key": full_key}

    def _has(self, key: str, entry: FileEntry) -> bool:
        """Compares size and the digest that was stored with it."""
        from botocore.exceptions import ClientError

        with _answers(f"look for {key}"):
            try:
                head = self._client.head_object(**self._where(key))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] in _NOT_THERE:
                    return False
                raise
        return head["ContentLength"] == entry.bytes and head.get("Metadata", {}).get(_DIGEST_KEY) == entry.sha256

    def _put(self, path: Path, key: str, entry: FileEntry, moved: Moved) -> None:
        about = {
            "Metadata": {_DIGEST_KEY: entry.sha256},
            "ContentType": _TYPES.get(path.suffix, "application/octet-stream"),
        }
        with _answers(f"store {key}"):
            if entry.bytes <= PART_BYTES:
                self._put_whole(path, key, entry, about)
            else:
                self._put_in_parts(path, key, entry, about, moved)

    def _put_whole(self, path: Path, key: str, entry: FileEntry, about: Mapping[str, Any]) -> None:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise changed(entry.path)
        self._checked(
            lambda checks: self._client.put_object(**self._where(key), **about, Body=content, **checks), content
        )

    def _put_in_parts(self, path: Path, key: str, entry: FileEntry, about: Mapping[str, Any], moved: Moved) -> None:
        """Goes on with an upload that was begun, if it is of this very content; its good parts are not sent again."""
        note = self._note(key)
        begun = _read_note(note, entry)
        there = None if begun is None else self._parts_of(key, begun)
        if begun is None or there is None:
            there = {}
            begun = self._begin(key, entry, about)
            _write_note(note, begun)
        parts: list[dict[str, Any]] = []
        sent = hashlib.sha256()
        with path.open("rb") as file:
            number = 0
            while content := file.read(begun.part_bytes):
                number += 1
                sent.update(content)
                tags = there.get(number)
                if tags is None or not _is_part(tags, content):
                    tags = self._put_part(key, begun, number, content)
                    moved()
                parts.append({"PartNumber": number, **tags})
        if sent.hexdigest() != entry.sha256:
            self._client.abort_multipart_upload(**self._where(key), UploadId=begun.upload_id)
            raise changed(entry.path)
        self._client.complete_multipart_upload(
            **self._where(key), UploadId=begun.upload_id, MultipartUpload={"Parts": parts}
        )
        if note is not None:
            note.unlink(missing_ok=True)

    def _begin(self, key: str, entry: FileEntry, about: Mapping[str, Any]) -> Begun:
        def create(checks: Mapping[str, str]) -> Any:
            algorithm = {"ChecksumAlgorithm": "SHA256"} if "ChecksumSHA256" in checks else {}
            return self._client.create_multipart_upload(**self._where(key), **about, **algorithm)

        made = self._checked(create, b"")
        least = -(-entry.bytes // _MOST_PARTS)
        part_bytes = max(PART_BYTES, -(-least // (1 << 20)) << 20)
        return Begun(upload_id=made["UploadId"], sha256=entry.sha256, bytes=entry.bytes, part_bytes=part_bytes)

    def _put_part(self, key: str, begun: Begun, number: int, content: bytes) -> dict[str, str]:
        made = self._checked(
            lambda checks: self._client.upload_part(
                **self._where(key), UploadId=begun.upload_id, PartNumber=number, Body=content, **checks
            ),
            content,
        )
        return _tags(made)

    def _parts_of(self, key: str, begun: Begun) -> dict[int, dict[str, str]] | None:
        """Parts that are there by their numbers; None where the upload is known no more."""
        from botocore.exceptions import ClientError

        found: dict[int, dict[str, str]] = {}
        try:
            for page in self._client.get_paginator("list_parts").paginate(**self._where(key), UploadId=begun.upload_id):
                found |= {part["PartNumber"]: _tags(part) for part in page.get("Parts", ())}
        except ClientError as error:
            if error.response["Error"].get("Code") == "NoSuchUpload":
                return None
            raise
        return found

    def _checked(self, call: Any, content: bytes) -> Any:
        """Calls with the content's SHA-256; with its MD5 instead where the server does not speak such checksums."""
        from botocore.exceptions import ClientError

        if self._checksums:
            try:
                return call({"ChecksumSHA256": _b64(hashlib.sha256(content))})
            except ClientError as error:
                if error.response["Error"].get("Code") not in _UNSPOKEN:
                    raise
                self._checksums = False
        return call({"ContentMD5": _b64(hashlib.md5(content, usedforsecurity=False))} if content else {})

    def _note(self, key: str) -> Path | None:
        if self._notes is None:
            return None
        place = json.dumps([self._destination.endpoint_url, self._destination.region, *self._place(key)])
        return self._notes / f"{hashlib.sha256(place.encode()).hexdigest()}.json"


def _client(destination: S3Destination, access: str, secret: str, token: str | None) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise MissingPackage("boto3 is not installed", "pip install 'simpletuner-trainer[train]'") from error
    return boto3.session.Session().client(
        "s3",
        endpoint_url=destination.endpoint_url,
        region_name=destination.region,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(
            signature_version="s3v4",
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_READ_TIMEOUT_S,
            retries={"total_max_attempts": 1, "mode": "standard"},
            # Checksum trailers are not spoken by every S3 server; those that we compute travel as plain headers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if destination.endpoint_url else {},
        ),
    )


def _in_this_thread() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(use_threads=False)


def _b64(digest: Any) -> str:
    return base64.b64encode(digest.digest()).decode("ascii")


def _tags(part: Mapping[str, Any]) -> dict[str, str]:
    """What names a part on completion."""
    return {name: part[name] for name in ("ETag", "ChecksumSHA256") if part.get(name)}


def _is_part(tags: Mapping[str, str], content: bytes) -> bool:
    """Whether a part that is there has this content, as far as the server says what it has."""
    if checksum := tags.get("ChecksumSHA256"):
        return checksum == _b64(hashlib.sha256(content))
    return tags.get("ETag", "").strip('"') == hashlib.md5(content, usedforsecurity=False).hexdigest()


def _read_note(note: Path | None, entry: FileEntry) -> Begun | None:
    if note is None:
        return None
    try:
        begun = Begun(**json.loads(note.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return begun if (begun.sha256, begun.bytes) == (entry.sha256, entry.bytes) else None


def _write_note(note: Path | None, begun: Begun) -> None:
    if note is not None:
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(note, json.dumps(asdict(begun)).encode())


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
        if status not in _NO or code in _ONCE_MORE:
            raise Unreachable(
                f"could not {what}: {status} {code}", retry_after_s=_retry_after(error.response)
            ) from error
        message = f"the destination refused to {what}: {status} {code} {said}".rstrip()
        usual = "the credentials are revoked, expired or wrong" if status in (401, 403) else "check the destination"
        hint = _HINTS.get(code, usual)
        raise Refused(message, hint) from error
    except (BotoCoreError, Boto3Error) as error:
        raise Unreachable(f"could not {what}: {error}") from error


def _retry_after(response: Mapping[str, Any]) -> float | None:
    said = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", "")
    return float(said) if said.isascii() and said.isdigit() else None
