"""Webhooks at a real notebook server and at its second listener: floods, bodies of any size, verification that hangs."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from simpletuner_lab.server.hooks import BODY_WITHIN_S, MAX_BODY_BYTES, MAX_UNDER_WAY
from simpletuner_lab.testing import eventually
from tests.server.webhook_kit import PROXY, Hooked, headers_for, hooked_server, post

LARGE = 100_000_000
PIECE = bytes(1 << 20)


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooked]:
    with hooked_server(tmp_path_factory.mktemp("hooked")) as running:
        yield running


@pytest.fixture(params=["second listener", "notebook server"])
def route(request: pytest.FixtureRequest, hooked: Hooked) -> str:
    return hooked.route if request.param == "second listener" else hooked.route_in_jupyter


def memory_mib(hooked: Hooked) -> float:
    assert hooked.server.process is not None
    return psutil.Process(hooked.server.process.pid).memory_info().rss / (1 << 20)


def answered(route: str, *lines: str, body: Iterator[bytes]) -> tuple[str, float]:
    """The answer to a request written by hand, and how much of the body (MB) was sent before it came."""
    url = httpx.URL(route)
    sent, answer, rest = 0, b"", b""
    with socket.create_connection((url.host, url.port), timeout=20) as plain:
        plain.sendall("\r\n".join([f"POST {url.path} HTTP/1.1", f"Host: {url.host}", *lines, "", ""]).encode())
        while not answer.endswith(b"}"):
            readable, writable, _ = select.select([plain], [plain], [], 20)
            if readable:
                piece = plain.recv(1 << 16)
                assert piece, f"ended without a whole answer: {answer!r}"
                answer += piece
            elif writable and (rest := rest or next(body, b"")):
                done = plain.send(rest[: 1 << 16])
                rest, sent = rest[done:], sent + done
    return answer.decode(), sent / 1e6


def endless() -> Iterator[bytes]:
    while True:
        yield PIECE


def endless_chunks() -> Iterator[bytes]:
    while True:
        yield b"%x\r\n" % len(PIECE) + PIECE + b"\r\n"


def test_a_signed_one_is_taken_and_taken_again(hooked: Hooked, route: str) -> None:
    """A retry keeps its id; both are answered well. One byte more is another matter."""
    told = {"id": "a run of nobody", "at": route}
    for _ in range(2):
        answer = post(route, told, "msg_again")
        assert (answer.status_code, answer.json()) == (200, {"received": True})
    assert told in hooked.seen()
    body = json.dumps(told).encode()
    refused = httpx.post(route, verify=False, content=body + b" ", headers=headers_for(body))
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    old = httpx.post(route, verify=False, content=body, headers=headers_for(body, at=int(time.time()) - 301))
    assert (old.status_code, old.json()["detail"]) == (403, refused.json()["detail"])


def test_a_body_of_100_mb_is_refused_by_its_length(hooked: Hooked, route: str) -> None:
    """At once, in so many words, and nothing of it is kept."""
    before = memory_mib(hooked)
    for _ in range(3):
        text, sent = answered(route, f"Content-Length: {LARGE}", body=endless())
        assert text.startswith("HTTP/1.1 413")
        assert '"code": "too_large"' in text
        assert f"at most {MAX_BODY_BYTES} bytes" in text
        assert sent < 20
    assert memory_mib(hooked) - before < 16


def test_whoever_sends_100_mb_first_reads_the_answer_afterwards(route: str) -> None:
    answer = httpx.post(route, verify=False, content=bytes(LARGE))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_body_of_no_length_is_refused_once_it_is_too_long(hooked: Hooked, route: str) -> None:
    before = memory_mib(hooked)
    for _ in range(3):
        text, sent = answered(route, "Transfer-Encoding: chunked", body=endless_chunks())
        assert text.startswith("HTTP/1.1 413")
        assert '"code": "too_large"' in text
        assert sent < 40
    assert memory_mib(hooked) - before < 16


def test_who_asks_first_is_told_first(route: str) -> None:
    """curl does, of a body of some size: it sends none."""
    text, sent = answered(route, f"Content-Length: {LARGE}", "Expect: 100-continue", body=iter(()))
    assert (text.split()[1], sent) == ("413", 0)


def test_more_than_was_announced_is_no_part_of_it(route: str) -> None:
    text, _ = answered(route, "Content-Length: 10", body=endless())
    assert text.startswith("HTTP/1.1 403")


@pytest.mark.parametrize("length", ["-1", "1e3", "10, 20", "٣"])
def test_a_length_that_is_none(route: str, length: str) -> None:
    with socket.create_connection((httpx.URL(route).host, httpx.URL(route).port), timeout=20) as plain:
        plain.sendall(
            f"POST {httpx.URL(route).path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{{}}".encode()
        )
        status = plain.recv(1 << 16).split(b" ")[1]
    assert status in {b"400", b"413"}


@pytest.mark.slow
def test_a_body_that_does_not_come_ends_the_connection(route: str) -> None:
    began = time.monotonic()
    with socket.create_connection((httpx.URL(route).host, httpx.URL(route).port), timeout=60) as plain:
        plain.sendall(f"POST {httpx.URL(route).path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{".encode())
        assert plain.recv(1 << 16) == b""
    assert BODY_WITHIN_S - 1 < time.monotonic() - began < BODY_WITHIN_S + 5


def test_verification_that_hangs_holds_nobody_up(hooked: Hooked) -> None:
    """Each sender is answered in time, so many and no more are waited for, and all else goes on."""
    go_on = hooked.folder / "go-on"
    go_on.unlink(missing_ok=True)
    route, known = hooked.route, len(hooked.seen())
    try:
        with ThreadPoolExecutor(MAX_UNDER_WAY) as pool:
            told = {"id": "x", "hang": True}
            answers = list(pool.map(lambda number: post(route, told, f"msg_{number}"), range(MAX_UNDER_WAY)))
        assert {answer.status_code for answer in answers} == {202}
        assert max(answer.elapsed.total_seconds() for answer in answers) < 5
        more = post(route, {"id": "y"})
        assert (more.status_code, more.json()["code"]) == (503, "provider_unavailable")
        assert hooked.test(mode="direct").json()["reached"]
        with hooked.server.http() as http:
            assert http.get("/health").json()["status"] == "healthy"
    finally:
        go_on.touch()
    eventually(lambda: len(hooked.seen()) == known + MAX_UNDER_WAY)
    eventually(lambda: post(route, {"id": "y"}).status_code == 200)


# ------------------------------------------------------------ from whom


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        ("203.0.113.7", 200),
        ("198.51.100.9, 203.0.113.7", 200),
        ("2001:db8::5, 127.0.0.3", 200),
        ("::ffff:203.0.113.7", 200),
        ("", 403),
        ("203.0.113.7, 198.51.100.9", 403),
        ("203.0.113.7, unknown", 403),
        ("203.0.113.8", 403),
    ],
)
def test_who_is_let_in_through_a_proxy(hooked: Hooked, route: str, forwarded: str, status: int) -> None:
    seen = len(hooked.seen())
    answer = post(route, {"id": "x"}, headers={"X-Forwarded-For": forwarded} if forwarded else {}, source=PROXY)
    assert answer.status_code == status
    assert (len(hooked.seen()) > seen) is (status == 200)
    if status == 403:
        assert answer.json()["code"] == "forbidden"


@pytest.mark.parametrize("headers", [{"X-Real-Ip": "203.0.113.7"}, {"X-Forwarded-For": "203.0.113.7"}])
def test_nobody_else_is_believed(hooked: Hooked, route: str, headers: dict[str, str]) -> None:
    """Whatever Jupyter makes of such headers."""
    answer = post(route, {"id": "x"}, headers=headers, source="127.0.0.2")
    assert (answer.status_code, answer.json()["detail"]) == (403, "webhooks are not taken from this address")
    assert post(route, {"id": "x"}, headers={"X-Forwarded-For": "198.51.100.9"}).status_code == 200  # 127.0.0.1 may


def test_a_refusal_comes_before_the_body(route: str) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as client:
        assert client.post(route, content=bytes(MAX_BODY_BYTES)).status_code == 403
    text, sent = answered(route, f"Content-Length: {LARGE}", body=endless())
    assert (text.split()[1], sent < 20) == ("413", True)


def test_why_it_cannot_be_verified_is_for_the_log_alone(hooked: Hooked, route: str) -> None:
    for _ in range(10):
        answer = post(route, {"id": "x", "trouble": True})
        assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
        assert "oken" not in answer.text
        assert answer.json()["hint"] == ""
    assert hooked.server.log().count("one was not taken: Invalid token") == 1


def test_refusals_fill_no_log(hooked: Hooked) -> None:
    for _ in range(20):
        assert post(hooked.route, {"id": "x"}, source="127.0.0.2").status_code == 403
    assert hooked.server.log().count("webhooks for signed: refused from") == 1
