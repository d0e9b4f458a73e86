"""What tests of the courier share: labs over one home with planted tokens, destinations, and looks at both ends."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from pathlib import Path

import boto3

from simpletuner_lab.core.destination import DeliveryState, Destination, HubDestination, Push, S3Destination, Sender
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.storage_server import StorageServer
from tests.lab_kit import quick_home, request

HUB = HubDestination(repo_id="ann/neon")
MODEL = "pytorch_lora_weights.safetensors"


class Labs:
    """Opens labs over one home: their environment has what a test plants."""

    def __init__(self, folder: Path, stack: ExitStack, environment: dict[str, str]) -> None:
        self.home = quick_home(folder)
        self.environment = environment
        self._stack = stack

    def open(self, *, watching: bool = True) -> Lab:
        lab = self._stack.enter_context(Lab.open(self.home.root, Surroundings(environment=self.environment)))
        if watching:
            lab.watcher.start()
        return lab


def s3(away: StorageServer, sender: Sender = Sender.LAB, **more: bool) -> S3Destination:
    return S3Destination(bucket="outputs", prefix="loras/", endpoint_url=away.endpoint_url, sender=sender, **more)


def submit(lab: Lab, images: Path, destination: Destination | None, how: str = "quick", **more: object) -> Job:
    asked = dataclasses.replace(request(images, how, **more), destination=destination)
    return lab.submit(asked, approve=lab.plan(asked).digest)


def pushed(lab: Lab, job: Job, state: DeliveryState = DeliveryState.DELIVERED) -> Push:
    return eventually(lambda: lab.store.pushes.of_job(job.id)[-1], lambda seen: seen.state is state, patience_s=60)


def objects(away: StorageServer) -> dict[str, bytes]:
    client = boto3.client("s3", endpoint_url=away.endpoint_url, region_name="us-east-1",
                          aws_access_key_id=away.owner.access_key,
                          aws_secret_access_key=away.owner.secret_key.reveal())  # fmt: skip
    listed = client.list_objects_v2(Bucket="outputs").get("Contents", ())
    return {
        entry["Key"]: client.get_object(Bucket="outputs", Key=entry["Key"])["Body"].read() for entry in listed
    }  # fmt: skip


def events(lab: Lab, job: Job, kind: EventKind) -> list[dict]:
    return [dict(event.data) for event in lab.store.events.after(0, job_id=job.id) if event.kind is kind]


def assert_nowhere(secret: str, root: Path) -> None:
    """Not in the database, a log, a spec, a note, anywhere below the home."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name == "lab.db" for path in files)
    assert [str(path) for path in files if secret.encode() in path.read_bytes()] == []
