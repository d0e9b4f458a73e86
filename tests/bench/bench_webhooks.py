"""Webhooks: how many a second beside a bare tornado, and from a line of a provider's log to whoever looks at it.

    python tests/bench/bench_webhooks.py [WEBHOOKS] [LINES]

A notebook server with the second listener, and a stand-in for a provider elsewhere whose webhooks are signed as Standard
Webhooks has it. Intake: each webhook has an id of its own, is compared with an allow-list, verified, and nudges a job
whose run is then polled; the bare handler reads the same body and answers the same. CPU is that of the server's process.
Line to event: a line is printed at a random moment, and is there when the stream of the job's log has it; with a webhook
for each line, and without any, at a poll every `POLL_S`. Prints ratios, asserts nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import psutil
from tornado import web

from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.store import Store
from simpletuner_lab.testing import eventually
from tests.lab_kit import config, dataloader, dataset
from tests.server.server_kit import TOKEN, free_port
from tests.server.webhook_kit import Hooked, headers_for, hooked_server

POLL_S: Final = 2.0
CONNECTIONS: Final = 8
ROUNDS: Final = 3
BODY_BYTES: Final = 16 << 10
"""A prediction with some of its log."""

CODE: Final = f'''
import dataclasses
import json
import os
import time
from pathlib import Path

from simpletuner_lab.core.provider import RunState, Snapshot
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers import _standard_webhooks
from simpletuner_lab.providers.local import LocalProvider, LocalSettings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings(LocalSettings):
    webhook_allowed_ips: tuple[str, ...] = ()


class Signed(LocalProvider):
    """One run, whose log is a file, and which never ends by itself."""

    id = "signed"
    label = "Stand-in"
    capabilities = dataclasses.replace(LocalProvider.capabilities, remote=True, poll_s={POLL_S})
    Settings = Settings

    def upload(self, archive, tag, progress):
        return "data"

    def start(self, order):
        return "run-1"

    def poll(self, ref, cursor):
        at = int(cursor or 0)
        with Path(os.environ["SEEN"]).open("rb") as log:
            log.seek(at)
            text = log.read()
        return Snapshot(state=RunState.RUNNING, cursor=str(at + len(text)), log=text)

    def webhook(self, headers, body):
        _standard_webhooks.verify(headers, body, [Secret(os.environ["SIGNED_SECRET"])], now=time.time())
        return json.loads(body)["id"]
'''

Signed = tuple[bytes, dict[str, str]]


# ------------------------------------------------------------ the floor


@web.stream_request_body
class BareHandler(web.RequestHandler):
    """Reads a body, and answers."""

    def prepare(self) -> None:
        self.body = bytearray()

    def data_received(self, chunk: bytes) -> None:
        self.body += chunk

    def post(self) -> None:
        json.loads(self.body)
        self.finish({"received": True})


async def bare(port: int) -> None:
    """Serves it until it is killed."""
    web.Application([("/", BareHandler)], log_function=lambda _: None).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


@contextmanager
def bare_server() -> Iterator[tuple[str, int]]:
    """Its URL and process."""
    port = free_port()
    process = subprocess.Popen([sys.executable, __file__, "--bare", str(port)])
    try:
        eventually(lambda: _answers(port), patience_s=30)
        yield f"http://127.0.0.1:{port}/", process.pid
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/").status_code == 405
    except httpx.HTTPError:
        return False


# ------------------------------------------------------------ intake


def webhooks(count: int, ref: str) -> list[Signed]:
    """Signed now, each with an id of its own."""
    body = json.dumps({"id": ref, "status": "processing", "logs": "x" * BODY_BYTES}).encode()
    return [(body, headers_for(body, f"msg_{random.getrandbits(64):x}")) for _ in range(count)]


def send_all(url: str, messages: Sequence[Signed]) -> None:
    """One after the other on one connection."""
    target = httpx.URL(url)
    with socket.create_connection((target.host, target.port or 80)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for body, headers in messages:
            lines = [f"POST {target.path} HTTP/1.1", f"Host: {target.host}", f"Content-Length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            plain.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            answer = b""
            while not answer.endswith(b"}"):
                answer += plain.recv(1 << 16)
            if answer.split(b" ", 2)[1] not in {b"200", b"202"}:
                raise SystemExit(f"{url} answered {answer.decode()}")


def taken(url: str, pid: int, messages: Sequence[Signed]) -> tuple[float, float]:
    """Webhooks a second, and the server's CPU milliseconds for each."""
    process = psutil.Process(pid)
    before, began = process.cpu_times(), time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda start: send_all(url, messages[start::CONNECTIONS]), range(CONNECTIONS)))
    took, after = time.perf_counter() - began, process.cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    return len(messages) / took, 1000 * cpu_s / len(messages)


def intake(hooked: Hooked, count: int) -> None:
    """In turn with the floor, so that a slow minute hits both."""
    assert hooked.server.process is not None
    pid = hooked.server.process.pid
    found: dict[str, list[tuple[float, float]]] = {}
    with bare_server() as (floor, floor_pid):
        for _ in range(ROUNDS):
            found.setdefault("bare tornado", []).append(taken(floor, floor_pid, webhooks(count, "run-1")))
            found.setdefault("verified", []).append(taken(hooked.route, pid, webhooks(count, "run-0")))
            found.setdefault("verified, nudged", []).append(taken(hooked.route, pid, webhooks(count, "run-1")))
    medians = {name: tuple(map(statistics.median, zip(*runs, strict=True))) for name, runs in found.items()}
    base_rate, base_ms = medians["bare tornado"]
    for name, (rate, cpu_ms) in medians.items():
        ratios = (
            f"{rate / base_rate:.2f} x its rate, {cpu_ms / base_ms:.1f} x its CPU" if name in list(medians)[1:] else ""
        )
        print(f"{name:18} {rate:7,.0f} /s  {cpu_ms:6.2f} CPU-ms each  {ratios}")


# ------------------------------------------------------------ from a line to whoever looks


class Stream:
    """The stream of a job's log, and when each line came."""

    def __init__(self, hooked: Hooked, job_id: str) -> None:
        self.came: dict[str, float] = {}
        self._url = f"{hooked.server.url}api/cloud/jobs/{job_id}/logs/stream"
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        headers = {"Authorization": f"token {TOKEN}"}
        with (
            contextlib.suppress(httpx.HTTPError),  # the server's end
            httpx.stream("GET", self._url, headers=headers, timeout=None) as answer,
        ):
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self.came[line.removeprefix("data: ")] = time.perf_counter()


def latencies(hooked: Hooked, stream: Stream, lines: int, nudge: Callable[[], None] | None) -> list[float]:
    """Seconds from a line's printing to its arrival."""
    found = []
    for number in range(lines):
        time.sleep(random.uniform(0, POLL_S if nudge is None else 0.2))
        line = f"{'polled' if nudge is None else 'nudged'} {number}"
        printed = time.perf_counter()
        with (hooked.folder / "seen").open("a") as log:
            log.write(line + "\n")
        if nudge is not None:
            nudge()
        while line not in stream.came:
            time.sleep(0.001)
        found.append(stream.came[line] - printed)
    return found


def line_to_event(hooked: Hooked, job_id: str, lines: int) -> None:
    """With a webhook for each line, and without any."""
    stream = Stream(hooked, job_id)

    def nudge() -> None:
        send_all(hooked.route, webhooks(1, "run-1"))

    for name, found in (
        ("with webhooks", latencies(hooked, stream, lines, nudge)),
        (f"a poll each {POLL_S:g} s", latencies(hooked, stream, max(10, lines // 5), None)),
    ):
        cuts = statistics.quantiles(found, n=20, method="inclusive")
        print(
            f"line to event, {name:18} p50 {1000 * cuts[9]:6.0f} ms  p95 {1000 * cuts[18]:6.0f} ms  ({len(found)} lines)"
        )


def submitted(hooked: Hooked) -> str:
    """The id of a job whose run goes on for ever."""
    (hooked.folder / "seen").touch()
    client = hooked.server.client()
    entries = tuple(dataloader(dataset(hooked.folder / "images")))
    asked = SubmitRequest(config=config(), dataloader=entries, provider="signed")
    job_id = client.submit(asked, approve=client.plan(asked).digest).job_id

    def started() -> bool:
        store = Store.open(hooked.home.database)
        try:
            return bool(store.jobs.get(job_id).run.ref)
        finally:
            store.close()

    eventually(started, patience_s=60)
    return job_id


def main() -> None:
    if sys.argv[1:2] == ["--bare"]:
        asyncio.run(bare(int(sys.argv[2])))
        return
    given = [int(text) for text in sys.argv[1:3]]
    count, lines = [*given, *(1000, 100)[len(given) :]]
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    )
    with tempfile.TemporaryDirectory(prefix="bench-webhooks-") as folder, hooked_server(Path(folder), CODE) as hooked:
        job_id = submitted(hooked)
        print(f"-- {count} webhooks of {BODY_BYTES >> 10} KiB on {CONNECTIONS} connections, {ROUNDS} rounds, medians")
        intake(hooked, count)
        line_to_event(hooked, job_id, lines)


if __name__ == "__main__":
    main()
