"""Signatures behind a real proxy that changes host and path, and the server's own test of what stands in between."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from simpletuner_lab.services.grants import Grants, ServerKey
from simpletuner_lab.services.reach.probe import signed_headers
from simpletuner_lab.services.store import Store
from simpletuner_lab.testing.storage_server import MemoryGrants
from tests.lab_kit import quick_home
from tests.nginx_kit import needs_nginx, nginx
from tests.server.outside_kit import BASE, Outside, s3
from tests.server.server_kit import Server, free_port


@pytest.fixture
def behind(outside: Outside, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """A real nginx with one location, UPSTREAM being the second listener; gives its URL."""
    with contextlib.ExitStack() as running:

        def start(location: str) -> str:
            port = free_port()
            lines = "client_max_body_size 0; proxy_http_version 1.1; proxy_request_buffering off; " + location
            block = f"server {{ listen 127.0.0.1:{port}; {lines.replace('UPSTREAM', outside.url)} }}"
            running.enter_context(nginx(tmp_path / "nginx", block, port))
            return f"http://127.0.0.1:{port}"

        yield start


def examined(outside: Outside, url: str = "") -> dict[str, Any]:
    with outside.server.http() as told:
        answer = told.post("/local-upload/test", json={"url": url})
    assert answer.status_code == 200, answer.text
    assert outside.owner.secret_key.reveal() not in answer.text
    return answer.json()


def test_the_server_tests_itself(outside: Outside) -> None:
    found = examined(outside)
    assert found["url"] == f"{outside.url}/api/cloud/storage"
    assert (found["reached"], {look["status"] for look in found["steps"]}) == (True, {"ok"})
    assert [look["name"] for look in found["steps"]] == ["dns", "tcp", "tls", "path", "signature", "upload", "clock"]


def test_the_notebooks_own_port_is_not_the_second_listener(outside: Outside) -> None:
    found = examined(outside, outside.server.url)
    (told,) = [look for look in found["steps"] if look["status"] != "ok"]
    assert (found["reached"], told["name"], told["status"]) == (True, "path", "warning")
    assert "not that of the second listener" in told["message"]
    assert "public_port" in told["hint"]


@needs_nginx
@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("location /lab/ { proxy_set_header Host $http_host; proxy_pass UPSTREAM; }", "leaves the path of public_url on: .* /lab/api/cloud/storage/outputs/"),
        ("location /lab/ { proxy_pass UPSTREAM; }", "leaves the path of public_url on: .* /lab/api/cloud/storage/outputs/"),
        ("location /lab/api/ { proxy_pass UPSTREAM/; }", "changes the path: /lab/api.* arrives as /cloud/storage/outputs/"),
        ("location /lab/ { proxy_pass UPSTREAM/api/; }", "changes the path: /lab/api.* arrives as /api/api/cloud/storage/outputs/"),
    ],
)  # fmt: skip
def test_a_path_that_a_proxy_spoils(outside: Outside, behind: Callable[[str], str], location: str, words: str) -> None:
    found = examined(outside, behind(location) + "/lab")
    fault = next(look for look in found["steps"] if look["status"] == "failed")
    assert fault["name"] == "path"
    assert re.search(words, fault["message"]), fault["message"]
    assert found["reached"] is False


@needs_nginx
def test_a_stripped_path_and_any_host_are_right_where_public_url_says_so(tmp_path: Path) -> None:
    """On the second listener and, as on JupyterHub, on the routes under the base URL."""
    public, second = free_port(), free_port()
    home = quick_home(tmp_path)
    options = (
        f"--SimpleTunerLabApp.public_port={second}",
        f"--SimpleTunerLabApp.public_url=http://127.0.0.1:{public}/lab",
    )
    server = Server(tmp_path, home.root, BASE, *options)
    to_second = f"proxy_pass http://127.0.0.1:{second}$rest;"
    to_base = (
        f"proxy_set_header X-Forwarded-Host evil.example; proxy_pass http://127.0.0.1:{server.port}/user/ann$rest;"
    )
    server.start()
    try:
        owner = Grants(MemoryGrants(), ServerKey.load_or_create(home.server_key), lambda: 0.0).owner()
        for number, location in enumerate((to_second, to_base)):
            block = (
                "map $request_uri $rest { ~^/lab(/.*)$ $1; } "
                f"server {{ listen 127.0.0.1:{public}; client_max_body_size 0; proxy_http_version 1.1; "
                f"proxy_request_buffering off; location /lab/ {{ {location} }} }}"
            )
            with nginx(tmp_path / f"nginx{number}", block, public):
                with server.http() as told:
                    found = told.post("/local-upload/test", json={}).json()
                assert {look["status"] for look in found["steps"]} == {"ok"}, found
                client = s3(f"http://127.0.0.1:{public}/lab/api/cloud/storage", owner)
                client.put_object(Bucket="outputs", Key="a b/é+%", Body=b"x" * 100_000)
                assert client.get_object(Bucket="outputs", Key="a b/é+%")["Body"].read() == b"x" * 100_000
    finally:
        server.stop()


def test_what_a_forwarded_header_says_counts_for_nothing(outside: Outside) -> None:
    """Signed for another host, which the sender then claims to be."""
    keys = outside.owner
    signed = signed_headers("GET", "http://evil.example/api/cloud/storage/outputs/x", keys)
    claims = {
        "x-forwarded-host": "evil.example", "x-forwarded-proto": "http", "x-forwarded-prefix": "/", "x-original-host": "evil.example",
        "forwarded": "host=evil.example;proto=http", "x-forwarded-port": "80", "x-forwarded-server": "evil.example",
    }  # fmt: skip
    for url in (outside.url, outside.server.url.rstrip("/")):
        answer = httpx.get(f"{url}/api/cloud/storage/outputs/x", headers={**signed, **claims})
        assert (answer.status_code, "SignatureDoesNotMatch" in answer.text) == (403, True)


def test_a_job_that_was_told_another_url_still_signs_right(outside: Outside) -> None:
    """The public URL changed under a run: what it signs for where it was told to go is right."""
    store = Store.open(outside.home.database)
    made = Grants(store.grants, ServerKey.load_or_create(outside.home.server_key), lambda: 0.0)
    told = "https://old.example/lab/api/cloud/storage"
    _, keys = made.issue_for_job("job-old", 1, 4e9, endpoint_url=told)
    _, other = made.issue_for_job("job-new", 1, 4e9)
    store.close()
    for holder, status in ((keys, 404), (other, 403)):
        prefix = "job-old" if holder is keys else "job-new"
        signed = signed_headers("GET", f"{told}/outputs/{prefix}/x", holder)
        answer = httpx.get(f"{outside.url}/api/cloud/storage/outputs/{prefix}/x", headers=signed)
        assert answer.status_code == status, answer.text
