"""The description of the API says what a real server answers: every documented success and refusal, by its schema."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from simpletuner_lab.cli import main
from simpletuner_lab.testing import eventually
from tests.lab_kit import dataloader, dataset, quick_home
from tests.server.openapi_kit import Fickle, Judge, body, client, ended, submitted
from tests.server.openapi_refusals import REFUSED, REFUSED_OF_QUEUE, REFUSED_OF_WEBHOOKS
from tests.server.server_kit import Server
from tests.services.remote_kit import Place

ROOT = Path(__file__).resolve().parents[2]
BASE = "/user/ann/"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with the provider elsewhere, whose faults a test chooses."""
    folder = tmp_path_factory.mktemp("openapi")
    info = folder / "path" / "elsewhere-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    point = f"elsewhere = {Fickle.__module__}:{Fickle.__name__}"
    (info / "entry_points.txt").write_text(f"[simpletuner_lab.providers]\n{point}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(info.parent), str(ROOT), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("HF_TOKEN", "")
        running = Server(folder, quick_home(folder).root, BASE)
        running.options = (f"--SimpleTunerLabApp.public_url={running.url.rstrip('/')}",)
        running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def place(server: Server) -> Place:
    return Place(server.home / "cloud" / "providers" / "elsewhere")


@pytest.fixture(scope="module")
def judge(server: Server) -> Judge:
    with server.http() as http:
        told = http.get("/openapi.json").json()
    judge = Judge(told, BASE)
    judge.seen.add(("get", "/api/cloud/openapi.json", "200"))
    return judge


@pytest.fixture(scope="module")
def http(server: Server, judge: Judge) -> Iterator[httpx.Client]:
    with client(server, judge, "api/cloud") as made:
        yield made


@pytest.fixture(scope="module")
def queue(server: Server, judge: Judge) -> Iterator[httpx.Client]:
    with client(server, judge, "api/queue") as made:
        yield made


@pytest.fixture(scope="module")
def hooks(server: Server, judge: Judge) -> Iterator[httpx.Client]:
    with client(server, judge, "api/webhooks") as made:
        yield made


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("pictures") / "set")


# ---------------------------------------------------------------------------------------------------------- the document


def test_it_is_valid_and_the_same_from_the_terminal(judge: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["openapi"]) == 0
    printed = json.loads(capsys.readouterr().out)
    validate(printed)
    assert printed["servers"] == [{"url": "/"}]
    assert printed["paths"] == judge._document["paths"]
    assert judge._document["servers"] == [{"url": "/user/ann"}]


# ----------------------------------------------------------------------------------------------------------- the answers


BELOW_A_JOB = ("", "/logs", "/logs/stream", "/inline-progress", "/events", "/metrics?points=10", "/outputs", "/snapshot", "/draft", "/cost-limit")  # fmt: skip


def test_a_job_from_plan_to_deletion(
    http: httpx.Client, queue: httpx.Client, hooks: httpx.Client, images: Path
) -> None:
    job_id = submitted(http, images)
    assert '"stage": "complete"' in hooks.get(f"/upload/progress/{job_id}").text
    ended(http, job_id)
    for below in BELOW_A_JOB:
        assert http.get(f"/jobs/{job_id}{below}").status_code == 200, below
    assert http.get(f"/jobs/diff?a={job_id}&b={job_id}").json()["same_digest"] is True
    assert queue.post(f"/{job_id}/cancel").json()["code"] == "illegal_transition"
    assert queue.post(f"/{job_id}/priority", json={"priority": None}).json()["code"] == "conflict"
    output = f"/jobs/{job_id}/outputs/pytorch_lora_weights.safetensors"
    for verb in ("GET", "HEAD"):
        assert http.request(verb, f"/jobs/{job_id}/outputs.zip").status_code == 200
        whole = http.request(verb, output)
        assert whole.status_code == 200
        assert http.request(verb, output, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
        assert http.request(verb, output, headers={"If-Match": '"another"'}).status_code == 412
        assert http.request(verb, f"{output}?inline=%ff").status_code == 400
    assert http.get(output, headers={"Range": "bytes=0-1"}).status_code == 206
    assert http.get(output, headers={"Range": "bytes=99999-"}).status_code == 416
    assert http.post(f"/jobs/{job_id}/cancel").json()["code"] == "illegal_transition"
    assert http.post(f"/jobs/{job_id}/resolve", json={"action": "resend"}).json()["code"] == "conflict"
    assert http.get("/jobs?limit=1&sort=-loss&status=completed").json()["total"] == 1
    assert http.get("/events?after=0").json()["events"]
    eventually(lambda: http.delete(f"/jobs/{job_id}?outputs=1").status_code == 200)


def test_a_job_that_waits_and_is_cancelled(http: httpx.Client, queue: httpx.Client, images: Path) -> None:
    job_id = submitted(http, images, "wait")
    assert http.put(f"/jobs/{job_id}/cost", json={"cost_usd": 1.0}).json()["code"] == "conflict", "it has not ended"
    digest = http.get(f"/jobs/{job_id}/draft").json()["digest"]
    again = http.post(f"/jobs/{job_id}/rerun", json={"approve": digest, "snapshot_name": "again"}).json()
    assert again["rerun_of"] == job_id
    assert again["same_digest"] is True
    assert queue.get("/position/" + again["job_id"]).json()["position"] == 1
    assert queue.post(f"/{again['job_id']}/priority", json={"priority": "lead"}).json()["priority_override"] == 20
    assert [one["id"] for one in queue.get("/?status=pending").json()["entries"]] == [again["job_id"]]
    assert queue.get("/user/me").json()["best_position"] == 1
    assert queue.get("/me").json()["pending_count"] == queue.get("/stats").json()["queue_depth"] == 1
    by_name = queue.post("/submit", json={"config_name": "wait"})
    assert (by_name.status_code, by_name.json()["status"]) == (202, "queued")
    assert queue.post("/submit", json={"config_name": "wait", "no_wait": True}).json()["code"] == "conflict"
    assert queue.post(f"/{by_name.json()['job_id']}/cancel").json()["status"] == "cancelled"
    assert queue.post("/process").json() == {"success": True, "dispatched": 0, "job_ids": []}
    assert queue.post(f"/{again['job_id']}/cancel").json()["status"] == "cancelled"
    assert queue.get("/?include_completed=1&limit=200").json()["total_pending"] == 0
    assert http.delete(f"/jobs/{job_id}").json()["code"] == "job_active"
    assert http.post(f"/jobs/{job_id}/push", json={"destination": {"kind": "hub", "repo_id": "a/b"}}).status_code == 409
    assert http.post(f"/jobs/{job_id}/push/retry").status_code == 409
    assert http.delete(f"/jobs/{job_id}/push").status_code == 409
    assert http.post(f"/jobs/{job_id}/cancel").json()["success"] is True
    assert ended(http, job_id)["status"] == "cancelled"


def test_a_model_that_goes_on_to_a_bucket(http: httpx.Client, images: Path, server: Server) -> None:
    (server.home / "cloud" / "secrets" / "AWS_ACCESS_KEY_ID").write_text("AKIAIOSFODNN7EXAMPLE")
    (server.home / "cloud" / "secrets" / "AWS_SECRET_ACCESS_KEY").write_text("not-a-key-of-anybody")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        (server.home / "cloud" / "secrets" / name).chmod(0o600)
    job_id = submitted(http, images)
    ended(http, job_id)
    nowhere = {"kind": "s3", "bucket": "models", "endpoint_url": "http://127.0.0.1:9"}
    assert http.post(f"/jobs/{job_id}/push", json={"destination": nowhere}).status_code == 202
    assert http.get(f"/jobs/{job_id}").json()["deliveries"][0]["destination"]["kind"] == "s3"
    assert http.post(f"/jobs/{job_id}/push/retry").status_code == 202
    assert [one["destination"] for one in http.get(f"/jobs/{job_id}/push").json()["deliveries"]] == [
        one["destination"] for one in http.get(f"/jobs/{job_id}").json()["deliveries"]
    ]
    assert http.delete(f"/jobs/{job_id}/push?entry=test").json()["deliveries"][0]["state"] == "given_up"
    assert http.put("/data-consent/setting", json={"consent": "deny"}).json()["consent"] == "never"
    assert http.post(f"/jobs/{job_id}/push", json={"destination": nowhere}).json()["code"] == "uploads_forbidden"
    refused = body(images, provider="elsewhere")
    assert http.post("/jobs/submit", json=refused).json()["code"] == "uploads_forbidden"
    assert http.put("/data-consent/setting", json={"consent": "ask"}).status_code == 200


def test_a_provider_that_loses_an_answer(http: httpx.Client, images: Path, place: Place) -> None:
    place.fail(start="uncertain", find="uncertain")
    job_id = submitted(http, images, provider="elsewhere")
    eventually(lambda: http.get(f"/jobs/{job_id}?only=job").json()["job"]["uncertain"], patience_s=30)
    place.fail()
    assert http.post(f"/jobs/{job_id}/resolve", json={"action": "give_up"}).json()["status"] == "failed"
    assert http.put(f"/jobs/{job_id}/cost", json={"cost_usd": 0.0}).json()["runs"] == 1
    assert http.put(f"/jobs/{job_id}/cost", json={"cost_usd": 1.0}).json()["cost_usd"] == 1.0
    place.add(state="succeeded")
    assert http.post("/jobs/sync", json={"provider": "elsewhere"}).json()["synced"] == 1
    (found,) = {one["job_id"] for one in http.get("/jobs?provider=elsewhere").json()["jobs"]} - {job_id}
    assert http.get(f"/jobs/{found}/draft").json()["code"] == "conflict"
    assert http.post(f"/jobs/{found}/rerun", json={}).json()["code"] == "conflict"
    for below in ("", "/config", "/validate", "/versions", "/billing", "/status"):
        assert http.get(f"/providers/elsewhere{below}").status_code == 200
    assert http.get("/elsewhere/status").json() == http.get("/providers/elsewhere/status").json()
    place.fail(options="no token")
    assert http.get("/hardware-options?provider=elsewhere").json()["code"] == "token_unusable"
    assert http.get("/providers/elsewhere/versions").json()["code"] == "token_unusable"
    assert http.get("/providers/elsewhere/billing").status_code == 200, "the books are ours"
    assert http.post("/jobs/sync", json={"provider": "elsewhere"}).json()["code"] == "token_unusable"
    place.fail()


def test_settings(http: httpx.Client, server: Server) -> None:
    for path in (
        "/providers",
        "/system-status",
        "/destination",
        "/publishing/status",
        "/publishing-status",
        "/data-consent/setting",
        "/local-upload/config",
        "/settings/credentials",
    ):
        assert http.get(path).status_code == 200, path
    for which in ("", "/live", "/ready"):
        assert http.get(f"/health{which}").status_code == 200
    assert http.put("/destination", json={"kind": "home"}).status_code == 200
    assert http.post("/publishing/enable-recommended").json()["destination"] == {"kind": "home"}
    named = {"hub_model_id": "ann/neon"}
    assert http.post("/publishing/enable-recommended", json=named).json()["code"] == "credential_unusable"
    settings = server.home / "cloud" / "provider_configs" / "elsewhere.json"
    settings.write_text("{")
    assert http.get("/providers/elsewhere/advanced").json()["code"] == "invalid_request"
    for below in ("", "/config"):
        assert http.get(f"/providers/elsewhere{below}").json()["code"] == "invalid_request"
        assert http.put(f"/providers/elsewhere{below}", json={"price": 2.0}).json()["code"] == "invalid_request"
    settings.unlink()
    for below in ("", "/config"):
        assert http.put(f"/providers/elsewhere{below}", json={"price": 2.0}).json()["config"]["price"] == 2.0
    advanced = http.get("/providers/replicate/advanced").json()
    assert (
        http.patch("/providers/replicate/advanced", json=advanced | {"http_timeout": 20}).json()["http_timeout"] == 20
    )
    assert http.patch("/providers/replicate/advanced", json={"http_timeout": None}).json() == advanced
    assert http.put("/providers/elsewhere/token", json={"api_token": "e_ann"}).json()["success"] is True
    assert http.delete("/providers/elsewhere/token").json()["deleted"] is True
    assert http.post("/local-upload/test", json={"url": "http://127.0.0.1:9"}).json()["reached"] is False
    assert http.post("/providers/elsewhere/test-webhook", json={"mode": "direct"}).json()["reached"] is True
    assert http.post("/providers/elsewhere/test-webhook", json={"mode": "provider"}).json()["reached"] is True
    assert http.post("/providers/local/test-webhook", json={"mode": "provider"}).json()["code"] == "conflict"
    assert http.post("/providers/elsewhere/test-webhook-external").json()["success"] is True
    assert http.post("/data-consent/preview", json=[]).status_code in {200, 400}


def test_money(http: httpx.Client, images: Path) -> None:
    job = {"amount_usd": 5.0, "action": "warn"}
    limits = {"time_zone": "Europe/Berlin", "total": {"enabled": True, "amount_usd": 25.0}, "job": job}
    assert http.put("/cost-limit", json=limits).json()["limits"]["job"] == job
    assert http.get("/cost-limit").json()["states"][0]["scope"] == "all"
    assert http.get("/cost-limit/status?provider=elsewhere").json()["enabled"] is True
    assert http.get("/spend?days=7&provider=elsewhere").json()["days"] == 7
    assert http.get("/metrics").json()["period_days"] == 30
    assert http.post("/cost-estimate", json=body(images)).json()["data_size_mb"] > 0
    assert http.post("/cost-estimate", json=dataloader(images)).json()["has_estimate"] is False
    assert (
        http.post("/cost-estimate", json=body(images, destination={"kind": "hub", "repo_id": "a/b"})).status_code == 409
    )
    assert http.get("/hardware-options").json()["provider"] == "elsewhere"
    assert http.post("/billing/refresh").json()["credit_balance"] is None
    assert http.put("/cost-limit", json={"total": {"enabled": False}}).json()["states"] == []
    assert http.get("/cost-limit/status").json()["enabled"] is False


def test_snapshots_and_slots(http: httpx.Client, queue: httpx.Client) -> None:
    for path in ("/pre-submit-check", "/available-configs", "/snapshots?limit=1"):
        assert http.get(path).status_code == 200, path
    for enabled in (False, True):
        assert http.put("/snapshots/setting", json={"enabled": enabled}).json() == {"success": True, "enabled": enabled}
        assert http.get("/snapshots/setting").json() == {"enabled": enabled}
    asked = {"max_concurrent": 6, "providers": {"elsewhere": 3}}
    assert queue.post("/concurrency", json=asked).json()["providers"]["elsewhere"] == 3
    assert queue.get("/concurrency").json()["max_concurrent"] == 6
    assert queue.post("/cleanup?days=365").json()["days"] == 365


def test_previews(http: httpx.Client, images: Path) -> None:
    assert http.post("/data-consent/preview", json=dataloader(images)).json()["total_files"] == 6


@pytest.mark.parametrize(("verb", "path", "sent", "code"), REFUSED)
def test_refusals(http: httpx.Client, verb: str, path: str, sent: Any, code: str) -> None:
    answer = http.request(verb, path, json=sent)
    assert answer.json()["code"] == code, answer.text


@pytest.mark.parametrize(("verb", "path", "sent", "code"), REFUSED_OF_QUEUE)
def test_refusals_of_the_queue(queue: httpx.Client, verb: str, path: str, sent: Any, code: str) -> None:
    answer = queue.request(verb, path, json=sent)
    assert answer.json()["code"] == code, answer.text


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("DELETE", "/jobs/none?outputs=%ff"),
        ("DELETE", "/jobs/none/push?id=%ff"),
        ("GET", "/jobs/none?only=%ff"),
        ("GET", "/jobs/none/logs/stream?offset=%ff"),
        ("GET", "/cost-limit/status?provider=%ff"),
        ("GET", "/hardware-options?provider=%ff"),
    ],
)
def test_a_query_that_is_no_text(http: httpx.Client, verb: str, path: str) -> None:
    assert http.request(verb, path).json()["code"] == "http_400"


def test_refusals_of_a_submit(http: httpx.Client, images: Path) -> None:
    assert http.post("/jobs/submit", json=body(images, "another")).json()["code"] == "consent_required"
    stale = body(images, "another", approve="0" * 64)
    assert http.post("/jobs/submit", json=stale).json()["code"] == "plan_changed"
    assert http.post("/jobs/plan", json=body(images, destination={"kind": "hub", "repo_id": "a/b"})).status_code == 409


def test_outputs_that_are_not_there(http: httpx.Client) -> None:
    for verb in ("HEAD", "GET"):
        assert http.request(verb, "/jobs/none/outputs.zip").status_code == 404
        assert http.request(verb, "/jobs/none/outputs/x").status_code == 404


@pytest.mark.parametrize(("verb", "path", "sent", "code"), REFUSED_OF_WEBHOOKS)
def test_refusals_beside_webhooks(hooks: httpx.Client, verb: str, path: str, sent: Any, code: str) -> None:
    answer = hooks.request(verb, path, json=sent)
    assert answer.json()["code"] == code, answer.text


def test_webhooks(server: Server, judge: Judge, hooks: httpx.Client) -> None:
    assert hooks.post("/test", json={"provider": "elsewhere"}).json()["method"] == "direct"
    with httpx.Client(base_url=server.url + "api/webhooks", event_hooks={"response": [judge]}) as outside:
        assert outside.post("/nobody", json={}).json()["code"] == "not_found"
        assert outside.post("/elsewhere", content=b"a run").json()["code"] == "forbidden"
        signed = {"webhook-signature": "right", "webhook-id": "1"}
        assert outside.post("/elsewhere", content=b"a run", headers=signed).json() == {"received": True}
        assert outside.post("/elsewhere", content=b"x" * ((1 << 20) + 1)).status_code == 413


def test_nobody_without_a_login_is_let_in(server: Server, judge: Judge) -> None:
    """On every route; what is answered has the shape that is told too."""
    with httpx.Client(base_url=server.url.rstrip("/"), event_hooks={"response": [judge]}) as stranger:
        for verb, path, status in sorted(judge.documented()):
            if status == "403" and path != "/api/webhooks/{provider_id}":
                filled = path.replace("{job_id}", "none").replace("{upload_id}", "none").replace("{path}", "x")
                filled = (
                    filled.replace("{user_id}", "me").replace("{provider}", "local").replace("{provider_id}", "local")
                )
                assert stranger.request(verb.upper(), filled).status_code == 403, (verb, path)


UNSEEN = {
    "500": "a fault of ours",
    "503": "the lab is opening, or a provider is away",
    "502": "a provider answers nonsense",
    "413": "a data set over a provider's limit",
    "202 /api/webhooks/{provider_id}": "it takes longer than a second to verify one",
}


def test_every_documented_answer_was_seen(judge: Judge) -> None:
    """The last of this file."""
    left = sorted(one for one in judge.documented() - judge.seen if not {one[2], f"{one[2]} {one[1]}"} & set(UNSEEN))
    assert not left, "\n".join(map(str, left))
