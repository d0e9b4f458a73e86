"""Delivery: to a folder, and by boto3 to a real S3 server on a socket that can be slow, gone, or of another mind."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from simpletuner_lab.testing.storage_server import StorageServer, storage_server
from simpletuner_trainer import publish, report
from simpletuner_trainer.errors import Stopped, Undelivered
from simpletuner_trainer.files import Manifest
from simpletuner_trainer.publish import Parcel, Publisher
from simpletuner_trainer.report import Exit
from simpletuner_trainer.reporter import Reporter
from simpletuner_trainer.spec import MANIFEST_NAME, S3Destination
from simpletuner_trainer.stop import Stop
from simpletuner_trainer.stores import Moved, Receipt, Shipment, Unreachable, open_store
from tests.trainer.trainer_kit import NONCE, Job, of_kind, sha256, tree

Jobs = Callable[..., Job]
WEIGHTS = "pytorch_lora_weights.safetensors"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StorageServer]:
    with storage_server(tmp_path / "server", base_url="/user/ann/") as running:
        yield running


def destination(server: StorageServer, monkeypatch: pytest.MonkeyPatch, job_id: str = "j-1") -> dict[str, Any]:
    """The spec's member, with the job's own credentials in the environment."""
    credentials = server.issue(job_id)
    monkeypatch.setenv("SIMPLETUNER_S3_ACCESS_KEY", credentials.access_key)
    monkeypatch.setenv("SIMPLETUNER_S3_SECRET_KEY", credentials.secret_key.reveal())
    return {"kind": "s3", "endpoint_url": server.endpoint_url, "bucket": "outputs", "prefix": f"{job_id}/"}


def download(server: StorageServer, folder: Path) -> Path:
    """Everything under the job's prefix, by the owner's credentials."""
    client = boto3.client(
        "s3", endpoint_url=server.endpoint_url, region_name="us-east-1", aws_access_key_id=server.owner.access_key,
        aws_secret_access_key=server.owner.secret_key.reveal(),
    )  # fmt: skip
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="outputs", Prefix="j-1/"):
        for entry in page.get("Contents", ()):
            path = folder / entry["Key"].removeprefix("j-1/")
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file("outputs", entry["Key"], str(path))
    return folder


def test_results_and_checkpoints_arrive_whole(
    job: Jobs,
    server: StorageServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = job(config={"validation_prompt": "circle 1", "validation_num_inference_steps": 2, "validation_step_interval": 0},
               more={"destination": destination(server, monkeypatch)})  # fmt: skip
    assert made.run() == Exit.DONE
    said = capsys.readouterr().out
    arrived = download(server, tmp_path / "arrived")
    manifest = Manifest.verified(arrived)
    assert {entry.path for entry in manifest.files} >= {WEIGHTS, "metrics.jsonl", "samples/step-00000006-0.png"}
    assert Manifest.verified(arrived / "checkpoints" / "step-00000004").kind == "checkpoint"
    order = [key for _, key, _ in server.stored]
    assert order[-1] == f"j-1/{MANIFEST_NAME}"
    assert len(order) == len(set(order)), "nothing is sent twice"
    assert of_kind(said, report.Result)[0].sha256 == sha256(arrived / MANIFEST_NAME)
    secret = server.issue("j-1").secret_key.reveal()
    assert secret not in said


def test_a_run_goes_on_elsewhere_from_the_checkpoint_at_the_destination(
    job: Jobs, server: StorageServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = job("whole")
    assert whole.run() == Exit.DONE
    sent = destination(server, monkeypatch)
    first = job("first", config={"checkpoint_step_interval": 4}, more={"destination": sent})
    assert first.run() == Exit.DONE
    capsys.readouterr()
    shutil.rmtree(first.work)  # the machine is gone
    first.more["attempt"] = 2
    assert first.run() == Exit.DONE
    assert of_kind(capsys.readouterr().out, report.Resume) == [report.Resume(step=4)]
    assert sha256(first.output / WEIGHTS) == sha256(whole.output / WEIGHTS)
    assert sha256(first.output / "metrics.jsonl") == sha256(whole.output / "metrics.jsonl")

    shutil.rmtree(first.work)
    first.more["attempt"] = 1
    first.config["resume_from_checkpoint"] = "none"
    assert first.run() == Exit.DONE
    assert not of_kind(capsys.readouterr().out, report.Resume)


def test_large_files_go_in_parts_and_are_not_sent_again(
    server: StorageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = destination(server, monkeypatch)
    store = open_store(S3Destination(**sent))
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(256)) * (20 << 12))  # 20 MiB
    moves: list[None] = []
    shipment = Shipment(folder=tmp_path, names=("large.bin",))
    assert store.ship(shipment, lambda: moves.append(None)) == Receipt(url="s3://outputs/j-1/")
    assert len(moves) == 4, "three parts, and the file"
    store.ship(shipment, lambda: None)
    assert server.stored == [("outputs", "j-1/large.bin", 20 << 20)], "nothing is sent twice"
    assert store.names("") == ["large.bin"]
    store.get("large.bin", tmp_path / "back.bin")
    assert sha256(tmp_path / "back.bin") == sha256(path)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    store.ship(shipment, lambda: None)
    assert len(server.stored) == 2, "another content of the same size is sent"


def test_wrong_credentials_are_told_before_any_work(
    job: Jobs, server: StorageServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = destination(server, monkeypatch)
    monkeypatch.setenv("SIMPLETUNER_S3_SECRET_KEY", "wrong" * 8)
    made = job(more={"destination": sent})
    assert made.run() == Exit.BAD_SPEC
    said = capsys.readouterr().out
    (failure,) = of_kind(said, report.Failure)
    assert failure.code == "destination_refused"
    assert "credentials" in failure.hint
    assert "wrongwrong" not in said
    assert not (made.work / "cache").exists()


def test_credentials_that_are_revoked_stop_the_run_with_a_checkpoint(
    job: Jobs, server: StorageServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = job(config={"max_train_steps": 100_000, "checkpoint_step_interval": 10},
               more={"destination": destination(server, monkeypatch)})  # fmt: skip
    assert made.run_until(5, lambda: server.grants.revoke_job("j-1")) == Exit.UNDELIVERED
    (failure,) = of_kind(capsys.readouterr().out, report.Failure)
    assert failure.code == "destination_refused"
    assert list((made.work / "checkpoints").iterdir())


def test_without_credentials_nothing_is_started(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(more={"destination": {"kind": "s3", "bucket": "outputs", "access_key_env": "NOT_SET_ANYWHERE"}})
    assert made.run() == Exit.BAD_SPEC
    assert "NOT_SET_ANYWHERE" in of_kind(capsys.readouterr().out, report.Failure)[0].message


class GoneStore:
    """A store that cannot be reached for a number of calls."""

    def __init__(self, failures: int) -> None:
        self.failures, self.arrived = failures, list[str]()

    def require(self) -> None:
        return None

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.arrived if name.startswith(prefix)]

    def ship(self, shipment: Shipment, moved: Moved) -> Receipt:
        self.failures -= 1
        if self.failures >= 0:
            raise Unreachable("connection refused")
        self.arrived += [shipment.prefix + name for name in shipment.names]
        return Receipt(url="gone://")

    def get(self, key: str, path: Path) -> None:
        raise Unreachable("connection refused")


@pytest.fixture
def say() -> Iterator[Reporter]:
    import io

    yield Reporter(NONCE, io.StringIO())


def quick(monkeypatch: pytest.MonkeyPatch, patience_s: float) -> None:
    monkeypatch.setattr(publish, "PATIENCE_S", patience_s)
    monkeypatch.setattr(publish, "_FIRST_PAUSE_S", 0.01)


def parcel(folder: Path) -> Parcel:
    folder.mkdir(exist_ok=True)
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    return Parcel(folder=folder, names=("a", "b"))


def test_a_destination_that_comes_back_gets_everything(
    tmp_path: Path, say: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch, 30)
    store = GoneStore(failures=3)
    with Publisher(store, say, Stop(started_s=0, deadline_s=None)) as publisher:
        publisher.send(parcel(tmp_path / "p"))
        publisher.finish()
    assert store.arrived == ["a", "b"]


def test_patience_with_a_destination_ends(tmp_path: Path, say: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, 0.1)
    monkeypatch.setattr(publish, "PARTING_S", 0.0)
    with pytest.raises(Undelivered), Publisher(GoneStore(10**9), say, Stop(started_s=0, deadline_s=None)) as publisher:
        publisher.send(parcel(tmp_path / "p"))
        publisher.finish()


def test_a_destination_that_says_when_to_come_again_is_waited_for(
    tmp_path: Path, say: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than patience without a word would last."""
    quick(monkeypatch, 0.2)

    class BusyStore(GoneStore):
        def ship(self, shipment: Shipment, moved: Moved) -> Receipt:
            if self.failures:
                self.failures -= 1
                raise Unreachable("429", retry_after_s=1.0)
            return super().ship(shipment, moved)

    store = BusyStore(failures=1)
    with Publisher(store, say, Stop(started_s=0, deadline_s=None)) as publisher:
        publisher.send(parcel(tmp_path / "p"))
        publisher.finish()
    assert store.arrived == ["a", "b"]


def test_waiting_for_delivery_can_be_stopped(tmp_path: Path, say: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, 600)
    monkeypatch.setattr(publish, "PARTING_S", 0.0)
    stop = Stop(started_s=0, deadline_s=None)
    threading.Timer(0.05, stop.interrupt).start()
    with pytest.raises(Stopped), Publisher(GoneStore(10**9), say, stop) as publisher:
        publisher.send(parcel(tmp_path / "p"))
        publisher.finish()


def test_an_undelivered_run_is_only_delivered_the_next_time(
    job: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick(monkeypatch, 0.3)
    monkeypatch.setattr(publish, "PARTING_S", 0.1)
    made = job(more={"destination": {"kind": "folder", "path": "delivered"}})
    delivered = made.folder / "delivered"
    # A file where the folder should be: it cannot be written, however often one tries.
    assert made.run_until(1, lambda: block(delivered)) == Exit.UNDELIVERED
    assert of_kind(capsys.readouterr().out, report.Failure)[0].code == "undelivered"
    delivered.unlink()
    assert made.run() == Exit.DONE
    assert not of_kind(capsys.readouterr().out, report.Steps)
    assert Manifest.verified(delivered).kind == "result"


def block(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("in the way", "utf-8")


def test_only_the_newest_checkpoints_wait_for_a_slow_destination(tmp_path: Path, say: Reporter) -> None:
    held = threading.Event()

    class SlowStore(GoneStore):
        def ship(self, shipment: Shipment, moved: Moved) -> Receipt:
            held.wait(30)
            return super().ship(shipment, moved)

    store = SlowStore(failures=0)
    with Publisher(store, say, Stop(started_s=0, deadline_s=None)) as publisher:
        for number in range(6):
            folder = tmp_path / f"step-{number}"
            folder.mkdir()
            (folder / "x").write_text("x")
            publisher.send(Parcel(folder=folder, names=("x",), prefix=f"{number}/", replaceable=True))
        held.set()
        publisher.finish()
    assert store.arrived == ["0/x", "4/x", "5/x"]


def test_what_the_result_replaces_is_tree_shaped(job: Jobs) -> None:
    """A full fine-tune has folders; they arrive as they are."""
    made = job(config={"model_type": "full", "max_train_steps": 1, "learning_rate": 1e-5},
               more={"destination": {"kind": "folder", "path": "delivered"}})  # fmt: skip
    assert made.run() == Exit.DONE
    delivered = made.folder / "delivered"
    assert "unet/diffusion_pytorch_model.safetensors" in set(tree(delivered))
    assert Manifest.verified(delivered).step == 1
