"""What the tests of the Cog predictor share: its model folder, with a trainer of one's own, under a real Cog server."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from simpletuner_lab.services.grants import Credentials
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.replicate_emulator.coglet import Coglet
from simpletuner_lab.testing.storage_server import StorageServer
from tests.testing.replicate_kit import Receiver, receiving

TRAINER = Path(__file__).resolve().parents[2] / "trainer"
NONCE = "9f2c0d6b5a7e4f31"
TOKEN = "hook-token"
ENDS = ("succeeded", "failed", "canceled")


def model_folder(folder: Path, main: str) -> Path:
    """The model as it is pushed, but that its trainer is `main`, a module's source."""
    package = folder / "simpletuner_trainer"
    package.mkdir(parents=True)
    for name in ("predict.py", "keeper.py", "simpletuner_trainer/__init__.py", "simpletuner_trainer/report.py"):
        shutil.copyfile(TRAINER / name, folder / name)
    shutil.copytree(TRAINER / ".cog", folder / ".cog")
    (package / "__main__.py").write_text(main, "utf-8")
    return folder


def packed(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """A zip of a folder's files under its name, and what a spec says of it."""
    content = io.BytesIO()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with zipfile.ZipFile(content, "w") as archive:
        for path in files:
            archive.write(path, path.relative_to(folder.parent))
    data = content.getvalue()
    size = sum(path.stat().st_size for path in files)
    return data, {"sha256": hashlib.sha256(data).hexdigest(), "files": len(files), "bytes": size}


def spec(storage: StorageServer, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Without paths and data."""
    destination = {
        "kind": "s3", "endpoint_url": storage.endpoint_url, "region": "us-east-1", "bucket": "outputs", "prefix": "j-1/",
        "access_key_env": "SIMPLETUNER_S3_ACCESS_KEY", "secret_key_env": "SIMPLETUNER_S3_SECRET_KEY",
    }  # fmt: skip
    return {
        "format": "simpletuner-spec/1", "job_id": "j-1", "attempt": 1, "nonce": NONCE, "config": config,
        "dataloader": [{"id": "pictures", "type": "local", "instance_data_dir": "pictures"}], "destination": destination,
        "plan_digest": "d" * 64, "deadline_s": None, **more,
    }  # fmt: skip


def secrets_of(keys: Credentials) -> dict[str, str]:
    return {"SIMPLETUNER_S3_ACCESS_KEY": keys.access_key, "SIMPLETUNER_S3_SECRET_KEY": keys.secret_key.reveal()}


@dataclass(slots=True)
class Served:
    """A Cog server that is ready, and whoever gets its webhooks."""

    coglet: Coglet
    scratch: Path
    receiver: Receiver

    def put(self, run: str, **inputs: Any) -> httpx.Response:
        """Begins a run; a dict becomes JSON, bytes become a `data:` URL."""
        given = {name: _sent(value) for name, value in inputs.items()}
        order = {"input": given, "webhook": self.receiver.url}
        headers = {"Prefer": "respond-async"}
        return httpx.put(f"{self.coglet.url}/predictions/{run}", json=order, headers=headers, trust_env=False)

    def cancel(self, run: str) -> int:
        return httpx.post(f"{self.coglet.url}/predictions/{run}/cancel", trust_env=False).status_code

    def told(self, run: str) -> list[dict[str, Any]]:
        """Its webhooks, in the order of their arrival."""
        assert {one.headers["Authorization"] for one in self.receiver.got} <= {f"Bearer {TOKEN}"}
        return [told for one in self.receiver.got if (told := one.told)["id"] == run]

    def log(self, run: str) -> str:
        """The longest that was told."""
        return max((told.get("logs") or "" for told in self.told(run)), key=len, default="")

    def end(self, run: str, patience_s: float = 60) -> dict[str, Any]:
        """The last webhook of a run."""
        found = eventually(
            lambda: [one for one in self.told(run) if one["status"] in ENDS], patience_s=patience_s
        )  # fmt: skip
        return found[0]

    def left(self) -> list[str]:
        """What of runs is still on the disk."""
        folders = os.walk(self.scratch / "tmp")  # some of it may go meanwhile
        return sorted(os.path.join(folder, name) for folder, _, names in folders for name in names)

    def processes(self) -> list[str]:
        """Keepers and trainers that still live."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if str(self.scratch / "tmp") in line and process.status() != psutil.STATUS_ZOMBIE:
                found.append(line)
        return found

    def nothing_is_left(self) -> bool:
        return not self.left() and not self.processes()

    @property
    def server_log(self) -> str:
        return (self.scratch / "server.log").read_text("utf-8", "replace")


@contextmanager
def serving(folder: Path, scratch: Path, **environment: str) -> Iterator[Served]:
    """Serves a model until the block ends."""
    with receiving() as receiver:
        coglet = Coglet.start(folder, scratch, webhook_token=TOKEN, environment={**os.environ, **environment})
        try:
            eventually(lambda: _health(coglet), lambda health: health == "READY", patience_s=60)
            yield Served(coglet, scratch, receiver)
        finally:
            coglet.kill()


def _health(coglet: Coglet) -> str:
    assert coglet.runs, "the server has ended"
    try:
        return httpx.get(f"{coglet.url}/health-check", trust_env=False).json()["status"]
    except httpx.TransportError:
        return ""


def _sent(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, bytes):
        return "data:application/zip;base64," + base64.b64encode(value).decode()
    return value
