"""Delivered files to a folder of one's own: resumed where they broke off, compared with their checksums, then in place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from simpletuner_lab.client import Client
from simpletuner_lab.core.errors import InvalidRequest, OutputChanged, OutputNotFound, ServerUnreachable
from simpletuner_lab.services.views import OutputView

_PART: Final = ".part"
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
        ServerUnreachable: it broke off for good. The next call goes on where it stood.
    """
    listed = client.outputs(job_id).outputs
    chosen = [file for file in listed if not paths or any(_is_below(file.path, path) for path in paths)]
    missing = [path for path in paths if not any(_is_below(file.path, path) for file in chosen)]
    if missing or not chosen:
        what = f"no output {missing[0]!r}" if missing else "no outputs yet"
        raise OutputNotFound(f"job {job_id} has {what}", hint="list the outputs for their paths")
    for file in chosen:
        yield _fetch(client, job_id, file, _below(to, file.path), told)


def _fetch(
    client: Client, job_id: str, file: OutputView, target: Path, told: Callable[[OutputView, int], None]
) -> Downloaded:
    if file.sha256 and target.is_file() and target.stat().st_size == file.bytes and _sha256(target) == file.sha256:
        return Downloaded(path=target, bytes=file.bytes, sha256=file.sha256, verified=True, kept=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + _PART)
    if not file.sha256:
        part.unlink(missing_ok=True)  # nobody can say whether it is of the same file
    _receive(client, job_id, file, part, told)
    found = _sha256(part)
    if part.stat().st_size != file.bytes or (file.sha256 and found != file.sha256):
        part.unlink()
        raise OutputChanged(f"{file.path} differs from its checksum", hint="download it again")
    part.replace(target)
    return Downloaded(path=target, bytes=file.bytes, sha256=found, verified=bool(file.sha256), kept=False)


def _receive(
    client: Client, job_id: str, file: OutputView, part: Path, told: Callable[[OutputView, int], None]
) -> None:
    """Brings the part to its full size; a connection that broke off is made anew as long as each one brings something."""
    fruitless = 0
    with part.open("ab") as stream:
        done = stream.tell()
        if done > file.bytes:
            done = stream.truncate(0)
        while done < file.bytes or done == 0:
            before = done
            try:
                for block in client.read_output(job_id, file.path, offset=done, sha256=file.sha256):
                    stream.write(block)
                    done += len(block)
                    told(file, done)
            except ServerUnreachable:
                fruitless = 0 if done > before else fruitless + 1
                if fruitless == _FRUITLESS or not file.sha256:
                    raise
            else:
                return


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
