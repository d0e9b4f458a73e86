"""What the emulated Replicate takes and what it refuses: tokens, bodies, headers; and its control side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

import httpx
import pytest
from replicate.exceptions import ReplicateError

from simpletuner_lab.testing.replicate_emulator import (
    ROUTES,
    Fault,
    ManualClock,
    ReplicateEmulator,
    Step,
    replicate_emulator,
)
from tests.testing.replicate_kit import (
    ACCOUNTS,
    HELLO,
    NOW,
    TRAINER,
    TRAINER_VERSION,
    client,
    plain,
    receiving,
    statuses,
)

BODY = {"version": TRAINER_VERSION, "input": {"max_train_steps": 3}}


@pytest.fixture(scope="module")
def shared() -> Iterator[ReplicateEmulator]:
    """For requests that change nothing."""
    with replicate_emulator(ACCOUNTS, clock=ManualClock(NOW), deployments={"ann/trainer": TRAINER}) as running:
        yield running


@pytest.fixture
def emulator() -> Iterator[ReplicateEmulator]:
    with replicate_emulator(ACCOUNTS, clock=ManualClock(NOW)) as running:
        yield running


# ---------------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("header", [None, "Bearer r8_nobody", "Token r8_ann", "Bearer", "r8_ann"])
def test_who_is_not_known(shared: ReplicateEmulator, header: str | None) -> None:
    with plain(shared, "") as http:
        told = http.get("/v1/account", headers={} if header is None else {"Authorization": header})
    assert told.status_code == 401
    assert told.json() == {
        "title": "Unauthenticated", "detail": "You did not pass a valid authentication token", "status": 401
    }  # fmt: skip


def test_a_token_that_is_revoked(emulator: ReplicateEmulator) -> None:
    ann = client(emulator)
    assert ann.accounts.current().username == "ann"
    emulator.revoke("r8_ann")
    with pytest.raises(ReplicateError) as told:
        ann.accounts.current()
    assert told.value.status == 401


# --------------------------------------------------------------------------------------------------------- routes


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("GET", "/v1"), ("GET", "/v1/nothing"), ("GET", "/v1/collections"), ("DELETE", "/v1/predictions"),
        ("PUT", "/v1/account"), ("POST", "/v1/hardware"), ("GET", "/v1/deployments"), ("QUERY", "/v1/models"),
        ("GET", "/v1/predictions/nothing"), ("POST", "/v1/predictions/nothing/cancel"), ("GET", "/v1/files/nothing"),
        ("GET", f"/v1/models/{TRAINER}/versions/nothing"), ("GET", "/delivery/nothing/w.bin"), ("GET", "/predictions"),
    ],
)  # fmt: skip
def test_everything_else_is_not_found(shared: ReplicateEmulator, method: str, path: str) -> None:
    with plain(shared) as http:
        told = http.request(method, path)
    assert (told.status_code, told.json()["status"]) == (404, 404)


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("/v1/predictions", {**BODY, "webhook_completed": "http://x/"}, "webhook_completed"),
        ("/v1/predictions", {**BODY, "cancel_after": "2h"}, "cancel_after"),
        ("/v1/predictions", {**BODY, "webhook_events_filter": ["failed"]}, "webhook_events_filter"),
        ("/v1/predictions", {**BODY, "webhook_events_filter": "start"}, "webhook_events_filter"),
        ("/v1/predictions", {**BODY, "webhook": "ftp://x/"}, "webhook"),
        ("/v1/predictions", {**BODY, "webhook": 5}, "webhook"),
        ("/v1/predictions", {"version": TRAINER_VERSION}, "input"),
        ("/v1/predictions", {"input": {}}, "version"),
        ("/v1/predictions", {**BODY, "version": "0" * 64}, "version"),
        ("/v1/predictions", {**BODY, "version": TRAINER}, "version"),
        ("/v1/predictions", {**BODY, "version": f"{HELLO}:{TRAINER_VERSION}"}, "version"),
        ("/v1/predictions", {**BODY, "input": {"max_train_steps": 0}}, "max_train_steps"),
        ("/v1/predictions", {**BODY, "input": {"max_train_steps": True}}, "max_train_steps"),
        ("/v1/predictions", {**BODY, "input": {"hf_token": 5, "return_logs": "yes"}}, "return_logs"),
        ("/v1/predictions", {"version": HELLO, "input": {}}, "text"),
        ("/v1/predictions", [], "body"),
        (f"/v1/models/{HELLO}/predictions", {"version": TRAINER_VERSION, "input": {"text": "x"}}, "version"),
        ("/v1/deployments/ann/trainer/predictions", BODY, "version"),
        (f"/v1/models/{TRAINER}/versions/{TRAINER_VERSION}/trainings", {**BODY, "destination": HELLO}, "version"),
    ],
)  # fmt: skip
def test_a_create_that_the_document_does_not_allow(
    shared: ReplicateEmulator, path: str, body: object, word: str
) -> None:
    with plain(shared) as http:
        told = http.post(path, json=body)
    assert (told.status_code, word in told.json()["detail"]) == (422, True), told.text
    assert shared.predictions == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("Prefer", value) for value in ("wait=0", "wait=61", "wait=x", "respond-async", "")]
    + [("Cancel-After", value) for value in ("4", "4s", "", "m", "soon", "1d", "-30", "30s 1m", "1.5h")],
)
def test_a_header_that_the_document_does_not_allow(shared: ReplicateEmulator, name: str, value: str) -> None:
    with plain(shared) as http:
        told = http.post("/v1/predictions", json=BODY, headers={name: value})
    assert (told.status_code, name in told.json()["detail"]) == (422, True)
    assert shared.predictions == ()


@pytest.mark.parametrize(
    ("value", "seconds"), [("5", 5), ("30s", 30), ("15m", 900), ("2h30m", 9000), ("2h", 7200), ("1h1m1s", 3661)]
)
def test_a_deadline_in_words(emulator: ReplicateEmulator, value: str, seconds: int) -> None:
    with plain(emulator) as http:
        told = http.post("/v1/predictions", json=BODY, headers={"Cancel-After": value}).json()
    assert datetime.fromisoformat(told["deadline"]).timestamp() == NOW + seconds


def test_other_requests_out_of_form(shared: ReplicateEmulator) -> None:
    with plain(shared) as http:
        asked = (
            http.post("/v1/predictions", content=b"{}", headers={"Content-Type": "text/plain"}),
            http.post("/v1/predictions", content=b"{", headers={"Content-Type": "application/json"}),
            http.get("/v1/predictions", params={"cursor": "abc"}),
            http.get("/v1/predictions", params={"created_after": "yesterday"}),
            http.post("/v1/models/ann/nothing/predictions", json={"input": {}}),
            http.post(f"/v1/models/{TRAINER}/predictions", json={"input": {}}),
            http.post("/v1/deployments/ann/nothing/predictions", json={"input": {}}),
        )
    assert [one.status_code for one in asked] == [415, 400, 422, 422, 404, 404, 404]


def test_a_wait_says_what_it_did(emulator: ReplicateEmulator) -> None:
    emulator.play(TRAINER, [Step(after_s=20, output="done")])
    with plain(emulator) as http:
        asked = [http.post("/v1/predictions", json=BODY, headers={"Prefer": value}) for value in ("wait=10", "wait")]
        none = http.post("/v1/predictions", json=BODY)
    assert [(one.status_code, one.headers["Preference-Applied"], one.json()["status"]) for one in asked] == [
        (202, "wait=10", "processing"), (201, "wait=60", "succeeded")
    ]  # fmt: skip
    assert (none.status_code, "Preference-Applied" in none.headers) == (201, False)
    with plain(emulator) as http:
        cancelled = http.post(f"/v1/predictions/{none.json()['id']}/cancel", json={"why": 1})
    assert (cancelled.status_code, statuses(emulator)[-1]) == (422, "starting")


def test_allowances(emulator: ReplicateEmulator) -> None:
    with plain(emulator) as http:
        made, seen = http.post("/v1/predictions", json=BODY), http.get("/v1/account")
        left = [(one.headers["ratelimit-remaining"], one.headers["ratelimit-reset"]) for one in (made, seen)]
        assert left == [("599", "1"), ("2999", "1")]
        emulator.conduct.creates_per_min = 2
        emulator.advance(60)
        told = [http.post("/v1/predictions", json=BODY) for _ in range(3)]
        assert [one.status_code for one in told] == [201, 201, 429]
        assert (told[2].headers["Retry-After"], "throttled" in told[2].json()["detail"]) == ("30", True)
        emulator.advance(30)
        assert http.post("/v1/predictions", json=BODY).status_code == 201
    assert len(emulator.predictions) == 4


# ----------------------------------------------------------------------------------------------- the control side


def control(emulator: ReplicateEmulator) -> httpx.Client:
    return plain(emulator, emulator.control_token)


def test_no_user_sees_the_control_side(shared: ReplicateEmulator) -> None:
    paths = ("billing", "predictions", "requests", "deliveries", "clock", "faults", "secret", "scripts", "nothing")
    for token in ("r8_ann", "", "r8_nobody"):
        with plain(shared, token) as http:
            assert {http.get(f"/_emu/{path}").status_code for path in paths} == {404}
            assert http.post("/_emu/clock", json={"advance_s": 60}).status_code == 404
    assert shared.now() == NOW


def test_the_control_side_does_what_python_does(emulator: ReplicateEmulator) -> None:
    run = client(emulator).predictions.create(version=TRAINER_VERSION, input={})
    gone = client(emulator, "r8_bob").predictions.create(version=TRAINER_VERSION, input={})
    with control(emulator) as http:
        assert http.post(f"/_emu/predictions/{gone.id}/abort").status_code == 200
        assert http.post(f"/_emu/predictions/{gone.id}/abort").status_code == 422
        steps = [{"after_s": 30, "log": "x\n", "output": "done"}]
        assert http.post("/_emu/scripts", json={"model": TRAINER, "steps": steps}).status_code == 201
        assert http.post("/_emu/clock", json={"advance_s": 100}).json() == {"now_s": NOW + 100}
        books = http.get("/_emu/billing").json()
        assert [(one["owner"], one["seconds"]) for one in books["charges"]] == [("bob", 0.0), ("ann", 30.0)]
        assert (books["total_usd"], books["prices"][0]["as_of"]) == (pytest.approx(30 * 0.000975), "2026-11-18")
        assert [one["status"] for one in http.get("/_emu/predictions").json()] == ["succeeded", "aborted"]
        fault = {"route": "account.get", "fault": {"status": 503, "times": 3}}
        assert http.post("/_emu/faults", json=fault).status_code == 201
        with plain(emulator) as ann:
            assert ann.get("/v1/account").status_code == 503
            assert http.delete("/_emu/faults").status_code == 204
            assert ann.get("/v1/account").status_code == 200
            secret = http.post("/_emu/secret").json()["key"]
            assert ann.get("/v1/webhooks/default/secret").json() == {"key": secret}
        assert [one["route"] for one in http.get("/_emu/requests").json()][:2] == ["predictions.create"] * 2
        assert http.get("/_emu/deliveries").json() == []
    assert run.id == emulator.predictions[0].id


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", {"route": "nothing", "fault": {"status": 500}}),
        ("faults", {"route": "account.get", "fault": {"nothing": 1}}),
        ("faults", {"route": "account.get", "fault": {"shape": "1999"}}),
        ("faults", {"route": "webhook", "fault": {"status": 500}}),
        ("clock", {"advance_s": -1}),
        ("clock", {}),
        ("clock", {"back_s": 1}),
        ("scripts", {"model": "nothing", "steps": []}),
        ("scripts", {"model": TRAINER, "steps": [{"nothing": 1}]}),
    ],
)
def test_the_control_side_refuses_what_makes_no_sense(shared: ReplicateEmulator, path: str, body: dict) -> None:
    with control(shared) as http:
        told = http.post(f"/_emu/{path}", json=body)
    assert (told.status_code, bool(told.json()["detail"])) == (422, True)
    assert shared.now() == NOW


def test_python_refuses_what_makes_no_sense(shared: ReplicateEmulator) -> None:
    with pytest.raises(ValueError, match="no route"):
        shared.fail("nothing", Fault(status=500))
    with pytest.raises(ValueError, match="no model"):
        shared.play("nothing", [])
    with pytest.raises(ValueError, match="backward"):
        shared.advance(-1)
    assert len(set(ROUTES)) == len(ROUTES) == 23


def test_the_port_of_a_running_one_is_taken(shared: ReplicateEmulator) -> None:
    port = int(shared.url.rpartition(":")[2])
    with pytest.raises(OSError), replicate_emulator(ACCOUNTS, port=port):
        pass


def test_what_went_out_is_told_to_the_control_side(emulator: ReplicateEmulator) -> None:
    with receiving() as receiver, control(emulator) as http:
        body = {**BODY, "webhook": receiver.url, "webhook_events_filter": ["completed"]}
        with plain(emulator) as ann:
            made = ann.post("/v1/predictions", json=body).json()
        emulator.advance(10)
        (told,) = http.get("/_emu/deliveries").json()
        assert (told["prediction_id"], told["word"], told["status"]) == (made["id"], "completed", 200)
        assert json.loads(receiver.got[0].body)["id"] == made["id"]
