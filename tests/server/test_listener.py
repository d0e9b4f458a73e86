"""The second listener of a real notebook server under `/user/ann/`: what it serves, and that it serves nothing else."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path

import httpx
import pytest
from botocore.exceptions import ClientError

from simpletuner_lab.core import errors
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.store import Store
from simpletuner_lab.testing import eventually
from tests.lab_kit import config, dataloader, dataset, quick_home
from tests.quick_trainer import installed_as_python
from tests.server.outside_kit import BASE, Outside, installed_elsewhere, s3
from tests.server.server_kit import TOKEN, Server

# ------------------------------------------------------------ nothing of Jupyter

JUPYTER = [
    "/api", "/api/", "/api/status", "/api/contents", "/api/contents/x.ipynb", "/api/kernels", "/api/sessions", "/api/me", "/api/events/subscribe",
    "/api/cloud", "/api/cloud/jobs", "/api/cloud/health", "/api/cloud/health/live", "/api/cloud/storages", "/api/webhooks", "/api/webhooks/",
    "/", "/lab", "/lab/tree", "/tree", "/login", "/logout", "/static/style.css", "/files/x", "/nbextensions/x.js", "/metrics",
    "/user/ann/", "/user/ann/lab", "/user/ann/api/contents", "/user/ann/login", "/user/ann/api/cloud/health/live", "/hub/login", "/favicon.ico",
    "/%61pi/contents", "/api%2Fcontents", "//api/contents", "/../api/contents", "/api/cloud/storage/../jobs", "/robots.txt", "/terminals/websocket/1",
]  # fmt: skip


@pytest.mark.parametrize("path", JUPYTER)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "PATCH"])
def test_nothing_of_jupyter_is_reached(outside: Outside, method: str, path: str) -> None:
    """With the right token and an origin: 404, or an error of the object endpoint; never a cookie, a page, or CORS."""
    connection = http.client.HTTPConnection("127.0.0.1", outside.port, timeout=20)
    connection.request(
        method, path, headers={"Authorization": f"token {TOKEN}", "Origin": "https://evil.example", "Cookie": "_xsrf=1"}
    )
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    told = {name.lower(): value for name, value in answer.getheaders()}
    assert told["server"] == "simpletuner-lab"
    assert not {name for name in told if name.startswith("access-control") or name in {"set-cookie", "location"}}
    if "x-amz-request-id" in told:
        assert answer.status in {400, 403, 405}
        assert body.startswith("<?xml")
    else:
        assert answer.status == 404
        assert json.loads(body)["code"] == "not_found"
    assert "jupyter" not in (body + str(told)).lower()


def test_no_websocket_is_opened(outside: Outside) -> None:
    with socket.create_connection(("127.0.0.1", outside.port), timeout=20) as plain:
        plain.sendall(
            b"GET /user/ann/api/events/subscribe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b"101" not in plain.recv(65536).split(b"\r\n")[0]


# ------------------------------------------------------------ the object endpoint


@pytest.mark.parametrize("path", ["", "/api/cloud/storage"])
def test_s3_at_its_path_and_at_the_root(outside: Outside, path: str) -> None:
    client = s3(outside.url + path, outside.owner)
    body = b"x" * (2 << 20)
    client.create_bucket(Bucket="letters")
    client.put_object(Bucket="letters", Key="a/b c", Body=body)
    assert client.get_object(Bucket="letters", Key="a/b c")["Body"].read() == body
    assert (outside.home.outputs / "letters" / "a" / "b c").read_bytes() == body
    client.delete_object(Bucket="letters", Key="a/b c")


@pytest.mark.parametrize("path", ["", "/api/cloud/storage"])
def test_no_bucket_is_called_api(outside: Outside, path: str) -> None:
    with pytest.raises(ClientError, match=r"InvalidBucketName|Not Found|404"):
        s3(outside.url + path, outside.owner).create_bucket(Bucket="api")
    assert not (outside.home.outputs / "api").exists()


def test_a_presigned_url_stands_in_no_log(outside: Outside) -> None:
    outside.server.client().jobs()
    for place in (outside.url, f"{outside.server.url}api/cloud/storage"):
        url = s3(place, outside.owner).generate_presigned_url(
            "get_object", Params={"Bucket": "letters", "Key": "secret-looking"}
        )
        assert httpx.get(url).status_code == 404
        assert httpx.get(url.replace("secret-looking", "another-looking")).status_code == 403
    log = outside.server.log()
    assert "letters another-looking" in log
    assert "X-Amz-Signature" not in log
    assert "X-Amz-Credential" not in log


# ------------------------------------------------------------ runs elsewhere, and webhooks


def test_a_run_elsewhere_delivers_to_the_public_endpoint_and_a_webhook_ends_the_wait(outside: Outside) -> None:
    client = outside.server.client()
    asked = outside.request("elsewhere")
    plan = client.plan(asked)
    assert [credential.name for credential in plan.credentials] == ["storage grant"]
    job = client.submit(asked, approve=plan.digest)
    ref = eventually(lambda: _ref(outside, job.job_id), patience_s=40)
    delivered = outside.home.outputs / "outputs" / job.job_id / "manifest.json"
    eventually(delivered.exists, patience_s=40)
    assert not client.job(job.job_id).is_terminal  # nobody looks for an hour
    store = Store.open(outside.home.database)
    spec = next(outside.home.provider_state("elsewhere").glob("runs/*/attempt-0001/spec.json"))
    assert json.loads(spec.read_text())["destination"]["endpoint_url"] == f"{outside.url}/api/cloud/storage"
    with store._database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT endpoint_url, quota_bytes FROM grants WHERE job_id = ?", (job.job_id,)
        ).fetchall()
    store.close()
    assert [tuple(row) for row in rows] == [(f"{outside.url}/api/cloud/storage", 5_000_000)]

    def ended() -> bool:
        """A trainer that has written its last file still takes a moment to end: webhooks may come twice."""
        nudge = httpx.post(f"{outside.url}/api/webhooks/elsewhere", content=ref, headers={"webhook-signature": "right"})
        assert (nudge.status_code, nudge.json()) == (200, {"received": True})
        return client.job(job.job_id).status is JobState.COMPLETED

    eventually(ended, patience_s=40)


def _ref(outside: Outside, job_id: str) -> str:
    store = Store.open(outside.home.database)
    try:
        return store.jobs.get(job_id).run.ref
    finally:
        store.close()


@pytest.fixture(params=["second listener", "notebook server"])
def webhooks(request: pytest.FixtureRequest, outside: Outside) -> str:
    return f"{outside.url if request.param == 'second listener' else outside.server.url.rstrip('/')}/api/webhooks"


@pytest.mark.parametrize(
    ("provider", "signature", "status", "code"),
    [
        ("elsewhere", "right", 200, None),
        ("elsewhere", "wrong", 403, "forbidden"),
        ("elsewhere", "", 403, "forbidden"),
        ("local", "right", 404, "not_found"),
        ("simpletuner_io", "right", 404, "not_found"),
        ("nobody", "right", 404, "not_found"),
    ],
)
def test_what_a_webhook_is_answered(
    webhooks: str, provider: str, signature: str, status: int, code: str | None
) -> None:
    answer = httpx.post(f"{webhooks}/{provider}", content=b"no run", headers={"webhook-signature": signature})
    assert (answer.status_code, answer.json().get("code")) == (status, code)
    assert "set-cookie" not in answer.headers


def test_a_webhook_is_small(webhooks: str) -> None:
    right = {"webhook-signature": "right"}
    assert httpx.post(f"{webhooks}/elsewhere", content=bytes(1 << 20), headers=right).status_code == 200
    answer = httpx.post(f"{webhooks}/elsewhere", content=bytes((1 << 20) + 1), headers=right)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_webhook_that_takes_long_to_verify_is_answered_first(outside: Outside) -> None:
    answer = httpx.post(
        f"{outside.url}/api/webhooks/elsewhere", content=b"slow", headers={"webhook-signature": "right"}
    )
    assert (answer.status_code, answer.json()) == (202, {"received": True})
    eventually((outside.folder / "started").exists)
    (outside.folder / "go-on").touch()


def test_only_post_is_a_webhook(webhooks: str) -> None:
    assert httpx.get(f"{webhooks}/elsewhere").status_code == 405


# ------------------------------------------------------------ what it says of itself


def test_health_and_config_tell(outside: Outside) -> None:
    with outside.server.http() as told:
        parts = {part["name"]: part for part in told.get("/health").json()["components"]}
        upload = told.get("/local-upload/config").json()
    assert parts["public listener"]["status"] == "healthy"
    assert (upload["enabled"], upload["endpoint_url"]) == (True, f"{outside.url}/api/cloud/storage")
    assert (upload["bucket"], upload["outputs_dir"]) == ("outputs", str(outside.home.outputs))
    given = json.loads(upload["config_json"])
    assert given == [
        {"provider": "s3", "bucket": "outputs", "endpoint_url": upload["endpoint_url"], "region": "us-east-1"}
    ]


def test_a_port_that_is_taken_is_told_and_the_notebook_goes_on(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = (f"--SimpleTunerLabApp.public_port={port}", f"--SimpleTunerLabApp.public_url=http://127.0.0.1:{port}")
        server = Server(tmp_path, quick_home(tmp_path).root, BASE, *options).start()
        try:
            with server.http() as told:
                health = told.get("/health")
                assert (health.status_code, health.json()["status"]) == (200, "degraded")
                parts = {part["name"]: part for part in health.json()["components"]}
                assert told.get("/health/ready").status_code == 200
                assert told.get("/local-upload/config").json()["enabled"] is False
                assert told.get("/jobs").json()["total"] == 0
            assert parts["public listener"]["status"] == "unhealthy"
            assert f"port {port}" in parts["public listener"]["message"]
            assert f"cannot listen at 127.0.0.1, port {port}: " in server.log()
            assert "Traceback" not in server.log()
        finally:
            server.stop()


def test_without_a_public_url_nothing_elsewhere_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the base-URL routes take webhooks all the same: on JupyterHub there is no second listener."""
    home = quick_home(tmp_path)
    site, settings = installed_elsewhere(tmp_path, str(installed_as_python(tmp_path)))
    (home.provider_settings / "elsewhere.json").write_text(settings)
    monkeypatch.setenv("PYTHONPATH", site)
    server = Server(tmp_path, home.root, BASE).start()
    try:
        asked = SubmitRequest(
            config=config(), dataloader=tuple(dataloader(dataset(tmp_path / "images"))), provider="elsewhere"
        )
        with pytest.raises(errors.InvalidRequest, match="no public URL is set") as caught:
            server.client().plan(asked)
        assert "SimpleTunerLabApp.public_url" in caught.value.hint
        answer = httpx.post(f"{server.url}api/webhooks/elsewhere", content=b"x", headers={"webhook-signature": "right"})
        assert answer.status_code == 200
        with server.http() as told:
            tested = told.post("/providers/elsewhere/test-webhook", json={})
            assert (tested.status_code, tested.json()["code"]) == (400, "invalid_request")
            assert "SimpleTunerLabApp.public_url" in tested.json()["hint"]
            assert told.get("/health").json()["components"][1] == {
                "name": "public listener",
                "status": "off",
                "message": "",
            }
    finally:
        server.stop()
