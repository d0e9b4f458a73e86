"""Acme, a pretended cloud: a folder for each job, a process in each folder. It trains nothing, and delivers a file.

job.json    what was asked for                      log.txt    what the process printed
images.zip  the data sets, until they are deleted   end.json   how it ended, written once
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from simpletuner_lab.core.provider import ProviderContext
from simpletuner_lab.providers.adapted import provider_of
from simpletuner_lab.providers.adapter import (
    TAG,
    CloudJobInfo,
    CloudJobNotFoundError,
    CloudJobRefusedError,
    CloudJobStatus,
    CloudTrainerService,
)

USD_PER_SECOND: Final = 0.001
MODEL: Final = "pytorch_lora_weights.safetensors"


class AcmeTrainer(CloudTrainerService):
    """The service, over a folder."""

    provider_name = "Acme"
    supports_cost_tracking = True
    supports_live_logs = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    async def validate_credentials(self) -> dict[str, Any]:
        """Acme lets everybody in."""
        return {"valid": True, "user_info": {"username": "you"}}

    async def list_jobs(self, limit: int = 50) -> list[CloudJobInfo]:
        """By the time at which they were made."""
        jobs = [self._info(path.parent) for path in self._folder.glob("*/job.json")]
        return sorted(jobs, key=lambda job: job.created_at or "", reverse=True)[:limit]

    async def run_job(
        self,
        config: Mapping[str, Any],
        dataloader: Sequence[Mapping[str, Any]],
        *,
        images: Path | None = None,
        job_tag: str = "",
        delivery: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> CloudJobInfo:
        """Makes a folder and starts a process in it, which holds its lock."""
        if config.get("behaviour") == "refuse":
            raise CloudJobRefusedError("Acme does not do this")
        folder = self._folder / f"acme-{_random()}"
        folder.mkdir(parents=True)
        if images is not None:
            (folder / "images.zip").write_bytes(images.read_bytes())
        os.mkfifo(folder / "control")
        asked = {
            "config": dict(config), "dataloader": list(dataloader), "tag": job_tag, "delivery": delivery, "created_at": _now()
        }  # fmt: skip
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, __file__, str(folder)], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, **(secrets or {})}, pass_fds=[lock], start_new_session=True,
            )  # fmt: skip
        os.close(lock)
        _write(folder / "job.json", asked)
        self._processes.append(process)
        return self._info(folder)

    async def cancel_job(self, job_id: str) -> bool:
        """Leaves a word for the process, and wakes it."""
        folder = self._job(job_id)
        (folder / "cancel").touch()
        with contextlib.suppress(OSError):  # nobody reads any more, or not yet
            os.close(os.open(folder / "control", os.O_WRONLY | os.O_NONBLOCK))
        return not (folder / "end.json").exists()

    async def get_job_logs(self, job_id: str) -> str:
        """All that was printed."""
        return (self._job(job_id) / "log.txt").read_text("utf-8", errors="replace")

    async def get_job_status(self, job_id: str) -> CloudJobInfo:
        """As the folder shows it."""
        return self._info(self._job(job_id))

    async def discard_data(self, job_id: str) -> bool:
        """Deletes the data sets; whether they are gone."""
        (self._job(job_id) / "images.zip").unlink(missing_ok=True)
        return True

    def _job(self, job_id: str) -> Path:
        folder = self._folder / job_id
        if not re.fullmatch(r"acme-[0-9a-f]+", job_id) or not (folder / "job.json").exists():
            raise CloudJobNotFoundError(f"Acme has no job {job_id}")
        return folder

    def _info(self, folder: Path) -> CloudJobInfo:
        asked, end = json.loads((folder / "job.json").read_text()), _ended(folder)
        return CloudJobInfo(
            job_id=folder.name,
            provider="acme",
            status=end["status"] if end else CloudJobStatus.RUNNING,
            created_at=asked["created_at"],
            started_at=asked["created_at"],
            completed_at=end.get("at"),
            cost_usd=end["seconds"] * USD_PER_SECOND if end else None,
            hardware_type="a process",
            error_message=end.get("error"),
            metadata={TAG: asked["tag"]},
        )


Acme = provider_of(AcmeTrainer, id="acme", label="Acme", make=lambda context: AcmeTrainer(_folder_of(context)))
"""What the entry point names."""


def _folder_of(context: ProviderContext) -> Path:
    return context.home / "acme"


def _random() -> str:
    return secrets.token_hex(6)


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _write(path: Path, value: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def _ended(folder: Path) -> dict[str, Any]:
    """How it ended; empty while its process holds the lock."""
    with (folder / "lock").open("rb") as lock:
        gone = True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            gone = False
    try:
        found: dict[str, Any] = json.loads((folder / "end.json").read_text())
    except FileNotFoundError:
        return {"status": "failed", "seconds": 0.0, "error": "its process was killed"} if gone else {}
    return found if gone else {}


# ------------------------------------------------------------ the process of a job


class Run:
    """One job, from its folder to its end. The first end that is written down counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def main(self) -> int:
        """Does what it was asked for; returns the exit code."""
        while not (self._folder / "job.json").exists():
            time.sleep(0.005)
        asked = json.loads((self._folder / "job.json").read_text())
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._train(asked)
        except Exception as error:  # noqa: BLE001 - whatever it was, the job has failed
            print(f"{type(error).__name__}: {error}", flush=True)
            return self._end("failed", f"{type(error).__name__}: {error}")
        return self._end("completed")

    def _train(self, asked: Mapping[str, Any]) -> None:
        packed = self._folder / "images.zip"
        if packed.exists():
            print(f"{len(zipfile.ZipFile(packed).namelist())} files came", flush=True)
        behaviour = asked["config"].get("behaviour", "succeed")
        print(f"{behaviour} it is", flush=True)
        if behaviour == "wait":
            threading.Event().wait()
        if behaviour == "fail":
            raise ValueError("the stand-in was told to fail")
        if behaviour == "chatter":
            print("\n".join(f"line {number}" for number in range(2000)))
            print("and that was all", end="")
        sys.stdout.flush()
        _deliver(asked.get("delivery") or {})

    def _listen(self) -> None:
        """Ends the process once it is told to."""
        while not (self._folder / "cancel").exists():
            with (self._folder / "control").open("rb") as control:
                control.read()
        self._end("cancelled")

    def _end(self, status: str, error: str | None = None) -> int:
        with self._lock:
            sys.stdout.flush()
            seconds = round(time.monotonic() - self._began, 3)
            _write(self._folder / "end.json", {"status": status, "seconds": seconds, "at": _now(), "error": error})
            os._exit(0 if status == "completed" else 1)


def _deliver(delivery: Mapping[str, Any]) -> None:
    """Where the lab said, with the keys that it gave."""
    if delivery.get("kind") == "folder":
        folder = Path(delivery["path"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL).write_bytes(b"lora")
    elif delivery.get("kind") == "s3":
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=delivery["endpoint_url"] or None,
            region_name=delivery["region"],
            aws_access_key_id=os.environ[delivery["access_key_env"]],
            aws_secret_access_key=os.environ[delivery["secret_key_env"]],
        )
        client.put_object(Bucket=delivery["bucket"], Key=delivery["prefix"] + MODEL, Body=b"lora")


if __name__ == "__main__":
    sys.exit(Run(Path(sys.argv[1])).main())
