"""kill -9 before any step on the disk: afterwards every object is whole and right, and what was answered is there.

The server kills itself at a step that the seed chooses: before a file is opened, locked, renamed or removed, before a
record is attached, before a folder is made. That is every moment between which the disk's state can differ.
"""

from __future__ import annotations

import hashlib
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError

from simpletuner_lab.server.storage.objects import ObjectStore
from simpletuner_lab.server.storage.parts import MIN_PART_BYTES
from tests.server.storage.elsewhere import Elsewhere, elsewhere
from tests.server.storage.kit import BUCKET, client

QUICK_SEEDS = range(6)
MANY_SEEDS = range(100, 150)
STEPS = 700
"""A life of this many steps ends somewhere in the work below."""


@dataclass
class Truth:
    """What was answered, and what the one request without an answer may have done."""

    objects: dict[str, bytes | None] = field(default_factory=dict)
    doubt: dict[str, set[bytes | None]] = field(default_factory=dict)
    upload: str = ""
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)

    def may_be(self, key: str) -> set[bytes | None]:
        return {self.objects.get(key)} | self.doubt.get(key, set())


class Work:
    """Puts, copies, deletes and an upload in an order of the seed's own."""

    def __init__(self, server: Elsewhere, seed: int) -> None:
        self.s3 = client(server)
        self.random = random.Random(seed)
        self.truth = Truth()

    def run(self) -> None:
        """Ends where the server does."""
        steps = [self.put] * 6 + [self.copy] * 3 + [self.delete] * 3 + [self.delete_many, self.large]
        self.random.shuffle(steps)
        steps.insert(self.random.randrange(len(steps)), self.large)
        for step in steps:
            step()

    def key(self) -> str:
        return self.random.choice(["a", "b/c", "b/d/e", "f/", "g"])

    def ask(self, changes: dict[str, bytes | None], call, **more):
        """Asks for a change: in doubt until it is answered."""
        self.truth.doubt = {key: {value} for key, value in changes.items()}
        answer = call(Bucket=BUCKET, **more)
        self.truth.objects |= changes
        self.truth.doubt = {}
        return answer

    def put(self) -> None:
        key, data = self.key(), self.random.randbytes(self.random.choice([0, 10, 70_000]))
        self.ask({key: data}, self.s3.put_object, Key=key, Body=data, Metadata={"md5": md5(data)})

    def copy(self) -> None:
        there = [key for key, data in self.truth.objects.items() if data is not None and key != "large"]
        if there:
            source, key = self.random.choice(sorted(there)), self.key()
            data = self.truth.objects[source]
            more = {"MetadataDirective": "REPLACE", "Metadata": {"md5": md5(data)}}
            self.ask({key: data}, self.s3.copy_object, Key=key, CopySource={"Bucket": BUCKET, "Key": source}, **more)

    def delete(self) -> None:
        key = self.key()
        self.ask({key: None}, self.s3.delete_object, Key=key)

    def delete_many(self) -> None:
        keys = ["a", "g", "b/c"]
        self.ask(dict.fromkeys(keys), self.s3.delete_objects, Delete={"Objects": [{"Key": key} for key in keys]})

    def large(self) -> None:
        """An upload of two parts of one size and a rest, out of order, one of them sent again."""
        truth = self.truth
        truth.parts = {}
        begun = self.s3.create_multipart_upload(Bucket=BUCKET, Key="large", Metadata={"md5": "parts"})
        truth.upload = begun["UploadId"]
        for number in (2, 3, 1, 2):
            data = self.random.randbytes(MIN_PART_BYTES if number < 3 else 1000)
            answer = self.s3.upload_part(
                Bucket=BUCKET, Key="large", UploadId=truth.upload, PartNumber=number, Body=data
            )
            truth.parts[number] = (answer["ETag"], data)
        self.complete()

    def complete(self) -> None:
        truth = self.truth
        numbers = sorted(truth.parts)
        chosen = {"Parts": [{"PartNumber": n, "ETag": truth.parts[n][0]} for n in numbers]}
        whole = b"".join(truth.parts[n][1] for n in numbers)
        more = {"UploadId": truth.upload, "MultipartUpload": chosen}
        self.ask({"large": whole}, self.s3.complete_multipart_upload, Key="large", **more)
        truth.upload = ""


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def live_and_die(root: Path, seed: int) -> None:
    server = Elsewhere(root, dies_at=random.Random(seed).randrange(1, STEPS))
    work = Work(server, seed)
    try:
        work.run()
    except BotoCoreError:
        server.process.wait(30)
    server.end(kill=True)
    with elsewhere(root) as after:
        work.s3 = client(after)
        check_objects(work)
        go_on(work)
        check_objects(work)
    check_the_disk(root)


def check_objects(work: Work) -> None:
    s3, truth = work.s3, work.truth
    keys = {entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])}
    for key in sorted(keys | truth.objects.keys() | truth.doubt.keys()):
        if key not in keys:
            assert None in truth.may_be(key), key
            truth.objects[key] = None
            continue
        got = s3.get_object(Bucket=BUCKET, Key=key)
        data = got["Body"].read()
        assert data in truth.may_be(key), key
        etag = got["ETag"].strip('"')
        assert got["Metadata"] == {"md5": "parts" if key == "large" else md5(data)}
        assert etag.endswith("-3") if key == "large" else etag == md5(data)
        truth.objects[key] = data
    truth.doubt = {}


def go_on(work: Work) -> None:
    """An upload that was begun is ended: with the parts that were acknowledged, or it already is its object."""
    s3, truth = work.s3, work.truth
    here = {"Bucket": BUCKET, "Key": "large", "UploadId": truth.upload}
    begun = {one["UploadId"] for one in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])}
    if truth.upload in begun:
        listed = {part["PartNumber"]: part["ETag"] for part in s3.list_parts(**here).get("Parts", [])}
        # the part that was under way may be there as well, or may have replaced its earlier sending
        assert truth.parts.keys() <= listed.keys()
        assert sum(listed[number] != etag for number, (etag, _) in truth.parts.items()) <= 1
        for number in (1, 2, 3):
            if number not in truth.parts or listed[number] != truth.parts[number][0]:
                data = work.random.randbytes(MIN_PART_BYTES if number < 3 else 1000)
                truth.parts[number] = (s3.upload_part(**here, PartNumber=number, Body=data)["ETag"], data)
        work.complete()
    elif truth.upload and len(truth.parts) == 3:
        work.complete()  # its first answer was lost
    for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])


def check_the_disk(root: Path) -> None:
    """Nothing is left of what did not come to be."""
    ObjectStore(root / "objects").sweep(time.time() + 120)
    own = root / "objects/.stlab"
    assert [path for path in own.rglob("*") if path.is_file()] == []
    assert list((own / "uploads").iterdir() if (own / "uploads").exists() else []) == []


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_killed_at_a_step(tmp_path, seed):
    live_and_die(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY_SEEDS)
def test_killed_at_many_steps(tmp_path, seed):
    live_and_die(tmp_path, seed)
