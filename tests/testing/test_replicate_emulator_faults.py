"""Each fault of the emulated Replicate, and what the real client makes of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest
from replicate.exceptions import ReplicateError

from simpletuner_lab.testing.replicate_emulator import (
    ROUTES,
    Fault,
    ManualClock,
    ReplicateEmulator,
    Shape,
    Step,
    replicate_emulator,
)
from tests.testing.replicate_kit import ACCOUNTS, NOW, TRAINER, TRAINER_VERSION, check, client, plain

BODY = {"version": TRAINER_VERSION, "input": {}}
STEPS = (Step(after_s=10, log="first line\n"), Step(after_s=10, log="last line\n", output="done"))
# recorded from the live service in 2024
CREATED_2024 = {"id", "model", "version", "input", "logs", "error", "status", "created_at", "urls"}
WAITED_2024 = CREATED_2024 | {"output", "data_removed"}


@pytest.fixture
def emulator() -> Iterator[ReplicateEmulator]:
    with replicate_emulator(ACCOUNTS, clock=ManualClock(NOW), plays={TRAINER: STEPS}) as running:
        yield running


def created(emulator: ReplicateEmulator) -> str:
    with plain(emulator) as http:
        return http.post("/v1/predictions", json=BODY).json()["id"]


@pytest.mark.parametrize("status", [401, 402, 404, 409, 422, 429, 500, 502, 503])
def test_a_status_and_nothing_is_done(emulator: ReplicateEmulator, status: int) -> None:
    emulator.fail("predictions.create", Fault(status=status, times=2))
    ann = client(emulator)
    for _ in range(2):  # the client does not try a create again
        with pytest.raises(ReplicateError) as told:
            ann.predictions.create(version=TRAINER_VERSION, input={})
        assert told.value.status == status
    assert emulator.predictions == ()
    ann.predictions.create(version=TRAINER_VERSION, input={})
    assert [seen.status for seen in emulator.seen] == [status, status, 201]


def test_throttled_with_and_without_headers(emulator: ReplicateEmulator) -> None:
    emulator.fail("predictions.list", Fault(status=429, retry_after_s=7))
    emulator.fail("predictions.list", Fault(status=429, ratelimit=False))
    with plain(emulator) as http:
        first, second = http.get("/v1/predictions"), http.get("/v1/predictions")
    names = ("retry-after", "ratelimit-remaining", "ratelimit-reset")
    assert [first.headers.get(name) for name in names] == ["7", "0", "7"]
    assert [second.headers.get(name) for name in names] == [None, None, None]
    assert first.json() == {"detail": "Request was throttled. Your rate limit resets in ~7s."}
    emulator.fail("account.get", Fault(status=429, retry_after_s=0))
    assert client(emulator).accounts.current().username == "ann"  # it tries a GET again
    assert [seen.status for seen in emulator.seen][-2:] == [429, 200]


def test_a_page_of_html(emulator: ReplicateEmulator) -> None:
    """In the place of an error, and of an answer."""
    emulator.fail("predictions.create", Fault(status=502, html=True))
    emulator.fail("predictions.create", Fault(html=True))
    with plain(emulator, checked=False) as http:
        told = [http.post("/v1/predictions", json=BODY) for _ in range(2)]
    assert [(one.status_code, one.headers["content-type"], one.text[:9]) for one in told] == [
        (502, "text/html; charset=utf-8", "<!DOCTYPE"), (200, "text/html; charset=utf-8", "<!DOCTYPE")
    ]  # fmt: skip
    assert len(emulator.predictions) == 1
    emulator.fail("account.get", Fault(status=500, html=True))
    with pytest.raises(ReplicateError) as error:
        client(emulator, checked=False).accounts.current()
    assert (error.value.status, error.value.detail) == (500, None)


def test_half_of_an_answer(emulator: ReplicateEmulator) -> None:
    emulator.fail("predictions.create", Fault(truncated=True))
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        client(emulator, checked=False).predictions.create(version=TRAINER_VERSION, input={})
    assert len(emulator.predictions) == 1


@pytest.mark.parametrize("route", ["predictions.create", "files.create"])
def test_it_is_done_and_the_answer_is_lost(emulator: ReplicateEmulator, route: str) -> None:
    emulator.fail(route, Fault(lost=True))
    with plain(emulator) as http:
        with pytest.raises(httpx.TransportError):
            http.post("/v1/predictions", json=BODY) if route.startswith("p") else http.post(
                "/v1/files", files={"content": b"x"}
            )
        found = http.get(f"/v1/{route.partition('.')[0]}").json()["results"]
    assert len(found) == 1
    assert (emulator.seen[0].route, emulator.seen[0].status) == (route, 0)


def test_a_deletion_whose_answer_is_lost(emulator: ReplicateEmulator) -> None:
    with plain(emulator) as http:
        file = http.post("/v1/files", files={"content": b"x"}).json()
        emulator.fail("files.delete", Fault(lost=True))
        with pytest.raises(httpx.TransportError):
            http.delete(f"/v1/files/{file['id']}")
        assert http.delete(f"/v1/files/{file['id']}").status_code == 404


def test_a_request_that_hangs(emulator: ReplicateEmulator) -> None:
    """A client that gives up knows nothing; one that waits has its answer."""
    fault = emulator.fail("predictions.create", Fault(held=True))
    with plain(emulator) as http:
        with pytest.raises(httpx.ReadTimeout):
            http.post("/v1/predictions", json=BODY, timeout=0.2)
        assert emulator.predictions == ()
        fault.release()
        held = emulator.fail("account.get", Fault(held=True))
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(http.get("/v1/account").status_code))
        thread.start()
        assert held.reached.wait(10)
        assert answers == []
        held.release()
        thread.join(10)
    assert answers == [200]


def test_what_is_mended_does_not_go_wrong(emulator: ReplicateEmulator) -> None:
    emulator.fail("account.get", Fault(status=503, times=9))
    emulator.mend()
    with plain(emulator) as http:
        assert http.get("/v1/account").status_code == 200


@pytest.mark.parametrize("word", ["aborted", "paused"])
def test_a_status_that_the_client_does_not_know(emulator: ReplicateEmulator, word: str) -> None:
    """One such item takes a whole page from the client 1.0; the prediction itself goes on."""
    run = created(emulator)
    created(emulator)
    ann = client(emulator, checked=False)
    for route, ask in (
        ("predictions.get", lambda: ann.predictions.get(run)),
        ("predictions.list", ann.predictions.list),
    ):
        emulator.fail(route, Fault(shown_status=word))
        with pytest.raises(ValueError, match="status"):
            ask()
    with plain(emulator, checked=False) as http:
        emulator.fail("predictions.cancel", Fault(shown_status=word))
        assert http.post(f"/v1/predictions/{run}/cancel").json()["status"] == word
    assert ann.predictions.get(run).status == "canceled"


def test_a_log_that_has_lost_its_beginning(emulator: ReplicateEmulator) -> None:
    run = created(emulator)
    emulator.advance(100)
    ann = client(emulator)
    emulator.fail("predictions.get", Fault(logs_tail=10))
    emulator.fail("predictions.get", Fault(logs_tail=0))
    told = [ann.predictions.get(run).logs for _ in range(3)]
    assert told == ["last line\n", "", "first line\nlast line\n"]


def test_an_output_that_is_not_there(emulator: ReplicateEmulator) -> None:
    emulator.fail("outputs.get", Fault(status=404))
    with plain(emulator, "") as anybody:
        assert anybody.get("/delivery/abc/w.bin").json() == {"detail": "an injected fault", "status": 404}


def test_every_route_can_fail(emulator: ReplicateEmulator) -> None:
    for route in ROUTES:
        emulator.fail(route, Fault(status=500))
    with plain(emulator) as http:
        model, version = f"/v1/models/{TRAINER}", f"/v1/models/{TRAINER}/versions/{TRAINER_VERSION}"
        gets = [
            "/v1/account", "/v1/hardware", model, f"{model}/versions", version, "/v1/predictions", "/v1/predictions/a",
            "/v1/trainings", "/v1/trainings/a", "/v1/files", "/v1/files/a", "/v1/files/a/download",
            "/v1/webhooks/default/secret", "/delivery/a/b", "/v1/nothing",
        ]  # fmt: skip
        posts = [
            f"{version}/trainings", f"{model}/predictions", "/v1/deployments/a/b/predictions", "/v1/predictions",
            "/v1/predictions/a/cancel", "/v1/trainings/a/cancel", "/v1/files",
        ]  # fmt: skip
        asked = [*(http.get(path) for path in gets), *(http.post(path) for path in posts), http.delete("/v1/files/a")]
    assert [one.status_code for one in asked] == [500] * len(ROUTES)
    assert {seen.route for seen in emulator.seen} == set(ROUTES)


# ----------------------------------------------------------------------------------------------------------- shapes


def test_the_answers_of_2024(emulator: ReplicateEmulator) -> None:
    """As recorded, for an emulator and for one answer; the real client reads them."""
    emulator.fail("predictions.create", Fault(shape=Shape.YEAR_2024))
    with plain(emulator, checked=False) as http:
        told = [http.post("/v1/predictions", json=BODY) for _ in range(2)]
        check(told[1])
        assert (set(told[0].json()), set(told[0].json()["urls"])) == (CREATED_2024, {"cancel", "get"})
        emulator.conduct.shape = Shape.YEAR_2024
        waited = http.post("/v1/predictions", json=BODY, headers={"Prefer": "wait=60"})
    assert (waited.status_code, waited.headers["Preference-Applied"]) == (201, "wait=60")
    assert set(waited.json()) == WAITED_2024
    assert (waited.json()["status"], waited.json()["output"]) == ("processing", "done")
    ann = client(emulator, checked=False)
    first = ann.predictions.create(version=TRAINER_VERSION, input={})
    assert (first.output, first.metrics, first.started_at) == (None, None, None)
    emulator.advance(15)
    first.cancel()
    assert (first.status, first.logs, first.output) == ("canceled", None, None)
    assert set(first.metrics or {}) == {"predict_time", "total_time"}
    assert len(ann.predictions.list().results) == 4
