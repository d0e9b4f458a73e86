"""Where models go, over REST and on the command line, with a real server that is killed while it pushes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab import cli
from simpletuner_lab.client import LabClient
from simpletuner_lab.core import errors
from simpletuner_lab.core.destination import HOME, DeliveryState, HubDestination, S3Destination, Sender
from simpletuner_lab.services.views import JobView
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.hub_emulator import Fault, HubEmulator
from tests.hub_kit import TOKEN, hub_of_ann
from tests.lab_kit import dataset, quick_home, request
from tests.server.server_kit import TOKEN as JUPYTER_TOKEN
from tests.server.server_kit import Server

HUB = HubDestination(repo_id="ann/neon")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubEmulator]:
    with hub_of_ann() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def server(tmp_path: Path, hub: HubEmulator) -> Iterator[Server]:
    running = Server(tmp_path, quick_home(tmp_path).root, "/user/ann/").start()
    yield running
    running.stop()


def completed(client: LabClient, folder: Path, **more: object) -> JobView:
    asked = dataclasses.replace(request(dataset(folder / "images")), **more)  # type: ignore[arg-type]
    job = client.submit(asked, approve=client.plan(asked).digest)
    return eventually(lambda: client.job(job.job_id), lambda seen: seen.is_terminal, patience_s=60)


def delivered(client: LabClient, job: JobView) -> None:
    eventually(
        lambda: client.detail(job.job_id).deliveries,
        lambda seen: bool(seen) and seen[-1].state is DeliveryState.DELIVERED,
        patience_s=60,
    )


def test_the_default_a_push_and_the_status(server: Server, hub: HubEmulator, tmp_path: Path) -> None:
    client = server.client()
    assert client.destination() == HOME
    status = client.publishing()
    assert (status.hf_configured, status.hf_token_valid, status.hf_username) == (True, True, "ann")
    assert (status.s3_configured, status.hub_model_id, status.push_to_hub, status.message) == (False, None, False, None)
    job = completed(client, tmp_path)
    assert client.detail(job.job_id).deliveries == ()
    sent = client.push(job.job_id, dataclasses.replace(HUB, sender=Sender.TRAINER))
    assert sent.destination == HUB, "what is home is sent by the lab"
    delivered(client, job)
    assert client.detail(job.job_id).deliveries[-1].url == f"{hub.url}/ann/neon"
    client.set_destination(HUB)
    assert (client.destination(), client.publishing().hub_model_id) == (HUB, "ann/neon")
    assert client.plan(request(tmp_path / "images")).destination == HUB
    with pytest.raises(errors.InvalidRequest, match="repo_id"):
        client.set_destination(HubDestination(repo_id="neon"))
    with pytest.raises(errors.CredentialUnusable):
        client.push(job.job_id, S3Destination(bucket="models"))
    with pytest.raises(errors.JobNotFound):
        client.push("nothing", HUB)
    hub.revoke(TOKEN)


def test_bodies_that_cannot_be_read(server: Server) -> None:
    with server.http() as http:
        for body in ({"kind": "s3"}, {"kind": "ftp"}, {"kind": "hub", "repo_id": "a/b", "token": "x"}, []):
            answer = http.put("/destination", json=body)
            assert answer.status_code == 400, answer.text


def test_a_server_that_is_killed_while_it_pushes(server: Server, hub: HubEmulator, tmp_path: Path) -> None:
    held = hub.fail("commit", Fault(held=True))
    client = server.client()
    job = completed(client, tmp_path, destination=HUB)
    assert held.reached.wait(60)
    assert client.detail(job.job_id).deliveries[-1].state is DeliveryState.SENDING
    server.kill()
    held.release()
    server.start()
    client = server.client()
    delivered(client, job)
    titles = [commit.title for commit in hub.repositories["ann/neon"].commits]
    assert titles == ["initial commit", "The trained model, step 12"]
    planted = [path for path in server.home.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert planted == []
    assert TOKEN not in server.log()


def test_the_command_line(
    server: Server,
    tmp_path: Path,
    hub: HubEmulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", JUPYTER_TOKEN)

    def stcloud(*words: str) -> tuple[int, str, str]:
        code = cli.main([*words, "--url", server.url])
        said = capsys.readouterr()
        return code, said.out, said.err

    assert stcloud("destination")[:2] == (0, "home, the results folder of this lab\n")
    code, said, _ = stcloud("destination", "s3://models/loras", "--endpoint-url", "http://127.0.0.1:1", "--json")
    assert (code, json.loads(said)["prefix"]) == (0, "loras/")
    assert stcloud("destination", "home")[0] == 0
    code, _, told = stcloud("destination", "home", "--public")
    assert (code, "--public has no meaning for home" in told) == (1, True)
    assert stcloud("destination", "ftp://x")[0] == 1
    job = completed(server.client(), tmp_path)
    code, said, _ = stcloud("push", job.job_id, "--to", "hub:ann/neon", "--public")
    assert (code, "Hugging Face Hub ann/neon (public)" in said) == (0, True)
    delivered(server.client(), job)
    assert hub.repositories["ann/neon"].private is False
    assert (
        f"delivered: Hugging Face Hub ann/neon (public), home first, then sent by this lab  {hub.url}/ann/neon"
        in (stcloud("outputs", job.job_id)[1])
    )
    assert "pushed" in stcloud("job", job.job_id)[1]
    hub.fail("create", Fault(status=503, times=99))
    assert stcloud("push", job.job_id, "--to", "hub:ann/other")[0] == 0
    eventually(lambda: server.client().detail(job.job_id).deliveries[-1].problem, patience_s=20)
    code, said, _ = stcloud("push", job.job_id)
    assert (code, said.startswith("waiting: Hugging Face Hub ann/other (private)")) == (1, True)
    assert stcloud("push", job.job_id, "--give-up", "--to", "hub:ann/third")[0] == 1
    code, said, _ = stcloud("push", job.job_id, "--give-up", "--to", "hub:ann/other")
    assert (code, said) == (0, "given up: Hugging Face Hub ann/other (private), home first, then sent by this lab\n")
    for line in ("delivered: Hugging Face Hub ann/neon", "given up: Hugging Face Hub ann/other"):
        assert line in stcloud("outputs", job.job_id)[1]
    assert "push_given_up" in stcloud("job", job.job_id)[1]
    for words in (("push", job.job_id), ("push", job.job_id, "--give-up", "--to", "hub:ann/neon")):
        code, _, told = stcloud(*words)
        assert (code, "nothing of job" in told) == (1, True)
