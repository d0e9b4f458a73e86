"""Where results go, as objects by key: what every store can do, the plain folder, and who makes which.

A store of S3 is in `bucket`, one of the Hugging Face Hub in `hub`. Errors say whether trying again can help. The lab
imports these modules too, for what it sends itself: they need nothing that only training needs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from simpletuner_trainer.errors import BadSpec, Refused
from simpletuner_trainer.files import FileEntry, sha256_of, sync_file, sync_folder
from simpletuner_trainer.spec import Destination, FolderDestination, HubDestination


class Unreachable(Exception):
    """The destination did not do it this time; it may the next, and not before `retry_after_s` where it said so."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """Files of one folder that go to `prefix`, in this order: what says that they are whole comes last."""

    folder: Path
    names: tuple[str, ...]
    prefix: str = ""
    title: str = ""
    """In a few words, for who looks at the destination's history."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the names whose content is promised already, by a manifest."""

    def entry(self, name: str) -> FileEntry:
        """The file as it is now; `Refused` where that is not what is promised."""
        entry = FileEntry.of(self.folder, name)
        if self.digests.get(name, entry.sha256) != entry.sha256:
            raise changed(name)
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Where a shipment can be looked at now, and as which revision, if there are such."""

    url: str
    revision: str = ""


Moved = Callable[[], None]
"""Called whenever something has come further: whoever waits goes on waiting."""


class Store(Protocol):
    """Objects under one prefix. Methods raise `Unreachable` (try again) or `Refused` (do not)."""

    def require(self) -> None:
        """Find out before any work what would be found out after it: who we are, and whether we may."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted."""
        ...

    def ship(self, shipment: Shipment, moved: Moved) -> Receipt:
        """Bring all of it there, but what is there already; each object is whole or not there."""
        ...

    def get(self, key: str, path: Path) -> None:
        """Copy an object's content to a new file."""
        ...


def open_store(
    destination: Destination, *, notes: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Store:
    """The store of a destination; nothing is sent yet.

    Args:
        destination: a member of spec.json.
        notes: a folder to remember uploads in that were begun, so that another process goes on with them.
        environment: where credentials are looked up by their names.

    Raises:
        BadSpec: credentials are not in the environment.
        MissingPackage: boto3 or huggingface_hub is not installed.
    """
    if isinstance(destination, FolderDestination):
        return FolderStore(destination)
    if isinstance(destination, HubDestination):
        from simpletuner_trainer.hub import HubStore

        return HubStore(destination, environment)
    from simpletuner_trainer.bucket import S3Store

    return S3Store(destination, environment, notes)


def changed(name: str) -> Refused:
    """The refusal to deliver a file that is not, or not any more, what was promised."""
    return Refused(f"{name} has changed since it was verified", "bring the file back, or run the job again")


def credentials(environment: Mapping[str, str], *names: str) -> tuple[str, ...]:
    """The values of environment variables; `BadSpec` names those that are not set."""
    missing = [name for name in names if not environment.get(name)]
    if missing:
        message = f"the destination's credentials are missing: {' and '.join(missing)} not set"
        raise BadSpec(message, "whoever starts the trainer sets them in its environment")
    for name in names:
        require_token(name, environment[name])
    return tuple(environment[name] for name in names)


def require_token(name: str, value: str) -> None:
    """`BadSpec` for what can be no token or key; an HTTP client would repeat it whole in its error."""
    if not all("!" <= character <= "~" for character in value):
        raise BadSpec(f"{name} holds a space, a line break or a letter that no token has", "set it to the token alone")


class FolderStore:
    """Objects as files."""

    def __init__(self, destination: FolderDestination) -> None:
        self._root = Path(destination.path)

    def require(self) -> None:
        """Whether it can be read."""
        self.names("")

    def names(self, prefix: str) -> list[str]:
        """Paths of files; partial ones (hidden) are not objects."""
        with _disk():
            paths = (path for path in self._root.rglob("*") if path.is_file() and not path.name.startswith("."))
            return sorted(
                name for path in paths if (name := path.relative_to(self._root).as_posix()).startswith(prefix)
            )

    def ship(self, shipment: Shipment, moved: Moved) -> Receipt:
        """File by file."""
        for name in shipment.names:
            entry = FileEntry.of(shipment.folder, name)
            if not self._has(shipment.prefix + name, entry):
                self._put(shipment.folder / name, shipment.prefix + name, entry)
            moved()
        return Receipt(url=self._root.resolve().as_uri())

    def get(self, key: str, path: Path) -> None:
        """Copy a file back."""
        with _disk():
            shutil.copyfile(self._root / key, path)

    def _has(self, key: str, entry: FileEntry) -> bool:
        path = self._root / key
        with _disk():
            return path.is_file() and path.stat().st_size == entry.bytes and sha256_of(path) == entry.sha256

    def _put(self, path: Path, key: str, entry: FileEntry) -> None:
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


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise Refused(f"the destination folder refuses: {error}", "check its permissions") from error
    except OSError as error:
        raise Unreachable(f"{error.filename or 'destination'}: {error.strerror}") from error
