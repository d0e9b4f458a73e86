"""What the files of a local run say: its log, its locks, its end. Nothing here starts or ends a process.

    runs/JOB/data.zip            the packed data sets
    runs/JOB/work/               the trainer's own folder, kept from attempt to attempt; `trainer.lock` is its flock
    runs/JOB/attempt-0001/       spec.json, order.json, lock, trainer.log, supervisor.log, cancel, exit.json

An attempt is over when `exit.json` is there, or when nobody holds `lock` or `trainer.lock` any more. No process
number is kept or trusted.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simpletuner_lab.core.errors import InvalidRequest, ProviderFailure
from simpletuner_lab.core.provider import RunTag
from simpletuner_lab.providers._run_end import Ending

POLL_BYTES: Final = 1 << 20
"""At most so much log is read at once; a line longer than this is broken there."""

_TAIL_BYTES: Final = 64 * 1024
_ATTEMPT: Final = re.compile(r"attempt-(\d{4,})")
_JOB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REF: Final = re.compile(rf"({_JOB_ID.pattern})/([1-9]\d{{0,8}})")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPiece:
    """Whole lines from a log, and where the next read starts."""

    text: bytes
    offset: int
    more: bool
    """There is more to read at once."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The folder of one attempt; it need not exist."""

    job: Path
    number: int

    @property
    def folder(self) -> Path:
        """Holds everything of this attempt but the data and the trainer's work."""
        return self.job / f"attempt-{self.number:04d}"

    @property
    def ref(self) -> str:
        """The reference of this run, as the provider gives it out."""
        return f"{self.job.name}/{self.number}"

    def create(self, files: Mapping[str, bytes]) -> int:
        """Makes the folder whole or not at all; returns the descriptor of its `lock`, held.

        Raises:
            ProviderFailure: this attempt was started before.
        """
        draft = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}.", dir=self.job))
        lock = -1
        try:
            for name, content in files.items():
                _write_private(draft / name, content)
            lock = os.open(draft / "lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.rename(self.folder)  # refused where a folder with something in it has this name
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            if lock >= 0:
                os.close(lock)
            if self.folder.exists():
                raise ProviderFailure(
                    f"attempt {self.number} of job {self.job.name} was started before", hint="look it up instead"
                ) from error
            raise
        return lock

    def ending(self) -> Ending | None:
        """How it ended; None while it lives. The locks are looked at first, so an end is never missed.

        The trainer's lock is one for all attempts and speaks of the newest: none starts before the last has ended.
        """
        newest = not Attempt(self.job, self.number + 1).folder.exists()
        alive = held(self.folder / "lock") or (newest and held(self.job / "work" / "trainer.lock"))
        written = self._read_exit()
        if written is not None or alive:
            return written
        return Ending(cancelled=(self.folder / "cancel").exists())

    def read_log(self, offset: int, *, ended: bool) -> LogPiece:
        """Whole lines from `offset` on, and once the run has ended also the rest, as a line of its own."""
        try:
            with (self.folder / "trainer.log").open("rb") as stream:
                stream.seek(offset)
                piece = stream.read(POLL_BYTES)
                size = os.fstat(stream.fileno()).st_size
        except FileNotFoundError:
            return LogPiece(text=b"", offset=offset, more=False)
        text, taken = whole_lines(piece, final=ended and offset + len(piece) >= size)
        return LogPiece(text=text, offset=offset + taken, more=offset + taken < size)

    def log_tail(self) -> str:
        """The end of the log, for a person."""
        try:
            with (self.folder / "trainer.log").open("rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
                return stream.read(_TAIL_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def _read_exit(self) -> Ending | None:
        try:
            record = json.loads((self.folder / "exit.json").read_bytes())
            return Ending(**{name: record[name] for name in ("status", "signal", "cancelled", "interrupted")})
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError):  # a damaged disk: as good as none
            return None


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs on this machine, by job and attempt."""

    root: Path

    def job(self, job_id: str) -> Path:
        """The folder of a job; it need not exist.

        Raises:
            InvalidRequest: the id could name another place.
        """
        if not _JOB_ID.fullmatch(job_id):
            raise InvalidRequest(f"{job_id!r} is not a job id", hint="letters, digits, . _ -")
        return self.root / job_id

    def attempt(self, tag: RunTag) -> Attempt:
        """The attempt with this tag."""
        return Attempt(self.job(tag.job_id), tag.attempt)

    def by_ref(self, ref: str) -> Attempt:
        """The attempt that a reference names.

        Raises:
            ProviderFailure: it is none of ours.
        """
        found = _REF.fullmatch(ref)
        if not found:
            raise ProviderFailure(f"{ref!r} is not a run of this machine", hint="a run is JOB/ATTEMPT")
        return Attempt(self.root / found[1], int(found[2]))

    def all(self) -> Sequence[Attempt]:
        """Every attempt that was started, oldest first within a job."""
        jobs = sorted(self.root.iterdir()) if self.root.is_dir() else []
        return [attempt for job in jobs if _JOB_ID.fullmatch(job.name) for attempt in self.of(job)]

    @staticmethod
    def of(job: Path) -> Sequence[Attempt]:
        """Every attempt of a job that was started, oldest first."""
        names = [entry.name for entry in job.iterdir()] if job.is_dir() else []
        found = [match for match in map(_ATTEMPT.fullmatch, names) if match]
        return [Attempt(job, number) for number in sorted(int(match[1]) for match in found)]


def held(lock: Path) -> bool:
    """Whether a process holds the flock on this file. Askers share it, so that they never see each other."""
    try:
        file = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _write_private(path: Path, content: bytes) -> None:
    with open(path, "xb", opener=private) as stream:
        stream.write(content)


def private(path: str, flags: int) -> int:
    """An opener for files that nobody else may read."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def whole_lines(piece: bytes, *, final: bool) -> tuple[bytes, int]:
    """The whole lines at the start of `piece`, and how many of its bytes they are.

    A rest without a newline waits for one, unless the log is at its end (`final`) or the line fills the piece: then
    it gets a newline that the file does not have.
    """
    end = piece.rfind(b"\n") + 1
    if end < len(piece) and (final or (end == 0 and len(piece) >= POLL_BYTES)):
        return piece + b"\n", len(piece)
    return piece[:end], end
