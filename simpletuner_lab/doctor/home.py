"""Where the lab keeps things: folder, disk, database, consent. Nothing is made."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.doctor.finding import Finding, ok, problem, warning
from simpletuner_lab.services.home import DATABASE_URL, VARIABLE, Home
from simpletuner_lab.services.mounts import Mount, network_kind, read_mounts
from simpletuner_lab.terminal import size

_LITTLE_BYTES: Final = 5_000_000_000
_TOO_LITTLE_BYTES: Final = 200_000_000
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_CONSENT: Final = "consent"


def home_findings(home: Home, mounts: Iterable[Mount] | None = None) -> Iterator[Finding]:
    """The home folder and the disk below it."""
    elsewhere = f"set {VARIABLE} to a folder of your own on a local disk"
    place = _place(home)
    if fault := _write_fault(place):
        yield problem("home", f"{home.root} cannot be written: {fault}", elsewhere)
        return
    if kind := network_kind(place, read_mounts() if mounts is None else mounts):
        yield problem("home", f"{home.root} lies on a network file system ({kind}); a database there breaks", elsewhere)
    else:
        yield _permissions(home) or ok("home", f"{home.root}" + ("" if place == home.root else ", made at first use"))
    free = shutil.disk_usage(place).free
    if free < _TOO_LITTLE_BYTES:
        yield problem("disk", f"{size(free)} free at {place}", "free some space: a job needs room for data and model")
    elif free < _LITTLE_BYTES:
        yield warning(
            "disk", f"{size(free)} free at {place}; a base and its checkpoints take some GB", "free some space"
        )
    else:
        yield ok("disk", f"{size(free)} free at {place}")


def database_findings(home: Home, environment: Mapping[str, str] = MappingProxyType({})) -> Iterator[Finding]:
    """Whether the database opens, and the consent mode in it."""
    address = home.database_of(environment)
    if isinstance(address, Secret):
        yield from _opened(address, f"the shared database of {DATABASE_URL}")
        return
    try:
        there = home.database.exists()
    except OSError as error:
        yield problem("database", f"{home.database} cannot be reached: {error.strerror}", f"mend it, or set {VARIABLE}")
        return
    if not there:
        if not _write_fault(_place(home)):
            yield ok("database", f"{home.database}, made at first use")
        return
    yield from _opened(address, str(address))


def _opened(address: Path | Secret, name: str) -> Iterator[Finding]:
    from simpletuner_lab.services.store import Store

    try:
        store = Store.open(address)
    except LabError as error:
        yield problem("database", error.message, error.hint)
        return
    try:
        mode = ConsentMode.parse(store.settings.get(_CONSENT) or ConsentMode.ASK)
    except LabError as error:
        yield problem("database", error.message, error.hint)
        return
    finally:
        store.close()
    yield ok("database", f"{name} opens")
    yield ok(
        "consent", f"mode {mode}" + ("" if mode is not ConsentMode.NEVER else ": nothing is sent to another machine")
    )


def _place(home: Home) -> Path:
    """The home, else what is there of the way to it."""
    return next(path for path in (home.root, *home.root.parents) if path.exists())


def _write_fault(folder: Path) -> str:
    """Why nothing can be written there; empty where it can. A trial tells more than permissions do."""
    if not folder.is_dir():
        return f"{folder} is no folder"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _permissions(home: Home) -> Finding | None:
    for folder in (home.root, home.state, home.outputs):
        try:
            found = folder.stat()
        except FileNotFoundError:
            continue
        if hasattr(os, "getuid") and found.st_uid != os.getuid():
            return problem("home", f"{folder} belongs to another user", f'sudo chown -R "$(id -un)" {folder}')
        if found.st_mode & _OTHERS:
            mode = f"{stat.S_IMODE(found.st_mode):o}"
            return warning("home", f"others may look into {folder} (mode {mode})", f"chmod 700 {folder}")
    return None
