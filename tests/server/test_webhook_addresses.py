"""The tests of webhooks that go by the status: what arrives is 200, what does not is an error; no other address is asked."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from simpletuner_lab.core.secret import Secret
from simpletuner_lab.testing.replicate_stand import replicate_stand
from tests.server.server_kit import TOKEN
from tests.server.webhook_kit import Hooked, hooked_server

EXTERNAL = "/providers/signed/test-webhook-external"


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooked]:
    with hooked_server(tmp_path_factory.mktemp("addresses")) as running:
        yield running


@pytest.fixture
def http(hooked: Hooked) -> Iterator[httpx.Client]:
    with hooked.server.http() as made:
        yield made


def asked(hooked: Hooked, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"token {TOKEN}"}
    return httpx.post(f"{hooked.server.url}api/webhooks/test", json=body, headers=headers, timeout=30)


# ------------------------------------------------------------ sent by the provider


def test_it_comes(hooked: Hooked, http: httpx.Client) -> None:
    hooked.provider_sends("signed")
    answer = http.post(EXTERNAL)
    told = answer.json()
    assert (answer.status_code, told["success"], told["error"], told["status_code"]) == (200, True, None, 200)
    assert (told["prediction_id"], told["details"]["reached"]) == ("run-of-nobody", True)
    assert "a webhook came from 127.0.0.1 (it costs nothing)" in told["message"]
    assert 0 < told["latency_ms"] == told["details"]["took_s"] * 1000


@pytest.mark.parametrize(
    ("sends", "step", "words"),
    [
        ("nothing", "path", "no webhook came within 0.3 s (it costs nothing)"),
        ("forged", "signature", "not signed as it must be"),
        ("from elsewhere", "signature", "not taken from this address"),
    ],
)
def test_it_does_not_come_or_is_refused(hooked: Hooked, http: httpx.Client, sends: str, step: str, words: str) -> None:
    hooked.provider_sends(sends)
    answer = http.post(EXTERNAL, json={"wait_s": 0.3 if sends == "nothing" else 20})
    told = answer.json()
    assert (answer.status_code, told["code"]) == (502, "not_reached")
    assert words in told["detail"]
    assert told["hint"]
    assert [problem["path"] for problem in told["problems"]] == [step]


def test_a_provider_that_cannot(hooked: Hooked, http: httpx.Client) -> None:
    hooked.provider_sends("trouble")
    assert (http.post(EXTERNAL).status_code, http.post(EXTERNAL).json()["detail"]) == (503, "it is out of credit")
    assert http.post("/providers/local/test-webhook-external").json()["code"] == "conflict"
    assert http.post("/providers/nobody/test-webhook-external").json()["code"] == "provider_not_found"
    for wrong in ({"wait_s": 0}, {"wait_s": 61}, {"mode": "direct"}, []):
        assert http.post(EXTERNAL, json=wrong).json()["code"] == "invalid_request"


def test_replicate_names_its_prediction(hooked: Hooked, http: httpx.Client) -> None:
    with replicate_stand() as stand:
        stand.emulator.conduct.queue_s = stand.emulator.conduct.boot_s = 0
        client = hooked.server.client()
        client.setup.change("replicate", stand.settings)
        client.setup.set_token("replicate", Secret(stand.token))
        told = http.post("/providers/replicate/test-webhook-external").json()
        (made,) = stand.emulator.predictions
        assert told["prediction_id"] == made.id
        by_name = asked(hooked, provider="replicate", method="replicate_cog")
        assert (by_name.status_code, by_name.json()["method"]) == (200, "replicate_cog")
        assert len(stand.emulator.predictions) == 2


# ------------------------------------------------------------ at an address


def test_its_own_address(hooked: Hooked) -> None:
    before = hooked.seen()
    for url in ("", hooked.route, f"{hooked.route}/", hooked.route.replace("http:", "HTTP:")):
        answer = asked(hooked, provider="signed", webhook_url=url)
        told = answer.json()
        assert answer.status_code == 200, answer.text
        assert (told["success"], told["status_code"], told["error"], told["method"]) == (True, 200, None, "direct")
        assert (told["webhook_url"], told["latency_ms"] > 0) == (hooked.route, True)
    assert hooked.seen() == before, "no provider read it"
    hooked.provider_sends("signed")
    assert asked(hooked, provider="signed", method="provider").json()["method"] == "provider"


def test_no_other_address_is_asked(hooked: Hooked) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.3)
        port = other.getsockname()[1]
        for url in (
            f"http://127.0.0.1:{port}/api/webhooks/signed",
            f"http://127.0.0.1:{port}",
            f"{hooked.url.replace('127.0.0.1', f'127.0.0.1:{port}@127.0.0.1')}/api/webhooks/signed",
            f"{hooked.url}/api/webhooks/local",
            f"{hooked.url}/api/cloud/storage",
            f"{hooked.route}?a=b",
            f"{hooked.route}#a",
            hooked.route_in_jupyter,
            "http://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "http://[::1",
            "x",
        ):
            for method in (None, "direct", "provider"):
                answer = asked(hooked, provider="signed", webhook_url=url, method=method)
                assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request"), url
                assert "no other is asked" in answer.json()["detail"]
                assert answer.json()["hint"] == f"leave it out, or give {hooked.route}"
        with pytest.raises(TimeoutError):
            other.accept()


def test_a_question_that_is_none(hooked: Hooked) -> None:
    assert asked(hooked, provider="nobody").json()["code"] == "provider_not_found"
    assert asked(hooked, provider="local").json()["code"] == "conflict"
    for wrong in ({}, {"provider": "signed", "timeout": 0}, {"provider": "signed", "timeout": 61}, {"provider": "signed", "method": "carrier"}):  # fmt: skip
        assert asked(hooked, **wrong).json()["code"] == "invalid_request"


def test_who_may(hooked: Hooked) -> None:
    """Nobody without a login, and nobody at all on the listener that is seen from outside."""
    for path in ("test", "upload/progress/none"):
        for verb in ("GET", "POST"):
            assert httpx.request(verb, f"{hooked.server.url}api/webhooks/{path}", json={}).status_code in {403, 405}
    assert httpx.post(f"{hooked.url}/api/webhooks/test", json={"provider": "signed"}).status_code in {403, 404}
    assert httpx.get(f"{hooked.url}/api/webhooks/upload/progress/none").status_code == 404


def test_nothing_comes_in_time(hooked: Hooked) -> None:
    answer = asked(hooked, provider="signed", timeout=0.000001)
    assert (answer.status_code, answer.json()["code"]) == (502, "not_reached")
