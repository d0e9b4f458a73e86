"""What became of each start at a service whose interface has no names for starts: a small file each."""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from simpletuner_lab.core.provider import RunTag


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A start that was tried. `ref` is the job of the service; empty: it has not answered."""

    ref: str = ""
    packed: bool = False
    """Data sets of this machine went with it."""


class Notes:
    """Kept in a folder, which is made with the first one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "starts"

    def read(self, tag: RunTag) -> Note | None:
        """What is known; None: it was never tried."""
        try:
            return Note(**json.loads(self._path(tag).read_bytes()))
        except FileNotFoundError:
            return None

    def write(self, tag: RunTag, note: Note) -> None:
        """Replaces what is known, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(tag)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        with temporary.open("w") as stream:
            json.dump(asdict(note), stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)

    def forget(self, tag: RunTag) -> None:
        """It is as if it had never been tried."""
        self._path(tag).unlink(missing_ok=True)

    def all(self) -> dict[str, RunTag]:
        """The tag of each job that is known."""
        found: dict[str, RunTag] = {}
        for path in self._folder.glob("[!.]*.json"):
            job_id, _, attempt = path.stem.rpartition("@")
            if ref := Note(**json.loads(path.read_bytes())).ref:
                found[ref] = RunTag(job_id=job_id, attempt=int(attempt))
        return found

    def _path(self, tag: RunTag) -> Path:
        job_id = re.sub(r"[^A-Za-z0-9._-]", "_", tag.job_id)
        return self._folder / f"{job_id}@{tag.attempt}.json"
