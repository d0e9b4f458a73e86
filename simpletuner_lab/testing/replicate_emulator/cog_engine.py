"""Runs models in real Cog servers: one process for each version, started when it is first needed and after it broke.

    engine = CogEngine({"ann/simpletuner-trainer": Path("trainer")})
    models = [cog_model("ann/simpletuner-trainer", Path("trainer"))]
    with replicate_emulator(accounts, models=models, engine=engine) as emulator: ...

Cog tells what happens by webhooks alone, so the engine listens on a port of its own, for these and for the files that
models make. Runs take real time: the emulator wants a clock that runs by itself.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from simpletuner_lab.testing.listening import HOST
from simpletuner_lab.testing.replicate_emulator.coglet import Coglet
from simpletuner_lab.testing.replicate_emulator.engine import Job, OutputFile, Report, SetupFailed
from simpletuner_lab.testing.replicate_emulator.records import Version

WORKER_LOST: Final = "Worker crashed"
"""The error of a run whose server broke without a word."""

_PREFIX: Final = "Prediction failed: "
_BROKEN: Final = frozenset({"UNHEALTHY", "DEFUNCT"})
_GONE: Final = "GONE"
_LOOK_S: Final = 0.2
_MOST_STARTS: Final = 3
"""Another process may have taken the port in between."""

_BOOT_S: Final = 60.0
_CANCEL_S: Final = 40.0
_LARGEST_BODY: Final = 8 << 30


class CogEngine:
    """An `Engine` over Cog servers.

    Args:
        folders: of the models, by `owner/name`.
        environment: what the servers' own is made from.
    """

    def __init__(self, folders: Mapping[str, Path], environment: Mapping[str, str] = os.environ) -> None:
        self._folders, self._environment = dict(folders), environment
        self._places: dict[str, _Place] = {}
        self._runs: dict[str, _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._desk: _Desk | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="replicate-emulator-cog-", ignore_cleanup_errors=True)
        self.scratch: Final = Path(self._scratch.name)
        """Homes, temporary files and logs of the servers, in a folder for each version."""

    def start(self, job: Job, report: Report) -> None:
        """Queues a run for the server of its version."""
        if self._desk is None:
            self._desk = _Desk(self._runs)
        run = self._runs[job.id] = _Run(job=job, report=report)
        self._spawn(self._carry_out(run))

    def cancel(self, job_id: str) -> None:
        """Tells the server, which may take a while; the next run waits for it."""
        run = self._runs.get(job_id)
        if run is not None and not run.ended.is_set() and run.cancelled_s is None:
            run.cancelled_s = time.monotonic()
            self._spawn(self._relay(run))

    def signal(self, model: str, number: signal.Signals) -> None:
        """Hits the server of a model (SIGTERM) or its worker (SIGKILL). From any thread.

        Raises:
            ValueError: it has none that runs.
        """
        hit = [
            place.coglet for place in list(self._places.values()) if place.model == model and place.coglet is not None
        ]
        if not hit:
            raise ValueError(f"no server of {model!r} runs")
        for coglet in hit:
            coglet.signal(number)

    def close(self) -> None:
        """Ends all servers."""
        for task in self._tasks:
            task.cancel()
        for place in self._places.values():
            place.stop()
        if self._desk is not None:
            self._desk.close()
        self._scratch.cleanup()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, run: _Run) -> None:
        place = self._place(run.job.version)
        async with place.turn:
            try:
                await self._attempt(run, place)
            finally:
                run.ended.set()
                del self._runs[run.job.id]

    async def _attempt(self, run: _Run, place: _Place) -> None:
        if run.cancelled_s is not None:
            return
        assert self._desk is not None
        try:
            coglet = await place.ready(self._desk)
        except SetupFailed as error:
            run.report.fail(str(error))
            return
        if run.cancelled_s is not None:
            return
        order = {"input": dict(run.job.input), "webhook": self._desk.hook(run.job.id)}
        answer = await self._desk.ask("PUT", f"{coglet.url}/predictions/{run.job.id}", order)
        if answer.code != 202:
            run.report.begin()
            run.report.fail(_refusal(answer))
            return
        if run.cancelled_s is not None:  # while it was asked
            await self._relay(run)
        await self._watch(run, place, coglet)

    async def _watch(self, run: _Run, place: _Place, coglet: Coglet) -> None:
        """Until it has ended. A server that breaks says so by a webhook, by its health, or not at all."""
        assert self._desk is not None
        while not await _set_within(run.ended, _LOOK_S):
            hung = run.cancelled_s is not None and time.monotonic() - run.cancelled_s > _CANCEL_S
            if hung or not coglet.runs or await self._desk.health(coglet) in {*_BROKEN, _GONE}:
                if not await _set_within(run.ended, _LOOK_S):
                    run.report.fail(WORKER_LOST)
                place.stop()
                return

    async def _relay(self, run: _Run) -> None:
        coglet = self._place(run.job.version).coglet
        if coglet is not None and self._desk is not None:
            await self._desk.ask("POST", f"{coglet.url}/predictions/{run.job.id}/cancel", {})

    def _place(self, version: Version) -> _Place:
        if version.id not in self._places:
            self._places[version.id] = _Place(
                model=version.model, folder=self._folders.get(version.model), scratch=self.scratch / version.id[:12],
                environment=self._environment,
            )  # fmt: skip
        return self._places[version.id]


@dataclass(slots=True, kw_only=True)
class _Place:
    """Where the runs of one version take their turns."""

    model: str
    folder: Path | None
    scratch: Path
    environment: Mapping[str, str]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    coglet: Coglet | None = None

    async def ready(self, desk: _Desk) -> Coglet:
        """A server that takes a run.

        Raises:
            SetupFailed: the model could not be set up.
        """
        if self.folder is None:
            raise SetupFailed(f"no folder was given for {self.model}")
        give_up_s, begun = time.monotonic() + _BOOT_S, 0
        while True:
            if self.coglet is None:
                begun += 1
                self.coglet = Coglet.start(
                    self.folder, self.scratch, webhook_token=desk.token, upload_url=desk.uploads,
                    environment=self.environment,
                )  # fmt: skip
            health = await desk.health(self.coglet)
            if health == "READY" and self.coglet.runs:
                return self.coglet
            broken = health in _BROKEN or not self.coglet.runs
            if health == "SETUP_FAILED" or time.monotonic() > give_up_s or (broken and begun == _MOST_STARTS):
                self.stop()
                raise SetupFailed(desk.setup_error or f"the server did not start: {self._log_tail()}")
            if broken:
                self.stop()
            await asyncio.sleep(_LOOK_S / 4)

    def _log_tail(self) -> str:
        return (self.scratch / "server.log").read_text("utf-8", "replace")[-2000:]

    def stop(self) -> None:
        if self.coglet is not None:
            self.coglet.kill()
            self.coglet = None


@dataclass(slots=True, kw_only=True)
class _Run:
    """What was heard of a run."""

    job: Job
    report: Report
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled_s: float | None = None
    heard: str = ""
    output: Any = None
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[str, OutputFile] = field(default_factory=dict)
    """Those that it has made, by their addresses."""

    def hear(self, told: Mapping[str, Any]) -> None:
        """A webhook. Cog does not keep their order: whatever comes after the last one is late."""
        if self.ended.is_set():
            return
        self.report.begin()
        logs = told.get("logs") or ""
        if len(logs) > len(self.heard):
            self.report.log(logs[len(self.heard) :])
            self.heard = logs
        for name, value in (told.get("metrics") or {}).items():
            if _is_number(value) and name != "predict_time" and self.metrics.get(name) != value:
                self.metrics[name] = value
                self.report.metric(name, value)
        output = told.get("output")
        if output is not None and (output := self._normal(output)) != self.output:
            self.output = output
            self.report.output(output)
        status = told.get("status")
        if status in {"succeeded", "failed", "canceled"}:
            self.ended.set()
        if status == "succeeded":
            self.report.succeed()
        elif status == "failed":
            self.report.fail(_reason(str(told.get("error") or "")))

    def _normal(self, output: Any) -> Any:
        """Cog tells one value as a list of one while it runs."""
        if isinstance(output, list) and self.job.version.output.get("type") != "array" and len(output) == 1:
            (output,) = output
        return self._with_files(output)

    def _with_files(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._with_files(one) for one in value]
        if isinstance(value, dict):
            return {key: self._with_files(one) for key, one in value.items()}
        return self.files.get(value, value) if isinstance(value, str) else value


class _Desk:
    """Where servers call, and from where they are asked. Both ways know the token alone."""

    def __init__(self, runs: dict[str, _Run]) -> None:
        self.token: Final = secrets.token_urlsafe(24)
        self.setup_error = ""
        sockets = bind_sockets(0, HOST)
        self._url = f"http://{HOST}:{sockets[0].getsockname()[1]}"
        parts = {"desk": self, "runs": runs}
        self._server = HTTPServer(
            web.Application([(r"/hooks/([a-z0-9]+)", _Hook, parts), (r"/([^/]+)/files/([^/]+)", _Upload, parts)]),
            max_body_size=_LARGEST_BODY,
        )
        self._server.add_sockets(sockets)
        self._client: AsyncHTTPClient = SimpleAsyncHTTPClient(force_instance=True)

    @property
    def uploads(self) -> str:
        return f"{self._url}/{self.token}/files/"

    def hook(self, job_id: str) -> str:
        return f"{self._url}/hooks/{job_id}"

    async def ask(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> HTTPResponse:
        """599 where nobody answers."""
        text = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
        request = HTTPRequest(url, method=method, body=text, headers=headers, request_timeout=10)
        try:
            return await self._client.fetch(request, raise_error=False)
        except (OSError, HTTPError) as error:
            return HTTPResponse(request, 599, error=error)

    async def health(self, coglet: Coglet) -> str:
        """One of Cog's words, `GONE` where nobody listens, or none."""
        answer = await self.ask("GET", f"{coglet.url}/health-check")
        if isinstance(answer.error, ConnectionError):
            return _GONE
        try:
            told = json.loads(answer.body or b"{}")
        except ValueError:
            return ""
        if told.get("status") == "SETUP_FAILED":
            self.setup_error = str((told.get("setup") or {}).get("logs") or "").strip()[-2000:]
        return str(told.get("status") or "")

    def close(self) -> None:
        self._server.stop()
        self._client.close()


class _Called(web.RequestHandler):
    def initialize(self, desk: _Desk, runs: dict[str, _Run]) -> None:
        self.desk, self.runs = desk, runs

    def refuse_strangers(self, said: str) -> None:
        """Raises 404 for whoever does not know the token."""
        if not secrets.compare_digest(said.encode(), self.desk.token.encode()):
            raise web.HTTPError(404)


class _Hook(_Called):
    def post(self, job_id: str) -> None:
        self.refuse_strangers(self.request.headers.get("Authorization", "").removeprefix("Bearer "))
        run = self.runs.get(job_id)
        if run is not None:
            run.hear(json.loads(self.request.body))


class _Upload(_Called):
    def put(self, token: str, name: str) -> None:
        self.refuse_strangers(token)
        run = self.runs.get(self.request.headers.get("x-prediction-id", ""))
        if run is None:
            raise web.HTTPError(404)
        address = f"{self.request.full_url()}?{len(run.files)}".replace("?", "/")
        run.files[address] = OutputFile(name=name, content=self.request.body)
        self.set_header("Location", address)
        self.set_status(201)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _reason(error: str) -> str:
    """Without what Cog puts before it, once or twice."""
    while error.startswith(_PREFIX):
        error = error.removeprefix(_PREFIX)
    return error


def _refusal(answer: HTTPResponse) -> str:
    text = (answer.body or b"").decode("utf-8", "replace")
    return f"Cog answered {answer.code}: {text[:500]}"
