"""Delivered files to a folder of one's own: resumed where they broke off, compared with their checksums, then in place.

Until it is whole, a file is `.NAME.TAG.part` beside its place. The tag is of what is to come, so that no other file's
part is gone on with; one download at a time holds its flock.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Final

from simpletuner_lab.client import Client
from simpletuner_lab.core.destination import DeliveryState, label, sent_by_trainer
from simpletuner_lab.core.errors import (
    Conflict,
    DiskFull,
    InvalidRequest,
    LabError,
    OutputChanged,
    OutputNotFound,
    ServerUnreachable,
    lacks_room,
)
from simpletuner_lab.services.views import OutputView

_PART: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NAME: Final = 50
"""So many characters of a file's name are in its part's: with the tag they fit a file system's 255 bytes."""
_NO_FOLDER: Final = {errno.EEXIST, errno.ENOTDIR}
_NO_LOCKS: Final = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_FRUITLESS: Final = 3
"""So many connections in a row that brought nothing end a download; what is there is gone on with later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """One file that is here now."""

    path: Path
    bytes: int
    sha256: str
    verified: bool
    """Compared with the checksum that it had on arrival at the lab. False: the lab knows none (samples, metrics)."""
    kept: bool
    """It was here already."""


def download(
    client: Client,
    job_id: str,
    to: Path,
    *,
    paths: Sequence[str] = (),
    told: Callable[[OutputView, int], None] = lambda _file, _done: None,
) -> Iterator[Downloaded]:
    """Fetches a job's files, or those at or below `paths`, one after the other, below `to`.

    Args:
        client: of the lab that has them, here or elsewhere.
        job_id: whose files.
        to: the folder; it is made where it is missing.
        paths: files or folders among the outputs; none: all.
        told: hears of each block: the file, and how many of its bytes are here.

    Raises:
        OutputNotFound: the job has no such file.
        OutputChanged: what came differs from its checksum; nothing of it is left in place.
        Conflict: another download is writing the same file there.
        DiskFull: no room. The next call goes on where it stood.
        InvalidRequest: it cannot be written there: not a folder, not allowed, a folder or a link in its place.
        ServerUnreachable: it broke off for good. The next call goes on where it stood.
    """
    listed = client.outputs(job_id).outputs
    chosen = [file for file in listed if not paths or any(_is_below(file.path, path) for path in paths)]
    missing = [path for path in paths if not any(_is_below(file.path, path) for file in chosen)]
    if missing or not chosen:
        raise _nothing_to_fetch(client, job_id, missing[0] if missing and listed else "")
    for file in chosen:
        yield _fetch(client, job_id, file, _below(to, file.path), told)


def _nothing_to_fetch(client: Client, job_id: str, path: str) -> OutputNotFound:
    if path:
        return OutputNotFound(f"job {job_id} has no output {path!r}", hint="list the outputs for their paths")
    job = client.job(job_id)
    away = [one for one in client.deliveries(job_id) if sent_by_trainer(one.destination)]
    if away and away[0].state is DeliveryState.DELIVERED:
        where = away[0].url or label(away[0].destination)
        return OutputNotFound(
            f"job {job_id} has nothing at home: its trainer delivered it to {where}", hint="fetch it from there"
        )
    if away and not job.is_terminal:
        message = f"job {job_id} brings nothing home: {label(away[0].destination)}"
        return OutputNotFound(message, hint="once it is completed, fetch it from there")
    if job.is_terminal:
        return OutputNotFound(f"job {job_id} is {job.status}, and has no outputs", hint="its log says why")
    return OutputNotFound(f"job {job_id} has no outputs yet", hint="wait until something has arrived")


def _fetch(
    client: Client, job_id: str, file: OutputView, target: Path, told: Callable[[OutputView, int], None]
) -> Downloaded:
    with _disk(target):
        if target.is_dir():
            raise InvalidRequest(f"{target} is a folder", hint="move it away, or name another folder to download to")
        if file.sha256 and target.is_file() and target.stat().st_size == file.bytes and _sha256(target) == file.sha256:
            return Downloaded(path=target, bytes=file.bytes, sha256=file.sha256, verified=True, kept=True)
    with _disk(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name[:_NAME]}.{_tag(job_id, file)}.part")
    with _held(part) as stream:
        begun = os.fstat(stream.fileno()).st_size
        if begun > file.bytes or not file.sha256:
            begun = 0  # too long, or nobody can say whether it is of the same file
        stream.seek(begun)
        found = _received(client, job_id, file, stream, told)
        if begun and not found:
            stream.seek(0)
            found = _received(client, job_id, file, stream, told)
        with _disk(target):
            if not found:
                part.unlink()
                raise OutputChanged(f"{file.path} differs from its checksum", hint="download it again")
            part.replace(target)
    return Downloaded(path=target, bytes=file.bytes, sha256=found, verified=bool(file.sha256), kept=False)


def _received(
    client: Client, job_id: str, file: OutputView, stream: FileIO, told: Callable[[OutputView, int], None]
) -> str:
    """The checksum of the part, gone on with where the stream stands; empty where it is not of the file."""
    with _disk(Path(stream.name)):
        stream.truncate()
    _receive(client, job_id, file, stream, told)
    with _disk(Path(stream.name)):
        os.fsync(stream.fileno())
        stream.seek(0)
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        fits = os.fstat(stream.fileno()).st_size == file.bytes and file.sha256 in {"", found}
    return found if fits else ""


def _receive(
    client: Client, job_id: str, file: OutputView, stream: FileIO, told: Callable[[OutputView, int], None]
) -> None:
    """Brings the part to its full size; a connection that broke off is made anew as long as each one brings something."""
    fruitless = 0
    done = stream.tell()
    while done < file.bytes or done == 0:
        before = done
        try:
            for block in client.read_output(job_id, file.path, offset=done, sha256=file.sha256):
                _write(stream, block)
                done += len(block)
                told(file, done)
        except ServerUnreachable:
            fruitless = 0 if done > before else fruitless + 1
            if fruitless == _FRUITLESS or not file.sha256:
                raise
        else:
            return


def _write(stream: FileIO, block: bytes) -> None:
    left = memoryview(block)
    with _disk(Path(stream.name)):
        while left:
            left = left[stream.write(left) :]


@contextmanager
def _held(part: Path) -> Iterator[FileIO]:
    """The part, made where it is missing, for nobody else meanwhile.

    Raises:
        Conflict: another download has it.
        InvalidRequest: a link or no plain file is in its place; it is left as it is.
    """
    while True:
        with _disk(part):
            stream = FileIO(part, "r+", opener=lambda path, _: os.open(path, _PART, 0o666))
        with stream:
            with _disk(part):
                about = os.fstat(stream.fileno())
                if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
                    raise InvalidRequest(f"{part} is not a plain file of the lab's", hint="remove it")
                _lock(stream, part)
                there = _is_at(stream, part)
            if there:
                yield stream
                return


def _lock(stream: FileIO, part: Path) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(
            f"another download is writing {part}", hint="wait until it has ended, or name another folder to download to"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:  # some network file systems have none; there, nothing tells two apart
            raise


def _is_at(stream: FileIO, part: Path) -> bool:
    """Whether it is still there: the download that had it before may have put it in place."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), part.lstat())
    except FileNotFoundError:
        return False


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turns what the file system says into the lab's errors."""
    try:
        yield
    except OSError as error:
        raise _told(path, error) from error


def _told(path: Path, error: OSError) -> LabError:
    if lacks_room(error):
        hint = "free some space and download again: it goes on where it stood"
        return DiskFull(f"no room for {path}: {error.strerror}", hint=hint)
    if error.errno in _NO_FOLDER:
        hint = "name a folder to download to"
        return InvalidRequest(f"{path} is, or is below, a file; it should be a folder", hint=hint)
    if error.errno == errno.ELOOP:
        return InvalidRequest(f"{path} is a link, and is not followed", hint="remove the link")
    hint = "name a folder to download to that you may write to"
    return InvalidRequest(f"cannot download to {path}: {error.strerror or error}", hint=hint)


def _tag(job_id: str, file: OutputView) -> str:
    """What a part is of, in twelve characters."""
    about = "\0".join((job_id, file.path, file.modified_at, str(file.bytes)))
    return (file.sha256 or hashlib.sha256(about.encode()).hexdigest())[:12]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_below(path: str, chosen: str) -> bool:
    return path == chosen or path.startswith(chosen.rstrip("/") + "/")


def _below(folder: Path, path: str) -> Path:
    """Where a file goes; a server is not trusted to name a place outside."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in parts[0]:
        raise InvalidRequest(f"the output {path!r} is not a plain relative path", hint="download it by hand")
    return folder.joinpath(*parts)
