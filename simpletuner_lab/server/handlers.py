"""Routes under `{base_url}api/cloud` (SPEC J, K2, C; docs/rest.md has the table)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from jupyter_server.auth.decorator import authorized
from tornado import iostream, web

from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.core.job import NEWEST_FIRST, JobFilter, JobState
from simpletuner_lab.core.plan import DEFAULT_PROVIDER
from simpletuner_lab.server.answers import (
    Alive,
    ConsentSet,
    ConsentSetting,
    EventPage,
    Health,
    InlineProgress,
    JobAlone,
    JobDone,
    JobSubmitted,
    JobTaken,
    ProviderList,
)
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.destinations import destination_rules
from simpletuner_lab.server.downloads import ArchiveHandler, OutputHandler
from simpletuner_lab.server.exposure import LocalUploadHandler, LocalUploadTestHandler
from simpletuner_lab.server.money import JobCostHandler, JobLimitHandler, money_rules
from simpletuner_lab.server.provider_setup import original_status_rule, setup_rules
from simpletuner_lab.server.reconciling import ResolveHandler, SyncHandler
from simpletuner_lab.server.rooms import Part
from simpletuner_lab.server.snapshots import snapshot_routes
from simpletuner_lab.server.webhook_tests import webhook_test_rules
from simpletuner_lab.services.forms import RequestForm
from simpletuner_lab.services.views import LogChunk

_MAX_LOG_CHUNK: Final = 4 << 20
_NEWS_S: Final = 0.5
"""A log stream looks again after this long even without news: another process may watch."""
_PING_NEWS: Final = 30
"""Looks without a line between two pings."""

Rules: TypeAlias = list[tuple[str, type[web.RequestHandler]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitBody(RequestForm):
    """Body of plan and submit: the request, and what a submit takes beside it."""

    approve: str | None = None
    idempotency_key: str | None = None
    entry: str = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentBody:
    """Body of the consent setting."""

    consent: Literal["ask", "allow", "never", "deny"]


class PlanHandler(LabHandler):
    """`POST /jobs/plan`: the plan with its digest; changes nothing."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Answers a `PlanView`."""
        request = self.body(SubmitBody).request(self.get_query_argument("provider", ""))
        self.answer(await self.ask(lambda front: front.plan(request), disk=True))


class SubmitHandler(LabHandler):
    """`POST /jobs/submit`: 202 with the job of an approved plan."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Answers `{success, job_id, status, job}`."""
        body = self.body(SubmitBody)
        if body.idempotency_key is not None and not 1 <= len(body.idempotency_key) <= 255:
            raise InvalidRequest("idempotency_key has 1 to 255 characters")
        request = body.request(self.get_query_argument("provider", ""))
        job = await self.ask(
            lambda front: front.submit(request, approve=body.approve, key=body.idempotency_key, entry=body.entry),
            disk=True,
        )
        warning = await self.ask(lambda front: front.lab.store.spending.warning(job.job_id)) or None
        self.answer(JobSubmitted(job_id=job.job_id, status=job.status, job=job, cost_limit_warning=warning), status=202)


class JobsHandler(LabHandler):
    """`GET /jobs`: a page, with the true total."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers `{jobs, total}`."""
        kind = self.get_query_argument("job_type", "")
        if kind not in {"", "local", "cloud"}:
            raise InvalidRequest(f"job_type is local or cloud, not {kind!r}")
        chosen = JobFilter(
            states=_states(self.get_query_argument("status", "")),
            provider=self.get_query_argument("provider", "") or None,
            text=self.get_query_argument("text", ""),
            remote=None if not kind else kind == "cloud",
            key=self.get_query_argument("idempotency_key", "") or None,
        )
        sort = self.get_query_argument("sort", "") or NEWEST_FIRST
        limit = self.number("limit", 50, least=1, most=500) or 50
        offset = self.number("offset", 0) or 0
        self.answer(await self.ask(lambda front: front.jobs(chosen, sort=sort, limit=limit, offset=offset)))


class JobHandler(LabHandler):
    """`GET` and `DELETE /jobs/{id}`."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answers a `JobDetail`: job, plan, events; with `?only=job` the job alone, for those who ask often."""
        if self.get_query_argument("only", "") == "job":
            self.answer(JobAlone(job=await self.ask(lambda front: front.job(job_id))))
        else:
            self.answer(await self.ask(lambda front: front.detail(job_id)))

    @web.authenticated
    @authorized
    async def delete(self, job_id: str) -> None:
        """Removes a finished job; `?outputs=1` with its received files."""
        outputs = self.get_query_argument("outputs", "") in {"1", "true"}
        await self.ask(lambda front: front.delete(job_id, outputs=outputs), disk=True)
        self.answer(JobDone(job_id=job_id))


class CancelHandler(LabHandler):
    """`POST /jobs/{id}/cancel`: at once on record."""

    @web.authenticated
    @authorized
    async def post(self, job_id: str) -> None:
        """Answers `{success, job_id, status, job}`; the state becomes `cancelled` when the run has ended."""
        self.answer(JobTaken.of(await self.ask(lambda front: front.cancel(job_id))))


class LogsHandler(LabHandler):
    """`GET /jobs/{id}/logs?offset=&limit=`."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answers a `LogChunk`."""
        offset = self.number("offset", 0) or 0
        limit = self.number("limit", 1 << 20, least=1, most=_MAX_LOG_CHUNK) or 1 << 20
        self.answer(await self.ask(lambda front: front.log(job_id, offset=offset, limit=limit)))


class LogStreamHandler(LabHandler):
    """`GET /jobs/{id}/logs/stream`: server-sent events, a line each, until the job has ended."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """`id:` is the offset after a stretch of lines, so `Last-Event-ID` goes on where a connection broke off."""
        offset = self._resume_at()
        chunk = await self.ask(lambda front: front.log(job_id, offset=offset))
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Accel-Buffering", "no")
        quiet = 0
        try:
            while True:
                await self._send(chunk)
                if chunk.ended:
                    break
                quiet = 0 if chunk.logs else quiet + 1
                if not chunk.logs:
                    if quiet % _PING_NEWS == 0:
                        self.write(": ping\n\n")
                        await self.flush()
                    await self.rooms.announcer.news(job_id, _NEWS_S)
                at = chunk.next_offset
                chunk = await self.ask(lambda front, at=at: front.log(job_id, offset=at))  # type: ignore[misc]
            job = await self.ask(lambda front: front.job(job_id))
            self.write(f"event: done\ndata: {job.status}\n\n")
            await self.finish(set_content_type="text/event-stream")
        except iostream.StreamClosedError:
            return  # the reader has gone

    def _resume_at(self) -> int:
        last = self.request.headers.get("Last-Event-ID", "")
        return int(last) if last.isascii() and last.isdigit() else (self.number("offset", 0) or 0)

    async def _send(self, chunk: LogChunk) -> None:
        if not chunk.logs:
            return
        lines = [f"data: {line.rstrip()}\n\n" for line in chunk.logs.removesuffix("\n").split("\n")]
        lines[-1] = f"id: {chunk.next_offset}\n{lines[-1]}"  # counted in the file's bytes, so only known at the end
        self.write("".join(lines))
        await self.flush()


class ProgressHandler(LabHandler):
    """`GET /jobs/{id}/inline-progress`: what a list row shows."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answers `{job_id, stage, last_log, progress}`; `progress` is 0 to 100."""
        job = await self.ask(lambda front: front.job(job_id))
        start = max(0, job.log_bytes - 4096)
        tail = await self.ask(lambda front: front.log(job_id, offset=start))
        lines = [line for line in tail.logs.splitlines() if line.strip() and not line.startswith("::st ")]
        self.answer(
            InlineProgress(
                job_id=job_id,
                stage=job.progress.stage_label or job.status.value,
                last_log=lines[-1] if lines else "",
                progress=round(100 * job.progress.fraction, 2),
            )
        )


class EventsHandler(LabHandler):
    """`GET /jobs/{id}/events?after=` and `GET /events?after=`."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str = "") -> None:
        """Answers `{events, seq}`: events in order, and the number of the last write on any job."""
        after = self.number("after", 0) or 0
        limit = self.number("limit", 1000, least=1, most=1000) or 1000
        if job_id:
            await self.ask(lambda front: front.job(job_id))
        seq = await self.ask(lambda front: front.lab.store.events.max_seq())  # first: nothing in between is missed
        events = await self.ask(lambda front: front.events(after, job_id=job_id or None, limit=limit))
        self.answer(EventPage(events=tuple(events), seq=seq))


class MetricsHandler(LabHandler):
    """`GET /jobs/{id}/metrics?points=&after_step=`: full resolution, thinned, or what is new."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answers a `MetricsView`."""
        points = self.number("points", None, least=10, most=100_000)
        after = self.number("after_step", None)
        self.answer(await self.ask(lambda front: front.metrics(job_id, points=points, after_step=after)))


class OutputsHandler(LabHandler):
    """`GET /jobs/{id}/outputs`: what has arrived."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answers an `OutputsView`."""
        self.answer(await self.ask(lambda front: front.outputs(job_id), disk=True))


class ConsentHandler(LabHandler):
    """`GET` and `PUT /data-consent/setting`."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers `{consent}`."""
        self.answer(ConsentSetting(consent=await self.ask(lambda front: front.consent())))

    @web.authenticated
    @authorized
    async def put(self) -> None:
        """Sets ask, allow or never (`deny` is another word for it)."""
        mode = ConsentMode.parse(self.body(ConsentBody).consent)
        await self.ask(lambda front: front.set_consent(mode))
        self.answer(ConsentSet(consent=mode))


class PreviewHandler(LabHandler):
    """`POST /data-consent/preview?provider=`: a dataloader list in, counts out."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Answers a `PreviewView`."""
        listed = self.json()
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise InvalidRequest("the body must be a JSON list of data sets")
        provider = self.get_query_argument("provider", DEFAULT_PROVIDER)
        self.answer(await self.ask(lambda front: front.preview(listed, provider), disk=True))


class ProvidersHandler(LabHandler):
    """`GET /providers`: everything that forms and badges need."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers `{providers}`."""
        front = await self.rooms.front()
        found = await self.rooms.run(self.rooms.executors.net, front.providers)
        self.answer(ProviderList(providers=tuple(found)))


class HealthHandler(LabHandler):
    """`GET /health`, `/health/live`, `/health/ready`."""

    @web.authenticated
    @authorized
    async def get(self, which: str = "") -> None:
        """`live` answers as long as the process does; `ready` is 503 until the store is open."""
        if which == "live":
            home = str(self.rooms.home.root) if self.rooms.ready else ""
            self.answer(Alive(version=self.rooms.version, home=home, lab=self.rooms.home.id))
            return
        problem = self.rooms.problem
        state = "unhealthy" if problem else "healthy" if self.rooms.ready else "starting"
        parts = (Part(name="store", status=state, message=problem), self.rooms.listener)
        if state == "healthy" and self.rooms.listener.status == "unhealthy":
            state = "degraded"
        status = 503 if which == "ready" and not self.rooms.ready else 200
        self.answer(Health(status=state, version=self.rooms.version, components=parts), status=status)


class MissingHandler(LabHandler):
    """Everything else below `api/cloud`: 404 as JSON, so that no script takes a page for an answer."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """There is no such route."""
        raise web.HTTPError(404, "there is no such route")

    head = post = put = patch = delete = get


def api_rules(base: str) -> Rules:
    """The table, for a base such as `/user/ann/api/cloud`."""
    job, provider = r"/jobs/([A-Za-z0-9._-]{1,128})", r"/providers/([A-Za-z0-9._-]{1,128})"
    table: Rules = [
        (r"/jobs", JobsHandler),
        (r"/jobs/plan", PlanHandler),
        (r"/jobs/submit", SubmitHandler),
        (r"/jobs/sync", SyncHandler),
        *snapshot_routes(job),
        (job, JobHandler),
        (job + r"/cancel", CancelHandler),
        (job + r"/resolve", ResolveHandler),
        (job + r"/logs", LogsHandler),
        (job + r"/logs/stream", LogStreamHandler),
        (job + r"/inline-progress", ProgressHandler),
        (job + r"/events", EventsHandler),
        (job + r"/metrics", MetricsHandler),
        (job + r"/cost-limit", JobLimitHandler),
        (job + r"/cost", JobCostHandler),
        (job + r"/outputs", OutputsHandler),
        (job + r"/outputs\.zip", ArchiveHandler),
        (job + r"/outputs/(.+)", OutputHandler),
        (r"/events", EventsHandler),
        *destination_rules(job),
        (r"/data-consent/setting", ConsentHandler),
        (r"/data-consent/preview", PreviewHandler),
        (r"/providers", ProvidersHandler),
        *setup_rules(provider),
        *webhook_test_rules(provider),
        *money_rules(),
        (r"/local-upload/config", LocalUploadHandler),
        (r"/local-upload/test", LocalUploadTestHandler),
        (r"/health(?:/(live|ready))?", HealthHandler),
        original_status_rule(),
        (r"/(?!storage(?:/|$)).*", MissingHandler),
    ]
    return [(base + path, handler) for path, handler in table]


def _states(text: str) -> frozenset[JobState]:
    try:
        return frozenset(JobState(word) for word in text.split(",") if word)
    except ValueError as error:
        names = ", ".join(state.value for state in JobState)
        raise InvalidRequest(f"status {text!r} is not known", hint=f"states are {names}") from error
