"""Stores against real servers that are killed, refuse, lose answers: nothing is sent twice, and errors say what to do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3
import pytest

from simpletuner_lab.server.storage import calls, exchange
from simpletuner_lab.server.storage.body import Promise
from simpletuner_lab.testing.hub_emulator import Fault, HubEmulator
from simpletuner_lab.testing.storage_server import StorageServer, storage_server
from simpletuner_trainer import spec
from simpletuner_trainer.errors import BadSpec, Refused
from simpletuner_trainer.stores import Receipt, Shipment, Store, Unreachable, open_store
from tests.hub_kit import READ_TOKEN, TOKEN, StorageProcess, hub_of_ann

LARGE = bytes(range(256)) * (10 << 12)  # 10 MiB
CARD = b"---\nlibrary_name: diffusers\n---\n# neon\n"


@pytest.fixture
def hub() -> Iterator[HubEmulator]:
    with hub_of_ann(part_bytes=4 << 20) as running:
        yield running


def at_hub(hub: HubEmulator, token: str = TOKEN, repo_id: str = "ann/neon", *, private: bool = True) -> Store:
    destination = spec.HubDestination(repo_id=repo_id, private=private)
    return open_store(destination, environment={"HF_TOKEN": token, "HF_ENDPOINT": hub.url})


@pytest.fixture
def shipment(tmp_path: Path) -> Shipment:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_bytes(CARD)
    (folder / "weights.safetensors").write_bytes(LARGE)
    (folder / "manifest.json").write_bytes(b"{}")
    names = ("README.md", "weights.safetensors", "manifest.json")
    return Shipment(folder=folder, names=names, title="The trained model, step 6")


def still() -> None:
    """Nothing is told of progress."""


# ------------------------------------------------------------ S3


def at_s3(server: StorageProcess, notes: Path | None) -> Store:
    destination = spec.S3Destination(endpoint_url=server.url, bucket="outputs", prefix="j-1/", access_key_env="A",
                                     secret_key_env="S")  # fmt: skip
    return open_store(destination, notes=notes, environment={"A": server.access_key, "S": server.secret_key})


def test_an_upload_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    """The server is killed between two parts; the next try finds the parts that are there, and sends the rest alone."""
    server = StorageProcess(tmp_path / "server")
    server.start()
    try:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "large.bin").write_bytes(LARGE * 4)  # five parts
        shipment, notes = Shipment(folder=folder, names=("large.bin",)), tmp_path / "notes"
        moves: list[str] = []

        def part_then_kill() -> None:
            moves.append("before")
            if len(moves) == 2:
                server.kill()

        with pytest.raises(Unreachable):
            at_s3(server, notes).ship(shipment, part_then_kill)
        assert moves == ["before"] * 2
        server.start()
        store = at_s3(server, notes)  # another process would do the same
        assert store.ship(shipment, lambda: moves.append("after")) == Receipt(url="s3://outputs/j-1/")
        assert moves[2:] == ["after"] * 4, "three parts and the file: the first two were there"
        assert list(notes.iterdir()) == []
        store.get("large.bin", tmp_path / "back.bin")
        assert (tmp_path / "back.bin").read_bytes() == LARGE * 4
    finally:
        server.kill()


def test_an_upload_of_another_content_is_not_gone_on_with(tmp_path: Path) -> None:
    server = StorageProcess(tmp_path / "server")
    server.start()
    try:
        folder, notes = tmp_path / "model", tmp_path / "notes"
        folder.mkdir()
        (folder / "large.bin").write_bytes(LARGE * 4)
        shipment = Shipment(folder=folder, names=("large.bin",))

        def interrupted() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            at_s3(server, notes).ship(shipment, interrupted)
        assert len(list(notes.iterdir())) == 1
        (folder / "large.bin").write_bytes(LARGE * 3 + LARGE[::-1])  # the first part is the same
        store = at_s3(server, notes)
        store.ship(shipment, still)
        store.get("large.bin", tmp_path / "back.bin")
        assert (tmp_path / "back.bin").read_bytes() == LARGE * 3 + LARGE[::-1]
    finally:
        server.kill()


def within(server: StorageServer) -> Store:
    """A store at a server of this process, which a test may look into and change."""
    destination = spec.S3Destination(endpoint_url=server.endpoint_url, bucket="outputs", prefix="j-1/",
                                     access_key_env="A", secret_key_env="S")  # fmt: skip
    keys = {"A": server.owner.access_key, "S": server.owner.secret_key.reveal()}
    return open_store(destination, environment=keys)


def small_and_large(place: Path) -> Shipment:
    """A file that goes whole, and one that goes in two parts."""
    folder = place / "model"
    folder.mkdir()
    (folder / "small").write_bytes(b"small")
    (folder / "large").write_bytes(LARGE)
    return Shipment(folder=folder, names=("small", "large"))


def test_the_server_checks_what_arrives(tmp_path: Path) -> None:
    """A SHA-256 travels with each object and part, and the endpoint keeps it."""
    with storage_server(tmp_path / "server") as server:
        owner = server.owner
        within(server).ship(small_and_large(tmp_path), still)
        client = boto3.client("s3", endpoint_url=server.endpoint_url, region_name="us-east-1",
                              aws_access_key_id=owner.access_key,
                              aws_secret_access_key=owner.secret_key.reveal())  # fmt: skip
        heads = [
            client.head_object(Bucket="outputs", Key=f"j-1/{name}", ChecksumMode="ENABLED")
            for name in ("small", "large")
        ]
        assert all(head["ChecksumSHA256"] for head in heads)
        assert heads[1]["ChecksumSHA256"].endswith("-2")
        assert heads[0]["Metadata"]["sha256"] == hashlib.sha256(b"small").hexdigest()


def test_a_server_that_knows_no_checksums_gets_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An S3 of before 2022: it answers NotImplemented to x-amz-checksum-, and checks Content-MD5."""
    understood = frozenset(name for name in calls.HEADERS if "checksum" not in name)
    monkeypatch.setattr(calls, "HEADERS", understood)
    monkeypatch.setattr(calls, "_FAMILIES", ("x-amz-meta-",))
    came: list[bytes | None] = []
    read_promise = exchange.read_promise

    def noted(headers: Mapping[str, str], payload: str, max_bytes: int) -> Promise:
        promise = read_promise(headers, payload, max_bytes)
        if promise.size:
            came.append(promise.md5)
        return promise

    monkeypatch.setattr(exchange, "read_promise", noted)
    with storage_server(tmp_path / "server") as server:
        store = within(server)
        store.ship(small_and_large(tmp_path), still)
        store.get("large", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == LARGE
    sums = [hashlib.md5(piece).digest() for piece in (b"small", LARGE[: 8 << 20], LARGE[8 << 20 :])]
    assert [one for one in came if one in sums] == sums, "each body once, with its MD5"


def test_a_file_that_changes_while_it_is_sent_does_not_arrive(tmp_path: Path) -> None:
    """What was hashed at first is not what went out: nothing is completed, and another try sends it right."""
    with storage_server(tmp_path / "server") as server:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "large").write_bytes(LARGE * 3)
        shipment, changes = Shipment(folder=folder, names=("large",)), []

        def changed() -> None:
            if not changes:
                changes.append("once")
                with (folder / "large").open("r+b") as file:
                    file.seek(-7, 2)
                    file.write(b"another")

        with pytest.raises(Refused, match="large has changed"):
            within(server).ship(shipment, changed)
        assert within(server).names("") == []
        assert server.objects.uploads.all() == []
        store = within(server)
        store.ship(shipment, still)
        store.get("large", tmp_path / "back.bin")
        assert (tmp_path / "back.bin").read_bytes() == (folder / "large").read_bytes()


def test_a_file_that_is_not_the_one_of_the_manifest_is_not_sent(tmp_path: Path, hub: HubEmulator) -> None:
    with storage_server(tmp_path / "server") as server:
        sent = small_and_large(tmp_path)
        promised = {"small": hashlib.sha256(b"another").hexdigest()}
        shipment = Shipment(folder=sent.folder, names=sent.names, digests=promised)
        for store in (within(server), at_hub(hub)):
            with pytest.raises(Refused, match="small has changed"):
                store.ship(shipment, still)
            assert "small" not in store.names("")


def test_what_stays_as_it_is_is_not_tried_again(tmp_path: Path) -> None:
    with storage_server(tmp_path / "server") as server:
        keys = server.issue("j-1", quota_bytes=1000)
        destination = spec.S3Destination(endpoint_url=server.endpoint_url, bucket="outputs", prefix="j-1/",
                                         access_key_env="A", secret_key_env="S")  # fmt: skip
        limited = open_store(destination, environment={"A": keys.access_key, "S": keys.secret_key.reveal()})
        shipment = small_and_large(tmp_path)
        with pytest.raises(Refused) as full:
            limited.ship(shipment, still)
        assert "no room left there" in full.value.hint
        (server.objects._root / "outputs" / "j-1" / "small").unlink()
        (server.objects._root / "outputs" / "j-1").rmdir()
        (server.objects._root / "outputs" / "j-1").write_bytes(b"in the way")
        with pytest.raises(Refused) as taken:
            within(server).ship(shipment, still)
        assert "an object stands where the folder must go" in taken.value.hint


def test_missing_credentials_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match="A and S not set"):
        open_store(spec.S3Destination(bucket="outputs", access_key_env="A", secret_key_env="S"), environment={})
    with pytest.raises(BadSpec, match="HF_TOKEN not set"):
        open_store(spec.HubDestination(repo_id="ann/neon"), environment={})


# ------------------------------------------------------------ the Hub


def test_one_commit_for_a_shipment_and_none_for_what_is_there(
    hub: HubEmulator, shipment: Shipment, tmp_path: Path
) -> None:
    store = at_hub(hub)
    store.require()
    assert store.names("") == [".gitattributes"]
    moves: list[None] = []
    receipt = store.ship(shipment, lambda: moves.append(None))
    repository = hub.repositories["ann/neon"]
    assert receipt == Receipt(url=f"{hub.url}/ann/neon", revision=repository.head)
    assert (repository.private, repository.commits[-1].title) == (True, "The trained model, step 6")
    assert set(repository.commits[-1].changed) == set(shipment.names)
    assert moves
    assert at_hub(hub).ship(shipment, still) == receipt
    assert len(repository.commits) == 2, "an unchanged commit is skipped"
    (shipment.folder / "manifest.json").write_bytes(b"{ }")
    at_hub(hub).ship(shipment, still)
    assert repository.commits[-1].paths == ("manifest.json",)
    store.get("weights.safetensors", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == LARGE


def test_a_lost_answer_to_a_commit_makes_no_second_one(hub: HubEmulator, shipment: Shipment) -> None:
    hub.fail("commit", Fault(lost=True))
    with pytest.raises(Unreachable):
        at_hub(hub).ship(shipment, still)
    at_hub(hub).ship(shipment, still)
    assert [commit.title for commit in hub.repositories["ann/neon"].commits] == [
        "initial commit", "The trained model, step 6"
    ]  # fmt: skip


def test_large_files_that_were_sent_are_not_sent_again(hub: HubEmulator, shipment: Shipment) -> None:
    hub.fail("commit", Fault(status=503, times=99))
    with pytest.raises(Unreachable, match="503"):
        at_hub(hub).ship(shipment, still)
    hub.faults.clear()
    at_hub(hub).ship(shipment, still)
    assert hub.count("lfs_part") == 3


@pytest.mark.parametrize(
    ("token", "repo_id", "says"),
    [("hf_wrong", "ann/neon", "401"), (READ_TOKEN, "ann/neon", "read"), (TOKEN, "bob/taken", "403|404"),
     (TOKEN, "bob/new", "403")],
)  # fmt: skip
def test_who_may_not_is_refused_before_any_work(hub: HubEmulator, token: str, repo_id: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as told:
        at_hub(hub, token, repo_id).require()
    assert told.value.hint
    assert token not in str(told.value) + told.value.hint


def test_a_public_repository_does_not_get_a_private_model(hub: HubEmulator, shipment: Shipment) -> None:
    hub.holds.create("neon", None, hub.holds.accounts[TOKEN], private=False)
    with pytest.raises(Refused, match="public"):
        at_hub(hub).ship(shipment, still)
    assert len(hub.repositories["ann/neon"].commits) == 1
    at_hub(hub, private=False).ship(shipment, still)
    assert len(hub.repositories["ann/neon"].commits) == 2


def test_a_token_that_is_revoked_midway_is_refused(hub: HubEmulator, shipment: Shipment) -> None:
    held = hub.fail("lfs_complete", Fault(held=True))
    store = at_hub(hub)

    def revoke() -> None:
        held.reached.wait(30)
        hub.revoke(TOKEN)
        held.release()

    thread = threading.Thread(target=revoke)
    thread.start()
    with pytest.raises(Refused, match="401"):
        store.ship(shipment, still)
    thread.join()


def test_too_many_requests_say_when_to_come_again(hub: HubEmulator, shipment: Shipment) -> None:
    hub.fail("create", Fault(status=429, retry_after_s=77))
    with pytest.raises(Unreachable) as told:
        at_hub(hub).ship(shipment, still)
    assert told.value.retry_after_s == 77


def test_a_hub_that_is_away(hub: HubEmulator, shipment: Shipment) -> None:
    destination = spec.HubDestination(repo_id="ann/neon")
    store = open_store(destination, environment={"HF_TOKEN": TOKEN, "HF_ENDPOINT": "http://127.0.0.1:9"})
    with pytest.raises(Unreachable):
        store.ship(shipment, still)
