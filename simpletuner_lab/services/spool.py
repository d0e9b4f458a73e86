"""Archives on their way: packed once, verified against the plan, kept until the job has settled (SPEC C2)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.core.manifest import Manifest
from simpletuner_lab.core.provider import Archive
from simpletuner_lab.services.archive import PackProgress, pack, untold, verify
from simpletuner_lab.services.codec import dumps, loads
from simpletuner_lab.services.files import write_atomically

_LEFTOVER_S: Final = 24 * 3600.0
"""No packing takes so long between two writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    bytes: int
    sha256: str
    files: int
    content_bytes: int

    @classmethod
    def of(cls, archive: Archive) -> _Note:
        return cls(bytes=archive.bytes, sha256=archive.sha256, files=archive.files, content_bytes=archive.content_bytes)

    def archive(self, path: Path) -> Archive:
        return Archive(
            path=path, bytes=self.bytes, sha256=self.sha256, files=self.files, content_bytes=self.content_bytes
        )


class Spool:
    """The 0600 spool folder. Beside each archive stands a note of its size and digest, written after it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sweep(self, now: float) -> None:
        """Removes what a killed packing left half written. Younger files may be another process at work."""
        for path in self._folder.glob(".*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < now - _LEFTOVER_S:
                    path.unlink()

    def holds(self, job_id: str) -> bool:
        """Whether this job was packed whole; the archive's digest is not looked at."""
        try:
            note = loads(_Note, self._note(job_id).read_text("utf-8"), what="spool note")
            return self._zip(job_id).stat().st_size == note.bytes
        except (FileNotFoundError, InvalidRequest):
            return False

    def archive(self, job_id: str) -> Archive | None:
        """The archive of this job if it was packed whole and still has its digest."""
        try:
            note = self._note(job_id).read_text("utf-8")
            found = loads(_Note, note, what="spool note").archive(self._zip(job_id))
        except (FileNotFoundError, InvalidRequest):
            return None
        return found if verify(found.path, found.sha256) else None

    def pack(self, job_id: str, manifest: Manifest, progress: PackProgress = untold) -> Archive:
        """Packs the data sets, or returns what an earlier try packed.

        Raises:
            PlanChanged: a file is not what the manifest says; nothing is left in the spool.
            DiskFull: no room for it.
        """
        found = self.archive(job_id)
        if found is None:
            found = pack(manifest, self._zip(job_id), progress=progress)
            write_atomically(self._note(job_id), dumps(_Note.of(found)).encode())
        return found

    def remove(self, job_id: str) -> None:
        """Deletes archive and note, and what killed packings of this job left half written."""
        self._note(job_id).unlink(missing_ok=True)
        self._zip(job_id).unlink(missing_ok=True)
        for draft in self._folder.glob(f".{job_id}.*"):
            draft.unlink(missing_ok=True)

    def _zip(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.zip"

    def _note(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"
