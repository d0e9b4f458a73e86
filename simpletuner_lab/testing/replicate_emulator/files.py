"""Uploaded files, on disk: written as they arrive, gone after a day, and downloaded by a signed address."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from simpletuner_lab.testing.replicate_emulator.multipart import PartHead, Sink
from simpletuner_lab.testing.replicate_emulator.records import Refusal
from simpletuner_lab.testing.replicate_emulator.requests import invalid

_LONGEST_FIELD: Final = 64 << 10
_OCTETS: Final = "application/octet-stream"


def too_large(limit: int) -> Refusal:
    """413, as the API words it."""
    return Refusal(413, f"Files must be less than {limit >> 20}MB in size")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """An upload. It is there until `expires_at`."""

    id: str
    owner: str
    name: str
    content_type: str
    size: int
    sha256: str
    md5: str
    metadata: dict[str, Any]
    created_at: float
    expires_at: float
    path: Path


class Incoming:
    """A form that is being uploaded: its `content` goes to disk, the other parts are a few words.

    Args:
        path: where the content goes.
        limit: so many bytes of it are 413.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._file = path.open("xb")
        self._hashes = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self._head: PartHead | None = None
        self._fields: dict[str, bytearray] = {}
        self.size = 0

    def part(self, head: PartHead) -> Sink:
        """The sink of the next part.

        Raises:
            Refusal: 422, a file has no such part, or has it already.
        """
        plain = head.name in {"filename", "type", "metadata"} or head.name.startswith("metadata[")
        if head.name == "content" and self._head is None:
            self._head = head
            return _Content(self)
        if not plain or head.name in self._fields:
            raise invalid(f"- Additional property {head.name} is not allowed")
        self._fields[head.name] = bytearray()
        return _Field(self._fields[head.name])

    def write(self, data: bytes) -> None:
        """More of the content.

        Raises:
            Refusal: 413, that is too much.
        """
        self.size += len(data)
        if self.size >= self._limit:
            raise too_large(self._limit)
        for one in self._hashes:
            one.update(data)
        self._file.write(data)

    def done(self, owner: str, now: float, keep_s: float) -> StoredFile:
        """All parts are there.

        Raises:
            Refusal: 422, one that is needed is not, or the metadata are no JSON object.
        """
        self._file.close()
        if self._head is None:
            raise invalid("- content is required")
        sha256, md5 = (one.hexdigest() for one in self._hashes)
        return StoredFile(
            id=self.path.name, owner=owner, name=self._text("filename") or self._head.filename or "file",
            content_type=self._text("type") or self._head.content_type or _OCTETS, size=self.size, sha256=sha256,
            md5=md5, metadata=self._metadata(), created_at=now, expires_at=now + keep_s, path=self.path,
        )  # fmt: skip

    def drop(self) -> None:
        """It will not be complete."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _text(self, name: str) -> str:
        return bytes(self._fields.get(name, b"")).decode("utf-8", "replace")

    def _metadata(self) -> dict[str, Any]:
        named = {name[9:-1]: self._text(name) for name in self._fields if name.startswith("metadata[")}
        if "metadata" not in self._fields:
            return named
        try:
            given = json.loads(self._fields["metadata"])
        except ValueError:
            given = None
        if not isinstance(given, dict):
            raise invalid("- metadata must be a JSON object")
        return {**given, **named}


class _Content:
    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    def write(self, data: bytes) -> None:
        self._incoming.write(data)

    def close(self) -> None:
        """The whole form ends later."""


class _Field:
    def __init__(self, value: bytearray) -> None:
        self._value = value

    def write(self, data: bytes) -> None:
        self._value += data
        if len(self._value) > _LONGEST_FIELD:
            raise invalid("- a part of the form is too long")

    def close(self) -> None:
        """Nothing is open."""


class FileStore:
    """All files of an emulator, in a folder of its own."""

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self._folder = folder
        self._now = now
        self._key = secrets.token_bytes(32)
        self._kept: dict[str, StoredFile] = {}
        folder.mkdir()

    def begin(self, limit: int) -> Incoming:
        """Room for an upload of less than `limit` bytes."""
        return Incoming(self._folder / base64.urlsafe_b64encode(secrets.token_bytes(33)).decode(), limit)

    def keep(self, file: StoredFile) -> None:
        """From now on it is there."""
        self._kept[file.id] = file

    def of(self, owner: str) -> list[StoredFile]:
        """An account's files, the newest first."""
        for file in [one for one in self._kept.values() if one.expires_at <= self._now()]:
            self._drop(file)
        return [file for file in reversed(self._kept.values()) if file.owner == owner]

    def find(self, owner: str, file_id: str) -> StoredFile:
        """One of an account's files.

        Raises:
            Refusal: 404, it is not there, or not any more.
        """
        for file in self.of(owner):
            if file.id == file_id:
                return file
        raise Refusal(404, "The requested resource could not be found.", "Not found")

    def delete(self, owner: str, file_id: str) -> None:
        """Removes it.

        Raises:
            Refusal: 404, it is not there.
        """
        self._drop(self.find(owner, file_id))

    def signed_query(self, file: StoredFile, expiry: int) -> str:
        """What makes `/v1/files/<id>/download` an address that needs no token until `expiry`, in Unix seconds."""
        return urlencode({"owner": file.owner, "expiry": expiry, "signature": self._sign(file.owner, file.id, expiry)})

    def signed(self, file_id: str, owner: str, expiry: str, signature: str) -> StoredFile:
        """The file that a signed address is of.

        Raises:
            Refusal: 403, the signature is not of it, or has run out; 404, it is not there.
        """
        digits = expiry if expiry.isascii() and expiry.isdigit() else "0"
        if not hmac.compare_digest(self._sign(owner, file_id, int(digits)).encode(), signature.encode()):
            raise Refusal(403, "The signature does not match.", "Forbidden")
        if int(digits) <= self._now():
            raise Refusal(403, "The download URL has expired.", "Forbidden")
        return self.find(owner, file_id)

    def readable(self, value: Any, owner: str, place: str) -> Any:
        """An input as a worker can read it: addresses of the account's files, which begin with `place`, become signed."""
        if isinstance(value, dict):
            return {key: self.readable(one, owner, place) for key, one in value.items()}
        if isinstance(value, list):
            return [self.readable(one, owner, place) for one in value]
        if not isinstance(value, str) or not value.startswith(place):
            return value
        try:
            file = self.find(owner, value.removeprefix(place))
        except Refusal:
            return value
        return f"{value}/download?{self.signed_query(file, int(file.expires_at))}"

    def _drop(self, file: StoredFile) -> None:
        file.path.unlink(missing_ok=True)
        del self._kept[file.id]

    def _sign(self, owner: str, file_id: str, expiry: int) -> str:
        digest = hmac.new(self._key, f"{owner} {file_id} {expiry}".encode(), "sha256").digest()
        return base64.b64encode(digest).decode()
