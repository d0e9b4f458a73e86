"""A trainer that trains nothing: the real protocol in a second, for tests of the lab around it.

`config["tracker_run_name"]` says how it goes: `quick`, `wait` (until told to end), `crash`, `die-once` (attempt 1 is
killed at step 5, the next goes on from there), `torn` (a result that does not match its manifest). It delivers to a
folder or, by boto3, to an S3 endpoint, as its spec says.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path

STEPS = 12


def main(spec_path: str) -> int:
    """One attempt; the return value is the exit code."""
    signal.alarm(90)  # whatever goes wrong in a test, nothing stays
    spec = json.loads(Path(spec_path).read_bytes())
    work = Path(spec["work_dir"])
    lock = os.open(work / "trainer.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    how = spec["config"]["tracker_run_name"]

    def say(kind: str, **members: object) -> None:
        print(f"::st {spec['nonce']} " + json.dumps({"kind": kind, **members}), flush=True)

    with zipfile.ZipFile(spec["data"]["archive"]) as packed:
        names = packed.namelist()
    assert hashlib.sha256(Path(spec["data"]["archive"]).read_bytes()).hexdigest() == spec["data"]["sha256"]
    print(f"unpacked {len(names)} files")
    say("stage", stage="train", label="training")
    first = 1
    if spec["attempt"] > 1:
        first = 6
        say("resume", step=5)
    for step in range(first, STEPS + 1):
        say("steps", step=[step], loss=[1.0 / step], lr=[0.001], grad_norm=[0.5], total=STEPS, epoch=1.0, step_s=0.01,
            images_per_s=100.0, eta_s=0.1)  # fmt: skip
        if step == 5 and how == "die-once" and spec["attempt"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 5 and how == "crash":
            say("error", code="nan_loss", message="the loss is not a number at step 5", hint="lower the learning rate")
            raise ValueError("nan")
        if step == 5 and how == "wait":
            print("waiting", flush=True)
            return wait_to_be_told()
    deliver(spec, work, torn=how == "torn")
    say("result", key="manifest.json", files=1, bytes=4, sha256="0" * 64)
    say("end", exit=0, step=STEPS)
    return 0


def wait_to_be_told() -> int:
    """Until SIGTERM or the end of the lifeline; then as a trainer with a checkpoint ends."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
    sys.stdin.buffer.read()
    return 75


def deliver(spec: dict, work: Path, *, torn: bool) -> None:
    """A model of four bytes, then its manifest."""
    model = b"lora"
    entry = {"path": "pytorch_lora_weights.safetensors", "bytes": 4, "sha256": hashlib.sha256(model).hexdigest()}
    manifest = {"format": "simpletuner-manifest/1", "kind": "result", "step": STEPS, "files": [entry]}
    objects = {entry["path"]: b"torn" if torn else model, "manifest.json": json.dumps(manifest).encode()}
    destination = spec["destination"]
    if destination["kind"] == "folder":
        for name, data in objects.items():
            Path(destination["path"], name).write_bytes(data)
        return
    import boto3  # only where it is needed: it takes half a second

    s3 = boto3.client(
        "s3", endpoint_url=destination["endpoint_url"], region_name=destination["region"],
        aws_access_key_id=os.environ[destination["access_key_env"]],
        aws_secret_access_key=os.environ[destination["secret_key_env"]],
    )  # fmt: skip
    for name, data in objects.items():
        s3.put_object(Bucket=destination["bucket"], Key=destination["prefix"] + name, Body=data)


def installed_as_python(folder: Path) -> Path:
    """An interpreter in which `python -m simpletuner_trainer` is this file."""
    import simpletuner_trainer

    package = folder / "quick" / "simpletuner_trainer"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(f'__version__ = "{simpletuner_trainer.__version__}"\n')
    shutil.copyfile(__file__, package / "__main__.py")
    python = folder / "quick" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{package.parent}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
