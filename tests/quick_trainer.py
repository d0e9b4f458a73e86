"""A trainer that trains nothing: the real protocol in a second, for tests of the lab around it.

`config["tracker_run_name"]` says how it goes: `quick`, `wait` (until told to end), `crash`, `die-once` (attempt 1 is
killed at step 5, the next goes on from there), `torn` (a result that does not match its manifest), `steady` (a step
each tenth of a second up to `max_train_steps`, a picture each 20 steps), `checkpoint` (one at step 5, then until the file
`go-on` is in the work folder's home), `flood` (100,000 steps at once, then 50 each tenth
of a second). It delivers to a folder, by boto3 to an S3 endpoint, or by huggingface_hub to a repository, as its spec says.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
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
    if how == "steady":
        return steady(spec, work, say)
    if how == "flood":
        return flood(say)
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
        if step == 5 and how == "checkpoint":
            checkpoint(spec, say)
    say("result", key="manifest.json", files=1, bytes=4, sha256=deliver(spec, torn=how == "torn"))
    say("end", exit=0, step=STEPS)
    return 0


def checkpoint(spec: dict, say: Callable[..., None]) -> None:
    """One whole checkpoint, said to be delivered; then it waits for a file, as a long training would take its time."""
    key = "checkpoints/step-00000005/"
    digest = deliver(spec, torn=False, prefix=key, kind="checkpoint")
    say("checkpoint", step=5, key=key, bytes=4, sha256=digest, delivered=True)
    while not Path(spec["config"]["validation_prompt"]).exists():
        time.sleep(0.05)


def wait_to_be_told() -> int:
    """Until SIGTERM or the end of the lifeline; then as a trainer with a checkpoint ends."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
    sys.stdin.buffer.read()
    return 75


def steady(spec: dict, work: Path, say: Callable[..., None]) -> int:
    """Goes on where an earlier attempt stood, as a trainer with a checkpoint at every step would."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
    total = spec["config"]["max_train_steps"]
    reached = work / "reached"
    first = int(reached.read_text()) + 1 if reached.exists() else 1
    if spec["attempt"] > 1:
        say("resume", step=first - 1)
    put = delivery(spec)
    for step in range(first, total + 1):
        time.sleep(0.1)  # the pace is what this one is for
        print(f"step {step} of {total} at {time.time() * 1000:.0f}", flush=True)
        say("steps", step=[step], loss=[1.0 / step + 0.05 * (step % 3)], lr=[0.001 * (1 - step / total)], grad_norm=[0.5],
            total=total, epoch=1.0, step_s=0.1, images_per_s=10.0, eta_s=0.1 * (total - step))  # fmt: skip
        reached.write_text(str(step))
        if step % 20 == 0 or step == total:
            name, data = f"samples/step-{step:08d}-0.png", picture(step)
            put(name, data)
            prompt = spec["config"].get("validation_prompt") or "a picture"
            say("image", step=step, index=0, prompt=prompt, key=name,
                sha256=hashlib.sha256(data).hexdigest())  # fmt: skip
    say("result", key="manifest.json", files=1, bytes=4, sha256=deliver(spec, torn=False))
    say("end", exit=0, step=total)
    return 0


def flood(say: Callable[..., None]) -> int:
    """A long curve, for benchmarks; ends when it is told to."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
    first, size = 1, 1000
    while True:
        steps = range(first, first + size)
        say("steps", step=list(steps), loss=[1 / step + 0.05 * (step * 7919 % 101) / 101 for step in steps],
            lr=[1e-3] * size, grad_norm=[0.5] * size, total=10_000_000, epoch=1.0, step_s=0.01, images_per_s=10.0, eta_s=1.0)  # fmt: skip
        first += size
        if first > 100_000:
            size = 50
            time.sleep(0.1)


def picture(step: int, side: int = 64) -> bytes:
    """A PNG of one colour, by hand: this file runs in any interpreter."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + bytes((step * 5 % 256, 90, 160)) * side
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row * side)) + chunk(b"IEND", b"")


def deliver(spec: dict, *, torn: bool, prefix: str = "", kind: str = "result") -> str:
    """A model of four bytes, then its manifest, whose SHA-256 it returns."""
    model = b"lora"
    entry = {"path": "pytorch_lora_weights.safetensors", "bytes": 4, "sha256": hashlib.sha256(model).hexdigest()}
    manifest = {
        "format": "simpletuner-manifest/1", "kind": kind, "step": STEPS, "plan_digest": "", "files": [entry]
    }  # fmt: skip
    text = json.dumps(manifest).encode()
    put = delivery(spec)
    put(prefix + entry["path"], b"torn" if torn else model)
    put(prefix + "manifest.json", text)
    return hashlib.sha256(text).hexdigest()


def delivery(spec: dict) -> Callable[[str, bytes], None]:
    """Puts one object to the spec's destination."""
    destination = spec["destination"]
    if destination["kind"] == "folder":

        def write(name: str, data: bytes) -> None:
            path = Path(destination["path"], name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        return write
    if destination["kind"] == "hub":
        from huggingface_hub import HfApi

        api = HfApi(endpoint=os.environ["HF_ENDPOINT"], token=os.environ[destination["token_env"]])
        api.create_repo(destination["repo_id"], private=destination["private"], exist_ok=True)
        return lambda name, data: api.upload_file(
            repo_id=destination["repo_id"], path_or_fileobj=data, path_in_repo=name
        )
    import boto3  # only where it is needed: it takes half a second
    from botocore.exceptions import EndpointConnectionError

    s3 = boto3.client(
        "s3", endpoint_url=destination["endpoint_url"], region_name=destination["region"],
        aws_access_key_id=os.environ[destination["access_key_env"]],
        aws_secret_access_key=os.environ[destination["secret_key_env"]],
    )  # fmt: skip

    def upload(name: str, data: bytes) -> None:
        """Tried again while nobody answers, as the real one does: `signal.alarm` ends it."""
        while True:
            try:
                s3.put_object(Bucket=destination["bucket"], Key=destination["prefix"] + name, Body=data)
            except EndpointConnectionError:
                continue  # boto3 has waited between its own tries
            return

    return upload


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
