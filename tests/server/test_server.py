"""The extension on a real notebook server under `/user/ann/`: REST, streams, delivery by SigV4, crash and restart."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import pytest

from simpletuner_lab.client import LabClient
from simpletuner_lab.core import errors
from simpletuner_lab.core.consent import ConsentMode, signed
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import JobFilter, JobState
from simpletuner_lab.core.secret import MASK
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.grants import Grants, ServerKey
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.store import Store
from simpletuner_lab.services.views import JobView
from simpletuner_lab.testing import eventually
from tests.lab_kit import config, dataloader, dataset, quick_home, request
from tests.server.server_kit import Server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with server.http() as made:
        yield made


def submitted(client: LabClient, images: Path, how: str = "quick") -> JobView:
    asked = request(images, how)
    return client.submit(asked, approve=client.plan(asked).digest, key=None, entry="test")


def ended(client: LabClient, job: JobView) -> JobView:
    return eventually(lambda: client.job(job.job_id), lambda seen: seen.is_terminal, patience_s=40)


def test_the_whole_way_over_rest(client: LabClient, images: Path, server: Server) -> None:
    plan = client.plan(request(images))
    assert [credential.name for credential in plan.credentials] == ["storage grant"]
    job = ended(client, submitted(client, images))
    assert (job.status, job.job_type, job.progress.step) == (JobState.COMPLETED, "local", 12)
    outputs = client.outputs(job.job_id)
    assert outputs.verified
    assert Path(outputs.folder, "pytorch_lora_weights.safetensors").read_bytes() == b"lora"
    curve = client.metrics(job.job_id)
    assert (curve.total, curve.step, curve.loss[0]) == (12, tuple(range(1, 13)), 1.0)
    assert client.metrics(job.job_id, after_step=10).step == (11, 12)
    detail = client.detail(job.job_id)
    assert detail.plan.digest == plan.digest == job.digest
    assert detail.events[0].kind is EventKind.CREATED
    assert client.events(detail.events[0].seq, job_id=job.job_id)[0].seq == detail.events[1].seq
    with server.http() as http:
        answer = http.get(f"/jobs/{job.job_id}/outputs/pytorch_lora_weights.safetensors")
        assert (answer.content, answer.headers["X-Content-Type-Options"]) == (b"lora", "nosniff")
        assert answer.headers["Content-Disposition"].startswith("attachment")
        for path in ("../../../cloud/lab.db", "..%2F..%2F..%2Fcloud%2Flab.db", "/etc/passwd", "nothing"):
            refused = http.get(f"/jobs/{job.job_id}/outputs/{path}")
            assert refused.status_code == 404
            assert b"SQLite" not in refused.content


def test_the_log_streams_to_its_end(client: LabClient, images: Path, http: httpx.Client) -> None:
    job = submitted(client, images)
    with http.stream("GET", f"/jobs/{job.job_id}/logs/stream") as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        seen = list(stream.iter_lines())
    data = [line[6:] for line in seen if line.startswith("data: ")]
    assert data[-1] == "completed"
    assert "unpacked 6 files" in data
    assert seen[-3:-1] == ["event: done", "data: completed"]
    offsets = [int(line[4:]) for line in seen if line.startswith("id: ")]
    assert offsets[-1] == client.job(job.job_id).log_bytes
    resumed = http.get(f"/jobs/{job.job_id}/logs/stream", headers={"Last-Event-ID": str(offsets[-1])}).text
    assert resumed == "event: done\ndata: completed\n\n"
    whole = client.log(job.job_id)
    assert whole.ended
    parts, at = "", 0
    while not (piece := client.log(job.job_id, offset=at, limit=200)).ended:
        parts, at = parts + piece.logs, piece.next_offset
    assert parts + piece.logs == whole.logs


def test_cancel_and_delete(client: LabClient, images: Path) -> None:
    job = submitted(client, images, "wait")
    eventually(lambda: "waiting" in client.log(job.job_id).logs)
    with pytest.raises(errors.JobActive):
        client.delete(job.job_id)
    assert client.cancel(job.job_id).cancel_requested
    assert ended(client, job).status is JobState.CANCELLED
    assert client.cancel(job.job_id).status is JobState.CANCELLED, "asking twice is harmless"
    eventually(lambda: _deleted(client, job.job_id))
    with pytest.raises(errors.JobNotFound):
        client.job(job.job_id)


def _deleted(client: LabClient, job_id: str) -> bool:
    try:
        client.delete(job_id)
    except errors.JobActive:
        return False
    return True


def test_lists_have_a_true_total(client: LabClient, images: Path) -> None:
    for _ in range(2):
        ended(client, submitted(client, images))
    page = client.jobs(JobFilter(), limit=1)
    assert len(page.jobs) == 1
    assert page.total >= 2
    assert client.jobs(JobFilter(states=frozenset({JobState.FAILED}))).total == 0
    assert client.jobs(JobFilter(remote=True)).total == 0
    assert client.jobs(JobFilter(text="no such name")).jobs == ()


def test_lists_are_sorted_and_searched_by_key(client: LabClient, images: Path, http: httpx.Client) -> None:
    asked = request(images)
    job = client.submit(asked, approve=client.plan(asked).digest, key="a click & more", entry="test")
    other = submitted(client, images)
    assert [found.job_id for found in client.jobs(JobFilter(key="a click & more")).jobs] == [job.job_id]
    assert client.jobs(JobFilter(key="no click")).total == 0
    oldest = [found.job_id for found in client.jobs(sort="created_at", limit=500).jobs]
    assert oldest == [found.job_id for found in client.jobs(limit=500).jobs][::-1]
    assert oldest.index(job.job_id) < oldest.index(other.job_id)
    refused = http.get("/jobs?sort=-colour").json()
    assert refused["code"] == "invalid_request"
    assert "duration_seconds" in refused["hint"]
    seen = ended(client, job)
    assert seen.version > job.version
    assert seen.updated_at >= job.updated_at


def test_a_lab_has_an_id_that_tells_nothing(client: LabClient, server: Server, http: httpx.Client) -> None:
    home = Home(server.home)
    assert http.get("/health/live").json()["lab"] == home.id == client.lab_id
    assert re.fullmatch(r"[0-9a-f]{16}", home.id)
    assert Home(server.home / "other").id != home.id
    with Lab.open(server.home) as lab:
        assert Front(lab).lab_id == client.lab_id


def test_a_token_as_entry_is_refused_whole_and_no_piece_of_it_is_kept(
    client: LabClient, http: httpx.Client, folder: Path
) -> None:
    token = "r8_" + "aB3dE6gH9jK2" * 3
    body = {"config": config(), "dataloader_config": dataloader(dataset(folder / "entry", images=2))}
    digest = http.post("/jobs/plan", json=body).json()["digest"]
    before = client.jobs(JobFilter()).total
    refused = http.post("/jobs/submit", json=body | {"approve": digest, "entry": token})
    assert (refused.status_code, refused.json()["code"]) == (400, "secret_in_config")
    assert token[:12] not in refused.text
    assert client.jobs(JobFilter()).total == before
    assert signed(token) == MASK
    assert signed("a front-end of ours that has a long name") == "a front-end of ours that has a l"


def test_consent_holds_for_every_entry(client: LabClient, http: httpx.Client, folder: Path) -> None:
    fresh = dataset(folder / "fresh", images=2)
    body = {"config": config(), "dataloader_config": dataloader(fresh)}
    refused = http.post("/jobs/submit", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "consent_required")
    changed = http.post("/jobs/submit", json=body | {"approve": "f" * 64})
    assert (changed.status_code, changed.json()["code"]) == (409, "plan_changed")
    digest = http.post("/jobs/plan", json=body).json()["digest"]
    (fresh / "0.txt").write_text("another caption")
    late = http.post("/jobs/submit", json=body | {"approve": digest})
    assert (late.status_code, late.json()["code"]) == (409, "plan_changed")
    assert client.jobs(JobFilter(text="fresh")).total == 0
    assert client.consent() is ConsentMode.ASK
    assert http.put("/data-consent/setting", json={"consent": "deny"}).json() == {"success": True, "consent": "never"}
    client.set_consent(ConsentMode.ASK)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/jobs/nothing", None, 404, "job_not_found"),
        ("GET", "/jobs/nothing/metrics", None, 404, "job_not_found"),
        ("GET", "/jobs/nothing/logs", None, 404, "job_not_found"),
        ("GET", "/jobs/nothing/logs/stream", None, 404, "job_not_found"),
        ("GET", "/jobs/nothing/outputs", None, 404, "job_not_found"),
        ("GET", "/jobs/nothing/events", None, 404, "job_not_found"),
        ("POST", "/jobs/nothing/cancel", None, 404, "job_not_found"),
        ("DELETE", "/jobs/nothing", None, 404, "job_not_found"),
        ("GET", "/no/such/route", None, 404, "http_404"),
        ("DELETE", "/jobs", None, 405, "http_405"),
        ("GET", "/jobs?limit=0", None, 400, "invalid_request"),
        ("GET", "/jobs?limit=many", None, 400, "invalid_request"),
        ("GET", "/jobs?status=sleeping", None, 400, "invalid_request"),
        ("GET", "/jobs?job_type=moon", None, 400, "invalid_request"),
        ("GET", "/jobs?sort=colour", None, 400, "invalid_request"),
        ("POST", "/jobs/plan", "{", 400, "invalid_request"),
        ("POST", "/jobs/plan", "[]", 400, "invalid_request"),
        ("POST", "/jobs/plan", '{"config": {}}', 400, "invalid_request"),
        ("POST", "/jobs/plan", '{"config": {}, "dataloader_config": [], "colour": 1}', 400, "invalid_request"),
        ("POST", "/jobs/plan", '{"config": {}, "dataloader_config": []}', 400, "invalid_config"),
        ("POST", "/jobs/plan?provider=moon", '{"config": {}, "dataloader_config": []}', 404, "provider_not_found"),
        ("PUT", "/data-consent/setting", '{"consent": "maybe"}', 400, "invalid_request"),
    ],
)
def test_bad_input_is_one_clear_error(
    http: httpx.Client, method: str, path: str, body: str | None, status: int, code: str
) -> None:
    answer = http.request(method, path, content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["detail"]


def test_a_wrong_config_lists_every_problem(http: httpx.Client, images: Path) -> None:
    wrong = config(lora_rnak=4, learning_rate="fast")
    answer = http.post("/jobs/plan", json={"config": wrong, "dataloader_config": dataloader(images)}).json()
    assert answer["code"] == "invalid_config"
    told = {problem["path"]: problem for problem in answer["problems"]}
    assert {"config.lora_rnak", "config.learning_rate"} <= set(told)
    assert "lora_rank" in told["config.lora_rnak"]["message"] + told["config.lora_rnak"]["hint"]


ROUTES = [
    ("GET", "/jobs"), ("POST", "/jobs/plan"), ("POST", "/jobs/submit"), ("GET", "/jobs/x"), ("DELETE", "/jobs/x"),
    ("POST", "/jobs/x/cancel"), ("GET", "/jobs/x/logs"), ("GET", "/jobs/x/logs/stream"), ("GET", "/jobs/x/inline-progress"),
    ("GET", "/jobs/x/events"), ("GET", "/jobs/x/metrics"), ("GET", "/jobs/x/outputs"), ("GET", "/jobs/x/outputs/y"), ("GET", "/jobs/x/outputs.zip"),
    ("POST", "/data-consent/preview"), ("GET", "/events"), ("GET", "/data-consent/setting"), ("PUT", "/data-consent/setting"), ("GET", "/providers"),
    ("GET", "/health"), ("GET", "/health/live"), ("GET", "/health/ready"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_comes_in_without_a_token(server: Server, method: str, path: str) -> None:
    for token in ("", "wrong"):
        with server.http(token=token) as http:
            assert http.request(method, path).status_code == 403


def test_providers_and_health(client: LabClient, http: httpx.Client) -> None:
    providers = {provider.id: provider for provider in client.providers()}
    assert providers["local"].configured
    local = providers["local"]
    assert (local.cost_per_hour, local.description) == (0, "Runs trainers on this machine.")
    assert (local.model, local.version) == (local.targets[0].id, local.targets[0].version)
    assert [(one.id, one.cost_per_second) for one in local.hardware_profiles] == [(local.hardware_profile, 0)]
    assert providers["simpletuner_io"].coming_soon
    assert http.get("/health").json()["status"] == "healthy"
    assert http.get("/health/ready").status_code == 200


def test_preview_counts_what_would_leave(http: httpx.Client, images: Path) -> None:
    answer = http.post("/data-consent/preview", json=dataloader(images)).json()
    assert (answer["requires_upload"], answer["consent_mode"], answer["total_files"]) == (False, "ask", 6)
    assert answer["datasets"][0]["instance_data_dir"] == str(images)
    assert http.post("/data-consent/preview", json={}).json()["code"] == "invalid_request"
    assert http.post("/data-consent/preview", json=dataloader(images / "no")).json()["code"] == "invalid_dataset"


def test_progress_of_a_row(client: LabClient, images: Path, http: httpx.Client) -> None:
    job = ended(client, submitted(client, images))
    answer = http.get(f"/jobs/{job.job_id}/inline-progress").json()
    assert answer == {"job_id": job.job_id, "stage": "training", "last_log": "unpacked 6 files", "progress": 100.0}


def test_boto3_with_the_owners_credentials(server: Server, tmp_path: Path) -> None:
    s3 = storage(server)
    data = bytes(range(256)) * 40_000  # 10 MB: two parts
    (tmp_path / "big").write_bytes(data)
    s3.upload_file(str(tmp_path / "big"), "outputs", "mine/big.bin")
    s3.download_file("outputs", "mine/big.bin", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data
    assert (server.home / "cloud_outputs/outputs/mine/big.bin").read_bytes() == data
    assert [item["Key"] for item in s3.list_objects_v2(Bucket="outputs", Prefix="mine/")["Contents"]] == [
        "mine/big.bin"
    ]
    s3.delete_object(Bucket="outputs", Key="mine/big.bin")


def storage(server: Server) -> object:
    store = Store.open(server.home / "cloud/lab.db")
    try:
        grants = Grants(store.grants, ServerKey.load_or_create(server.home / "cloud/server.key"), lambda: 0.0)
        owner = grants.owner()
    finally:
        store.close()
    return boto3.client(
        "s3", endpoint_url=server.url + "api/cloud/storage", region_name="us-east-1",
        aws_access_key_id=owner.access_key, aws_secret_access_key=owner.secret_key.reveal(),
    )  # fmt: skip


def test_no_answer_and_no_log_holds_a_secret(
    server: Server, client: LabClient, images: Path, http: httpx.Client
) -> None:
    job = ended(client, submitted(client, images))
    key = (server.home / "cloud/server.key").read_bytes()
    store = Store.open(server.home / "cloud/lab.db")
    owner = Grants(store.grants, ServerKey(key), lambda: 0.0).owner().secret_key.reveal()
    store.close()
    said = server.log() + client.log(job.job_id).logs + http.get("/jobs").text + http.get(f"/jobs/{job.job_id}").text
    assert owner not in said
    assert "secret_key" not in said.replace("secret_key_env", "")
    for path in server.home.rglob("*"):
        if path.is_file():
            assert owner.encode() not in path.read_bytes(), path


def test_a_killed_server_loses_nothing(tmp_path: Path) -> None:
    """kill -9 in the middle of a job, at the root; the run goes on, the next server takes the job over."""
    server = Server(tmp_path, quick_home(tmp_path).root).start()
    try:
        client = server.client()
        images = dataset(tmp_path / "images")
        done = ended(client, submitted(client, images))
        job = submitted(client, images, "wait")
        eventually(lambda: "waiting" in client.log(job.job_id).logs)
        before = client.job(job.job_id)
        server.kill()
        with pytest.raises(errors.ServerUnreachable):
            client.job(job.job_id)
        server.start()
        client = server.client()
        assert client.job(done.job_id).status is JobState.COMPLETED
        again = client.job(job.job_id)
        assert (again.status, again.attempt, again.log_bytes) == (JobState.RUNNING, 1, before.log_bytes)
        client.cancel(job.job_id)
        assert ended(client, job).status is JobState.CANCELLED
        assert client.metrics(job.job_id).step == (1, 2, 3, 4, 5)
    finally:
        server.stop()


@pytest.mark.parametrize("spoil", ["linked outputs", "home is a file"])
def test_a_home_that_cannot_be_used_is_told(tmp_path: Path, spoil: str) -> None:
    """Whatever keeps the lab from opening is an answer on every route, never a request that hangs."""
    home = quick_home(tmp_path).root
    if spoil == "linked outputs":
        (tmp_path / "elsewhere").mkdir()
        (home / "cloud_outputs/outputs").symlink_to(tmp_path / "elsewhere")
    else:
        home = tmp_path / "file"
        home.write_text("")
    server = Server(tmp_path, home).start()
    try:
        with server.http() as http:
            answer = http.get("/jobs")
            assert (answer.status_code, answer.json()["code"]) == (500, "store_unusable")
            assert str(home) in answer.json()["detail"]
    finally:
        server.stop()


def test_a_proxy_stands_in_no_ones_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own addresses are reached past any proxy: the server by its client, the endpoint by the trainer."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = Server(tmp_path, quick_home(tmp_path).root, "/user/a@b%20c/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # for the kit's own look at the server
    server.start()
    monkeypatch.delenv("NO_PROXY")
    try:
        client = server.client()
        assert ended(client, submitted(client, dataset(tmp_path / "images"))).status is JobState.COMPLETED
    finally:
        server.stop()


def test_a_store_of_a_newer_release_is_told_on_every_route(tmp_path: Path) -> None:
    home = quick_home(tmp_path)
    Store.open(home.database).close()
    with sqlite3.connect(home.database) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    server = Server(tmp_path, home.root).start()
    try:
        with server.http() as http:
            health = http.get("/health").json()
            assert (health["status"], http.get("/health/ready").status_code) == ("unhealthy", 503)
            answer = http.get("/jobs")
            assert (answer.status_code, answer.json()["code"]) == (500, "store_unusable")
            assert answer.json()["hint"]
    finally:
        server.stop()
