"""`/api/queue` on a real notebook server: order, priorities, cancel and limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from simpletuner_lab import cli
from simpletuner_lab.client import LabClient
from simpletuner_lab.core import errors
from simpletuner_lab.core.job import JobState
from simpletuner_lab.services.queue_views import ConcurrencyChange
from simpletuner_lab.services.views import JobView
from simpletuner_lab.testing import eventually
from tests.lab_kit import config, dataloader, request
from tests.server.server_kit import TOKEN, Server


@pytest.fixture
def queue(server: Server) -> Iterator[httpx.Client]:
    url = f"{server.url}api/queue"
    with httpx.Client(base_url=url, headers={"Authorization": f"token {TOKEN}"}, timeout=30) as made:
        yield made


def submitted(client: LabClient, images: Path, priority: int = 10) -> JobView:
    asked = request(images, "wait")
    digest = client.plan(asked).digest
    body = {"config": config("wait"), "dataloader_config": dataloader(images), "approve": digest, "priority": priority}
    answer = client._http.post("/jobs/submit", json=body).json()
    return client.job(answer["job_id"])


def test_the_queue_over_rest(
    server: Server, client: LabClient, images: Path, queue: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = submitted(client, images), submitted(client, images)
    eventually(lambda: client.job(first.job_id), lambda job: job.status is JobState.RUNNING, patience_s=40)
    third = submitted(client, images)
    assert queue.get("/").json()["entries"][1]["waiting"].startswith("number 1 in the queue: local has 1 of at most 1")
    urgent = queue.post(f"/{third.job_id}/priority", json={"priority": "lead"}).json()
    assert urgent == {
        "success": True, "job_id": third.job_id, "previous_effective_priority": 10, "new_effective_priority": 20,
        "priority_override": 20,
    }  # fmt: skip
    page = client.queue.entries()
    assert [entry.job_id for entry in page.entries] == [first.job_id, third.job_id, second.job_id]
    assert [entry.position for entry in page.entries] == [None, 1, 2]
    assert queue.get(f"/position/{second.job_id}").json() | {"queued_at": "", "waiting": ""} == {
        "job_id": second.job_id, "position": 2, "status": "pending", "priority": 10, "queued_at": "",
        "estimated_wait_seconds": None, "waiting": "",
    }  # fmt: skip
    mine = client.queue.mine()
    assert (mine.pending_count, mine.running_count, mine.best_position) == (2, 1, 1)
    stats = client.queue.stats()
    assert (stats.queue_depth, stats.running, stats.by_status["running"], stats.local.pending_jobs) == (2, 1, 1, 2)

    assert cli.main(["queue", "--url", server.url, "--json"]) == 1, "without a token"
    capsys.readouterr()
    gone = client.queue.cancel(second.job_id)
    assert gone.status is JobState.CANCELLED, "at once"
    assert queue.post(f"/{second.job_id}/cancel").json()["status"] == "cancelled", "asking twice is harmless"

    assert client.queue.process().job_ids == (), "the first one still runs"
    assert queue.post("/concurrency", json={"local_job_max_concurrent": 2}).json()["success"]
    eventually(lambda: client.job(third.job_id), lambda job: job.status is JobState.RUNNING, patience_s=40)
    assert client.job(first.job_id).status is JobState.RUNNING
    for job in (first, third):
        client.cancel(job.job_id)
        eventually(lambda job=job: client.job(job.job_id), lambda seen: seen.is_terminal, patience_s=40)
    assert queue.post("/cleanup?days=30").json() == {"success": True, "deleted": 0, "days": 30}


@pytest.mark.slow
def test_the_cap_holds_over_a_killed_server(server: Server, client: LabClient, images: Path) -> None:
    client.queue.set_concurrency(ConcurrencyChange(local_job_max_concurrent=1))
    first, second = submitted(client, images), submitted(client, images)
    eventually(lambda: client.job(first.job_id), lambda job: job.status is JobState.RUNNING, patience_s=40)
    server.kill()
    server.start()
    assert client.queue.process().job_ids == ()
    assert client.queue.position(second.job_id).position == 1
    for job in (first, second):
        eventually(lambda job=job: client.job(job.job_id), lambda seen: seen.status is JobState.RUNNING, patience_s=40)
        client.cancel(job.job_id)
        eventually(lambda job=job: client.job(job.job_id), lambda seen: seen.is_terminal, patience_s=40)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/?limit=201", None, 400, "invalid_request"),
        ("GET", "/?status=queued", None, 400, "invalid_request"),
        ("GET", "/position/nobody", None, 404, "job_not_found"),
        ("POST", "/nobody/priority", {"priority": 5}, 404, "job_not_found"),
        ("POST", "/nobody/priority", {"priority": 51}, 400, "invalid_request"),
        ("POST", "/nobody/priority", {}, 400, "invalid_request"),
        ("POST", "/concurrency", {"max_concurrent": 101}, 400, "invalid_request"),
        ("POST", "/concurrency", {"team_max_concurrent": 5}, 400, "invalid_request"),
        ("POST", "/concurrency", {"colour": 5}, 400, "invalid_request"),
        ("POST", "/cleanup?days=366", None, 400, "invalid_request"),
        ("POST", "/nobody/approve", None, 404, "http_404"),
    ],
)
def test_refusals(queue: httpx.Client, method: str, path: str, body: object, status: int, code: str) -> None:
    answer = queue.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_what_was_read_may_be_written_back(queue: httpx.Client) -> None:
    found = queue.get("/concurrency").json()
    assert queue.post("/concurrency", json=found).json() == found | {"success": True}


def test_nobody_without_a_login(server: Server) -> None:
    assert httpx.get(f"{server.url}api/queue/").status_code == 403
    assert httpx.post(f"{server.url}api/queue/process").status_code == 403


def test_commands(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", TOKEN)

    def said(*words: str) -> str:
        assert cli.main([*words, "--url", server.url]) == 0
        return capsys.readouterr().out

    limits = json.loads(
        said("concurrency", "--global", "9", "--user", "3", "--local", "2", "--provider", "replicate=4", "--json")
    )
    assert (limits["max_concurrent"], limits["user_max_concurrent"], limits["providers"]["replicate"]) == (9, 3, 4)
    assert "4  on replicate" in said("concurrency")
    assert "-  on replicate" in said("concurrency", "--provider", "replicate=default")
    assert "0 under way, 0 waiting for a slot" in said("queue")
    assert cli.main(["concurrency", "--global", "0", "--user", "30", "--url", server.url]) == 1
    assert "--global must be 1 to 100, not 0; --user must be 1 to 20, not 30" in capsys.readouterr().err
    for wrong in (["concurrency", "--provider", "replicate"], ["priority", "nobody", "99"]):
        assert cli.main([*wrong, "--url", server.url]) == 1
    with pytest.raises(errors.JobNotFound):
        LabClient(server.url, TOKEN).queue.prioritise("nobody", 5)
