"""What tests of the local provider share: a stand-in trainer on the path, a provider that runs it, its orders."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

from simpletuner_lab.core.canonical import Json
from simpletuner_lab.core.destination import FolderDelivery
from simpletuner_lab.core.provider import Archive, ProviderContext, RunTag, StartOrder
from simpletuner_lab.providers.local import LocalProvider, LocalSettings
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.provider_contract import Run, uploaded
from simpletuner_trainer import __version__

STAND_IN = Path(__file__).with_name("stand_in_trainer.py")
JOB = "j-1"


def stand_in(folder: Path, version: str = __version__) -> Path:
    """A folder for PYTHONPATH in which `simpletuner_trainer` is the stand-in."""
    package = folder / "stand-in" / "simpletuner_trainer"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(f'__version__ = "{version}"\n')
    shutil.copyfile(STAND_IN, package / "__main__.py")
    return package.parent


def local_provider(
    home: Path, *, grace_s: float = 10.0, nice: int = 0, python: str = "", **environment: str
) -> LocalProvider:
    """A provider whose trainers are stand-ins: they come first on the PYTHONPATH that it hands on."""
    given = {"PATH": os.environ["PATH"], "HOME": str(home.parent), "PYTHONPATH": str(stand_in(home.parent))}
    settings = LocalSettings(grace_s=grace_s, nice=nice, python=python)
    return LocalProvider(settings, ProviderContext(home=home, environment={**given, **environment}))


def spool(folder: Path) -> Archive:
    """A small archive."""
    path = folder / "spool.zip"
    if not path.exists():
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("set/one.txt", b"a caption\n")
        path.chmod(0o600)
    data = path.read_bytes()
    return Archive(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), files=1, content_bytes=10)


def order(folder: Path, behaviour: str, *, attempt: int = 1, job_id: str = JOB, **config: Json) -> StartOrder:
    """An order for the stand-in; its data are not uploaded yet."""
    return StartOrder(
        tag=RunTag(job_id=job_id, attempt=attempt),
        target="trainer",
        hardware="cpu",
        nonce="0123456789abcdef",
        config={"behaviour": behaviour, **config},
        dataloader=[],
        plan_digest="0" * 64,
        archive=spool(folder),
        upload_ref="",
        delivery=FolderDelivery(path=str(folder / "delivered")),
        deadline_s=None,
    )


def begin(provider: LocalProvider, wanted: StartOrder, *, told: bool = False) -> Run:
    """Uploads and starts; with `told`, returns once the stand-in has said who it is."""
    ready = uploaded(provider, wanted)
    run = Run(provider=provider, order=ready, ref=provider.start(ready), patience_s=20.0)
    if told:
        eventually(lambda: facts(run))
    return run


def attach(provider: LocalProvider, wanted: StartOrder, ref: str) -> Run:
    """A run that somebody else started."""
    return Run(provider=provider, order=dataclasses.replace(wanted, upload_ref=""), ref=ref, patience_s=20.0)


def facts(run: Run) -> dict[str, Any]:
    """What the stand-in said about itself; empty while it has not."""
    for line in run.poll().log.decode().splitlines():
        if line.startswith("facts "):
            found: dict[str, Any] = json.loads(line.removeprefix("facts "))
            return found
    return {}


def exit_record(home: Path, attempt: int = 1) -> dict[str, Any]:
    """What the supervisor wrote at the end."""
    found: dict[str, Any] = json.loads((home / "runs" / JOB / f"attempt-{attempt:04d}" / "exit.json").read_bytes())
    return found


def start_and_wait(folder: str) -> None:
    """Program of a second process: starts a run, says which, and waits to be killed."""
    run = begin(local_provider(Path(folder) / "home"), order(Path(folder), "half"))
    print(run.ref, flush=True)
    sys.stdin.read()
