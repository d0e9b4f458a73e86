"""A config by its name, and its data on their way, over a real server: what a script of the original would ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from simpletuner_lab.client import LabClient
from simpletuner_lab.core.job import JobState
from simpletuner_lab.services.views import JobView
from simpletuner_lab.testing import eventually
from tests.lab_kit import request
from tests.server.server_kit import TOKEN, Server

HEADERS = {"Authorization": f"token {TOKEN}"}


@pytest.fixture
def queue(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}api/queue", headers=HEADERS, timeout=30) as made:
        yield made


@pytest.fixture
def running(client: LabClient, images: Path) -> Iterator[JobView]:
    """A job that goes on until the test is over, and holds the only slot."""
    asked = request(images, "wait")
    job = client.submit(asked, approve=client.plan(asked).digest)
    yield eventually(lambda: client.job(job.job_id), lambda seen: seen.status is JobState.RUNNING, patience_s=40)
    for one in client.jobs().jobs:
        if one.is_active:
            client.cancel(one.job_id)
    eventually(lambda: client.job(job.job_id), lambda seen: seen.is_terminal, patience_s=40)


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    return (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))


def test_by_name(server: Server, client: LabClient, queue: httpx.Client, running: JobView) -> None:
    name = running.config_name
    answer = queue.post("/submit", json={"config_name": name, "target": "auto"})
    told = answer.json()
    assert (answer.status_code, told["success"], told["status"], told["queue_position"]) == (202, True, "queued", 1)
    assert told["reason"].startswith("number 1 in the queue: local has 1 of at most 1 job")
    assert told["job"]["digest"] == running.digest
    assert [told[key] for key in ("requires_approval", "allocated_gpus", "allocated_worker_id", "error")] == [
        False, None, None, None
    ]  # fmt: skip
    refused = queue.post("/submit", json={"config_name": name, "no_wait": True})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert client.jobs().total == 2, "what may not wait is not stored"
    assert queue.get("/user/me").json()["pending_count"] == 1
    for other in ("bob", "Me", "me ", "a%2Fb"):
        stranger = queue.get(f"/user/{other}")
        assert (stranger.status_code, "jobs" in stranger.json()) == (404, False)

    path = f"{server.url}api/webhooks/upload/progress/{told['job_id']}"
    with httpx.stream("GET", path, headers=HEADERS, timeout=30) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        seen = events(stream.iter_lines())
        first = next(seen)
        assert (first["stage"], first["done"], first["error"]) == ("waiting", False, None)
        client.cancel(told["job_id"])
        (last,) = seen
    assert (last["stage"], last["done"]) == ("error", True)
    assert last["error"] == "the job was cancelled before its data were sent"

    path = f"{server.url}api/webhooks/upload/progress/{running.job_id}"
    (only,) = events(iter(httpx.get(path, headers=HEADERS).text.splitlines()))
    assert (only["stage"], only["percent"], only["done"]) == ("complete", 100.0, True)
    assert httpx.get(path + "x", headers=HEADERS).json()["code"] == "job_not_found"


def test_credentials_without_any_part_of_them(server: Server) -> None:
    secret = server.home / "cloud" / "secrets" / "HF_TOKEN"
    secret.write_text("hf_" + "NobodyReadsThis1" * 2)
    secret.chmod(0o600)
    with server.http() as http:
        answer = http.get("/settings/credentials")
    (found,) = [one for one in answer.json()["credentials"] if one["name"] == "HF_TOKEN"]
    assert (found["state"], found["source"], found["is_stale"]) == ("set", "file", False)
    assert found["age_days"] < 1
    assert "Nobody" not in answer.text
    secret.unlink()
