"""What the provider writes down about its own starts and uploads, in its folder: what decides when an answer was lost.

A note is on disk before the request that it tells of is sent. It holds no secret.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simpletuner_lab.core.errors import DiskFull, ProviderFailure, ProviderUnavailable, lacks_room
from simpletuner_lab.core.provider import RunTag

_NAME: Final = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}")
_REF: Final = re.compile(r"[A-Za-z0-9]{1,64}")


class Outcome(enum.StrEnum):
    """What became of a start."""

    SENT = "sent"
    """No answer is known."""
    REFUSED = "refused"
    """Nothing was started, for certain."""
    STARTED = "started"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartNote:
    """One attempt of a job. Times are seconds since the epoch by this machine's clock."""

    job_id: str
    attempt: int
    target: str
    model: str
    hardware: str
    data_url: str
    life_s: int
    tried_at: float
    """Of the first try whose outcome is not known to be a refusal."""
    last_tried_at: float
    outcome: Outcome = Outcome.SENT
    ref: str = ""
    usd_per_s: float | None = None
    """What the hardware cost when it started: a price that changes later is for later runs. None: not noted."""

    @property
    def tag(self) -> RunTag:
        """Of the attempt."""
        return RunTag(job_id=self.job_id, attempt=self.attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadNote:
    """A file that was handed over for a job."""

    id: str
    url: str
    sha256: str
    expires_at: float | None


class Notes:
    """The notes under a folder, which is made when the first is written."""

    def __init__(self, folder: Path) -> None:
        self._starts = folder / "starts"
        self._refs = folder / "refs"
        self._uploads = folder / "uploads"

    def start(self, tag: RunTag) -> StartNote | None:
        """Of this attempt; None where no start was tried from here."""
        return _read_start(self._start_path(tag))

    def started(self, ref: str) -> StartNote | None:
        """Of the run with this reference; None where it was not started from here."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            named = json.loads((self._refs / reference(ref)).read_bytes())
            return self.start(RunTag(job_id=str(named["job_id"]), attempt=int(named["attempt"])))
        return None

    def of_job(self, job_id: str) -> tuple[StartNote, ...]:
        """Every attempt of a job."""
        folder = self._starts / _name(job_id)
        paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
        return tuple(note for note in map(_read_start, paths) if note is not None)

    def write(self, note: StartNote) -> None:
        """Keeps it, and where it was started the way from its reference to it.

        Raises:
            DiskFull, ProviderUnavailable: it cannot be written.
        """
        _write(self._start_path(note.tag), dataclasses.asdict(note))
        if note.ref:
            _write(self._refs / reference(note.ref), {"job_id": note.job_id, "attempt": note.attempt})

    def uploads(self, job_id: str) -> tuple[UploadNote, ...]:
        """The files that were handed over for a job, and not seen to be gone."""
        try:
            told = json.loads(self._upload_path(job_id).read_bytes())
            return tuple(UploadNote(**one) for one in told)
        except (OSError, ValueError, TypeError):
            return ()

    def write_uploads(self, job_id: str, notes: Iterable[UploadNote]) -> None:
        """Keeps these in the place of what was there."""
        kept = [dataclasses.asdict(note) for note in notes]
        if kept:
            _write(self._upload_path(job_id), kept)
        else:
            self._upload_path(job_id).unlink(missing_ok=True)

    def sent_at(self, job_id: str) -> float | None:
        """When data of a job were last sent without an answer that says what became of them; None: never."""
        try:
            return float(json.loads(self._sent_path(job_id).read_bytes())["at"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write_sent(self, job_id: str, at: float | None) -> None:
        """Keeps that time, or that there is none."""
        if at is None:
            self._sent_path(job_id).unlink(missing_ok=True)
        else:
            _write(self._sent_path(job_id), {"at": at})

    def _sent_path(self, job_id: str) -> Path:
        return self._uploads / f"{_name(job_id)}.sent"

    def _start_path(self, tag: RunTag) -> Path:
        return self._starts / _name(tag.job_id) / f"{tag.attempt:04d}.json"

    def _upload_path(self, job_id: str) -> Path:
        return self._uploads / f"{_name(job_id)}.json"


def reference(ref: str) -> str:
    """The reference of a prediction, if it can be one.

    Raises:
        ProviderFailure: it cannot.
    """
    if not _REF.fullmatch(ref):
        raise ProviderFailure(f"{ref[:100]!r} is not the reference of a prediction", hint="letters and digits alone")
    return ref


def _name(job_id: str) -> str:
    if not _NAME.fullmatch(job_id):
        raise ProviderFailure(f"{job_id[:100]!r} is not the id of a job", hint="letters, digits, - _ and dots")
    return job_id


def _read_start(path: Path) -> StartNote | None:
    try:
        told = json.loads(path.read_bytes())
        return StartNote(**{**told, "outcome": Outcome(told["outcome"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProviderUnavailable(
            f"{path} cannot be read: {error}", hint="see whether it is a file of yours"
        ) from error


def _make_private(folder: Path) -> None:
    """Makes it and what is missing above it for their owner alone: `parents=True` would leave all but the last to others."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _write(path: Path, value: object) -> None:
    """Whole or not at all, on disk when this returns."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _make_private(path.parent)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        if lacks_room(error):
            raise DiskFull(f"{path} cannot be written: {error.strerror}", hint="free some space") from error
        raise ProviderUnavailable(f"{path} cannot be written: {error}", hint="see whether its folder can be") from error
