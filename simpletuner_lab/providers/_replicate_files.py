"""The data of a job as files at Replicate: streamed there once, compared with what was planned, and seen to be gone."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

from simpletuner_lab.core.errors import LabError, ProviderFailure, ProviderUnavailable, TooLarge, UploadGone
from simpletuner_lab.core.provider import Archive, ProgressCallback, RunTag, StartOrder
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers._http import Api, NotDone, NotThere, Unreadable, reading
from simpletuner_lab.providers._replicate_notes import Notes, UploadNote

if TYPE_CHECKING:
    from replicate.client import Client

MOST_BYTES: Final = (100 << 20) - 1
"""Replicate says that files must be less than that."""
WARN_BYTES: Final = 100_000_000

SETTLES_S: Final = 60.0
"""What was sent and had no answer may still arrive there within this time."""
_LEFT_S: Final = 3600.0
"""A file that will be gone sooner is handed over anew: a run may wait for its machine."""
_MOST_LISTED: Final = 20
"""Pages of the account's files that are looked through for what an upload left whose answer was lost."""

ClientFor: TypeAlias = "Callable[[Secret], Client]"


class Files:
    """Uploads and deletions.

    Args:
        api: for what must survive sparse answers.
        client: the package's, with a token.
        notes: where each upload is kept.
        now: the time.
    """

    def __init__(self, api: Api, client: ClientFor, notes: Notes, now: Callable[[], float]) -> None:
        self._api = api
        self._client = client
        self._notes = notes
        self._now = now

    def upload(self, archive: Archive, tag: RunTag, token: Secret, progress: ProgressCallback) -> UploadNote:
        """Hands it over, unless an earlier upload of the same bytes is still there, also one whose answer was lost.

        Raises:
            TooLarge: nothing was sent.
            ProviderFailure: what arrived is not what was planned; it was deleted.
        """
        if archive.bytes > MOST_BYTES:
            raise TooLarge(
                f"{archive.bytes:,} bytes are more than the {MOST_BYTES:,} that Replicate takes; nothing was sent",
                hint="use fewer images, data hosted on S3 or the Hub, or another provider",
            )
        kept = self._notes.uploads(tag.job_id)
        for note in kept:
            if note.sha256 == archive.sha256 and self.lasts(note, token):
                progress(0, archive.bytes)
                return note
        before = self._notes.sent_at(tag.job_id)
        if before is not None and (arrived := self._arrived(archive, tag, token)) is not None:
            self._notes.write_uploads(tag.job_id, (*kept, arrived))
            progress(0, archive.bytes)
            return arrived
        self._notes.write_sent(tag.job_id, self._now())
        try:
            note = self._send(archive, tag, token, progress)
        except LabError as error:
            if isinstance(error, NotDone) or not isinstance(error, ProviderUnavailable | Unreadable):
                self._notes.write_sent(tag.job_id, before)  # nothing is there
            raise
        self._notes.write_sent(tag.job_id, before)
        self._notes.write_uploads(tag.job_id, (*kept, note))
        if note.sha256 != archive.sha256:
            self.remove(tag.job_id, (), token)
            raise ProviderFailure(
                "what arrived at Replicate is not the archive that was planned; it was deleted, and nothing was started",
                hint="submit again",
            )
        return note

    def url(self, order: StartOrder, token: Secret) -> str:
        """The address of an order's data; empty where it has none.

        Raises:
            UploadGone: they are not there any more, or will not be for long enough.
        """
        if order.archive is None:
            return ""
        file_id, _, url = order.upload_ref.partition(" ")
        noted = {note.id: note for note in self._notes.uploads(order.tag.job_id)}
        known = noted.get(file_id) or UploadNote(id=file_id, url=url, sha256=order.archive.sha256, expires_at=None)
        if url and self.lasts(known, token):
            return url
        raise UploadGone("Replicate does not have the data any more", hint="they are handed over again")

    def lasts(self, note: UploadNote, token: Secret) -> bool:
        """Whether it is there, and for long enough."""
        if note.expires_at is not None and note.expires_at - self._now() < _LEFT_S:
            return False
        return self._is_there(note.id, token)

    def remove(self, job_id: str, refs: tuple[str, ...], token: Secret) -> bool:
        """Deletes all that was handed over for a job, by its notes, by these references, and by what files say.

        Returns:
            Whether every one of them is seen to be gone, and no other can still arrive.

        Raises:
            ProviderUnavailable: the account has more files than are looked through; those that were found are deleted.
        """
        noted, sent_at = self._notes.uploads(job_id), self._notes.sent_at(job_id)
        if not (noted or refs) and sent_at is None:
            return True
        left = []
        of_job, all_seen = self._of_job(job_id, token)
        for file_id in dict.fromkeys((*(note.id for note in noted), *refs, *(one["id"] for one in of_job))):
            with suppress(NotThere):  # which one answer says: whether it is gone is seen below
                self._api.delete(f"/v1/files/{file_id}", token)
            if self._is_there(file_id, token):
                left.append(file_id)
        self._notes.write_uploads(job_id, (note for note in noted if note.id in left))
        if not all_seen:
            raise ProviderUnavailable(
                f"whether all data of job {job_id} are gone cannot be told: the account has too many files at Replicate",
                hint="delete old files there; each is gone by itself a day after it was sent",
            )
        if left or (sent_at is not None and self._now() - sent_at < SETTLES_S):
            return False
        self._notes.write_sent(job_id, None)
        return True

    def _send(self, archive: Archive, tag: RunTag, token: Secret, progress: ProgressCallback) -> UploadNote:
        client = self._client(token)
        with Watched(archive.path, progress) as source:
            metadata = {"job": tag.job_id, "sha256": archive.sha256}
            with reading("Replicate"):
                made = client.files.create(
                    source, filename="data.zip", content_type="application/zip", metadata=metadata
                )
            sent = source.sha256
        found = made.checksums.get("sha256") or sent
        if sent != archive.sha256:
            found = sent
        url = made.urls.get("get")
        if not url:
            raise Unreadable("Replicate took the data and did not say where they are", hint="try again")
        return UploadNote(id=made.id, url=url, sha256=found, expires_at=_moment(made.expires_at))

    def _arrived(self, archive: Archive, tag: RunTag, token: Secret) -> UploadNote | None:
        """What an upload left there whose answer was lost, if it is whole by what Replicate itself says of its digest."""
        with suppress(LabError):  # where that cannot be told, the archive is sent again
            for one in self._of_job(tag.job_id, token)[0]:
                note = _noted(one)
                if note is not None and note.sha256 == archive.sha256 and self.lasts(note, token):
                    return note
        return None

    def _is_there(self, file_id: str, token: Secret) -> bool:
        try:
            self._api.get(f"/v1/files/{file_id}", token)
        except NotThere:
            return False
        return True

    def _of_job(self, job_id: str, token: Secret) -> tuple[list[dict[str, Any]], bool]:
        """The files whose metadata name the job, each with an id, and whether every file of the account was looked at."""
        query: dict[str, str] = {}
        files: list[dict[str, Any]] = []
        for _ in range(_MOST_LISTED):
            with reading("Replicate"):
                page = self._api.get("/v1/files", token, **query)
                found = list(page["results"])
            files += (
                one
                for one in found
                if isinstance(one, dict) and _named(one, "job") == job_id and isinstance(one.get("id"), str)
            )
            cursor = cursor_of(page.get("next"))
            if not cursor:
                return files, True
            query = {"cursor": cursor}
        return files, False


class Watched(io.BufferedReader):
    """A file that tells how far it has been read, and has the digest of what was; it is read in pieces as it is sent."""

    def __init__(self, path: Path, progress: ProgressCallback) -> None:
        super().__init__(io.FileIO(path))
        self._total = path.stat().st_size
        self._progress = progress
        self._digest = hashlib.sha256()
        self._done = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next piece."""
        block = super().read(size)
        if block:
            self._digest.update(block)
            self._done += len(block)
            self._progress(self._done, self._total)
        return block

    @property
    def sha256(self) -> str:
        """Of what has been read."""
        return self._digest.hexdigest()


def cursor_of(link: object) -> str:
    """The cursor in the address of a next page; empty where there is none. The address itself is not asked."""
    found = parse_qs(urlsplit(link).query).get("cursor", []) if isinstance(link, str) else []
    return found[0] if found else ""


def _named(file: dict[str, Any], key: str) -> object:
    metadata = file.get("metadata")
    return metadata.get(key) if isinstance(metadata, dict) else None


def _noted(file: dict[str, Any]) -> UploadNote | None:
    """A file of a list as a note of it; None where its digest or its address are not told."""
    checksums, urls, expires = file.get("checksums"), file.get("urls"), file.get("expires_at")
    sha256 = checksums.get("sha256") if isinstance(checksums, dict) else None
    url = urls.get("get") if isinstance(urls, dict) else None
    if not (isinstance(sha256, str) and isinstance(url, str) and url):
        return None
    expires_at = _moment(expires if isinstance(expires, str) else None)
    return UploadNote(id=file["id"], url=url, sha256=sha256, expires_at=expires_at)


def _moment(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
