"""Does a webhook arrive: one that the lab sends to itself, and one that the provider is made to send."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from IPython.core.interactiveshell import InteractiveShell

from simpletuner_lab import cli
from simpletuner_lab.core.errors import Conflict
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.server.trials import Arrival, Trials
from simpletuner_lab.services.grants import ServerKey
from simpletuner_lab.services.reach.hook import examine_webhook, of_the_caller
from simpletuner_lab.services.reach.report import Mode
from simpletuner_lab.services.webhook_proof import HEADER, Proof, Prover
from simpletuner_lab.testing.replicate_emulator import WebhookFault
from simpletuner_lab.testing.replicate_stand import replicate_stand
from tests.lab_kit import quick_home
from tests.server.server_kit import TOKEN, free_port
from tests.server.webhook_kit import Hooked, hooked_server, post

TEST = "/providers/signed/test-webhook"


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooked]:
    with hooked_server(tmp_path_factory.mktemp("hooked")) as running:
        yield running


def steps(answer: httpx.Response) -> dict[str, tuple[str, str]]:
    assert answer.status_code == 200, answer.text
    return {step["name"]: (step["status"], step["message"]) for step in answer.json()["steps"]}


# ------------------------------------------------------------ from here


def test_direct(hooked: Hooked) -> None:
    before = hooked.seen()
    found = hooked.server.client().test_webhook("signed", Mode.DIRECT)
    assert (found.provider, found.mode, found.url, found.reached) == ("signed", Mode.DIRECT, hooked.route, True)
    assert [(step.name.value, step.status.value) for step in found.steps] == [
        ("dns", "ok"), ("tcp", "ok"), ("tls", "ok"), ("path", "ok"), ("signature", "ok")
    ]  # fmt: skip
    assert "called from 127.0.0.1" in found.steps[3].message
    assert 0 < found.took_s < 5
    assert hooked.seen() == before  # no provider read it


@pytest.fixture
def proof(hooked: Hooked) -> Proof:
    return prover(hooked).make("signed")


def prover(hooked: Hooked, at: float | None = None) -> Prover:
    return Prover(ServerKey.load_or_create(hooked.home.server_key), lambda: time.time() if at is None else at)


def sent(url: str, proof: Proof, body: bytes = b"", header: str = "") -> int:
    headers = {HEADER: (header or proof.header).encode("latin-1")}
    return httpx.post(url, content=body or proof.body, headers=headers, verify=False).status_code


def test_a_proof_is_taken_once(hooked: Hooked, proof: Proof) -> None:
    answer = httpx.post(hooked.route, content=proof.body, headers={HEADER: proof.header})
    assert answer.json() == {"received": True, "test": proof.answer, "caller": "127.0.0.1", "allowed": True}
    assert sent(hooked.route, proof) == 403
    assert sent(hooked.route_in_jupyter, proof) == 403


def test_a_proof_tells_who_is_not_let_in(hooked: Hooked, proof: Proof) -> None:
    """It is taken all the same, so that the test can say what is wrong."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as client:
        told = client.post(hooked.route, content=proof.body, headers={HEADER: proof.header}).json()
    assert (told["test"], told["caller"], told["allowed"]) == (proof.answer, "127.0.0.2", False)
    step = of_the_caller(told["caller"], told["allowed"])
    assert (step.status, "called from 127.0.0.2, which is not in webhook_allowed_ips" in step.message) == (
        "warning",
        True,
    )
    assert "trusted_proxies" in step.hint


def test_a_proof_is_of_this_lab_whole_young_and_for_one_provider(hooked: Hooked, proof: Proof) -> None:
    nonce, at, mac = proof.header.split(".")
    assert sent(hooked.route, proof, proof.body + b" ") == 403
    assert sent(hooked.route, proof, proof.body.replace(b"  ", b" ")) == 403
    assert sent(hooked.route.replace("/signed", "/local"), proof) == 403
    for header in (
        f"{nonce}.{int(at) + 1}.{mac}",
        f"{'0' * 32}.{at}.{mac}",
        f"{nonce}.{at}.{'0' * 64}",
        nonce,
        "x",
        "é",
    ):
        assert sent(hooked.route, proof, header=header) == 403, header
    for late in (-3600, 3600):
        assert sent(hooked.route, prover(hooked, time.time() + late).make("signed")) == 403
    assert sent(hooked.route, Prover(ServerKey(bytes(32)), time.time).make("signed")) == 403
    assert sent(hooked.route, proof, bytes(4097)) == 413
    assert sent(hooked.route, proof) == 200  # none of these spent it


def test_a_test_never_becomes_a_webhook(hooked: Hooked) -> None:
    """A webhook that is signed as it must be is no webhook with that header on it."""
    before = hooked.seen()
    assert post(hooked.route, {"id": "x"}, "msg_both", headers={HEADER: "x"}).status_code == 403
    assert hooked.seen() == before


def test_who_may_test(hooked: Hooked) -> None:
    with hooked.server.http(token="") as http:
        assert http.post(TEST, json={}).status_code in {401, 403}
    with hooked.server.http() as http:
        assert http.post("/providers/nobody/test-webhook", json={}).json()["code"] == "provider_not_found"
        assert http.get(TEST).status_code == 405


@pytest.mark.parametrize(
    "body", [{"mode": "both"}, {"wait_s": 0}, {"wait_s": 61}, {"wait_s": "long"}, {"url": "x"}, []]
)
def test_a_question_that_is_none(hooked: Hooked, body: object) -> None:
    with hooked.server.http() as http:
        answer = http.post(TEST, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_each_fault_on_the_way_is_told_apart(hooked: Hooked) -> None:
    def fault(url: str, prover: Prover) -> tuple[str, str]:
        found = examine_webhook(url, "signed", prover, time.time())
        wrong = [step for step in found.steps if step.status == "failed"]
        assert not found.reached
        assert (len(wrong), bool(wrong[0].hint)) == (1, True)
        return wrong[0].name.value, wrong[0].message

    ours = prover(hooked)
    name, message = fault(f"{hooked.url}/lab", ours)
    assert (name, "/lab/api/webhooks/signed arrives as /lab/api/webhooks/signed" in message) == ("path", True)
    name, message = fault(f"{hooked.server.url}api", ours)  # Jupyter's own 404
    assert (name, "another server answers: 4" in message or "login page" in message) == ("path", True)
    assert fault(f"{hooked.url}", Prover(ServerKey(bytes(32)), time.time))[0] == "signature"
    assert fault(f"http://127.0.0.1:{free_port()}", ours)[0] == "tcp"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Thread(target=_take_and_close, args=(silent,), daemon=True).start()
        name, message = fault(f"http://127.0.0.1:{silent.getsockname()[1]}", ours)
    assert (name, "the connection broke" in message or "no answer" in message) == ("path", True)


def _take_and_close(silent: socket.socket) -> None:
    """The first two connections: one looks whether the port takes any."""
    for _ in range(2):
        silent.accept()[0].close()


# ------------------------------------------------------------ from the provider


def test_by_the_provider(hooked: Hooked) -> None:
    hooked.provider_sends("signed")
    answer = hooked.test(mode="provider")
    assert steps(answer) == {
        "path": ("ok", "a webhook came from 127.0.0.1 (it costs nothing)"),
        "signature": ("ok", "its signature is right"),
    }
    assert answer.json() | {"steps": [], "took_s": 0} == {
        "provider": "signed", "mode": "provider", "url": hooked.route, "reached": True, "steps": [], "took_s": 0
    }  # fmt: skip
    assert {"id": "a run of nobody"} in hooked.seen()  # the way of every webhook


def test_a_signature_that_is_wrong_is_told(hooked: Hooked) -> None:
    hooked.provider_sends("forged")
    found = steps(hooked.test(mode="provider", wait_s=20))
    assert found["path"][0] == "ok"
    assert found["signature"][0] == "failed"
    assert "not signed as it must be" in found["signature"][1]


def test_a_caller_who_is_not_let_in_is_told(hooked: Hooked) -> None:
    hooked.provider_sends("from elsewhere")
    found = steps(hooked.test(mode="provider", wait_s=20))
    assert found["path"] == ("ok", "a webhook came from 127.0.0.2 (it costs nothing)")
    assert found["signature"] == ("failed", "it was refused: webhooks are not taken from this address")


def test_what_never_comes_is_told(hooked: Hooked) -> None:
    hooked.provider_sends("nothing")
    answer = hooked.test(mode="provider", wait_s=0.2)
    assert steps(answer)["path"] == ("failed", "no webhook came within 0.2 s (it costs nothing)")
    assert steps(answer)["signature"][0] == "skipped"
    assert not answer.json()["reached"]


def test_a_provider_that_cannot(hooked: Hooked) -> None:
    hooked.provider_sends("trouble")
    answer = hooked.test(mode="provider")
    assert (answer.status_code, answer.json()["detail"]) == (503, "it is out of credit")
    with hooked.server.http() as http:
        told = http.post("/providers/local/test-webhook", json={"mode": "provider"})
        assert (told.status_code, told.json()["code"]) == (409, "conflict")
        assert "cannot be made to send a webhook" in told.json()["detail"]
        told = http.post("/providers/local/test-webhook", json={"mode": "direct"})
        assert (told.status_code, told.json()["code"]) == (409, "conflict")
        assert "has no webhooks" in told.json()["detail"]
        told = http.post("/providers/signed/test-webhook", json={"mode": "sideways"})
        assert told.status_code == 400
        assert "'sideways' is not one of direct, provider" in told.json()["problems"][0]["message"]


def test_one_trial_at_a_time() -> None:
    asyncio.run(_one_trial_at_a_time())


async def _one_trial_at_a_time() -> None:
    trials = Trials()
    trials.tell("", Arrival(caller="nobody asked"))
    with trials.begun() as nonce:
        with pytest.raises(Conflict), trials.begun():
            pass
        for other in ("", "ü", nonce[1:], nonce + "="):
            trials.tell(other, Arrival(caller="a stranger"))
        assert await trials.arrival(0) is None
        trials.tell(nonce, Arrival(caller="first"))
        trials.tell(nonce, Arrival(caller="second"))
        assert await trials.arrival(0) == Arrival(caller="first")
    with trials.begun() as another:
        trials.tell(nonce, Arrival(caller="late"))
        assert (await trials.arrival(0), another != nonce) == (None, True)


def test_replicate_sends_one(hooked: Hooked) -> None:
    """From the emulator to the second listener, as it would come from Replicate."""
    with replicate_stand() as stand:
        stand.emulator.conduct.queue_s = stand.emulator.conduct.boot_s = 0
        client = hooked.server.client()
        client.setup.change("replicate", stand.settings)
        client.setup.set_token("replicate", Secret(stand.token))
        found = client.test_webhook("replicate", Mode.PROVIDER)
        (made,) = stand.emulator.predictions
        assert [(step.name.value, step.status.value) for step in found.steps] == [("path", "ok"), ("signature", "ok")]
        assert (found.reached, found.url) == (True, hooked.route.replace("/signed", "/replicate"))
        assert f"prediction {made.id} of replicate/hello-world" in found.steps[0].message
        assert client.sync("replicate").synced == 0
        stand.emulator.fail("webhook", WebhookFault(bad_signature=True))
        found = client.test_webhook("replicate", Mode.PROVIDER)
        assert [step.status.value for step in found.steps] == ["ok", "failed"]
        assert len(stand.emulator.predictions) == 2
        assert client.jobs().total == 0


# ------------------------------------------------------------ for people


def test_in_a_terminal(hooked: Hooked, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", TOKEN)
    words = ("webhook", "test", "signed", "--url", hooked.server.url)
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"{hooked.route} is reached"
    assert cli.main((*words, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "direct"
    hooked.provider_sends("forged")
    assert cli.main((*words, "--via-provider")) == 1
    out = capsys.readouterr().out
    assert "failed      signature  it was refused" in out
    assert "webhook_allowed_ips" in out.splitlines()[-1]


def test_in_a_terminal_without_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMPLETUNER_HOME", str(quick_home(tmp_path).root))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    assert cli.main(("webhook", "test", "local")) == 1
    assert "no notebook server of yours runs" in capsys.readouterr().err


def test_in_a_notebook(hooked: Hooked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", TOKEN)
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "simpletuner_lab")
    ran = shell.run_cell(f"%stcloud webhook test signed --url {hooked.server.url} --json")
    assert (ran.result["reached"], ran.result["url"]) == (True, hooked.route)
