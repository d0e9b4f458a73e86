"""Routes about what was submitted before: snapshots, two jobs side by side, and a job again (SPEC G1; contract §2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jupyter_server.auth.decorator import authorized
from tornado import web

from simpletuner_lab.core.errors import Conflict, InvalidRequest, JobNotFound, StoreUnusable
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.server.answers import JobRerun, SnapshotsSet, SnapshotsSetting
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import SUBMITTING, Operation, Operations, whole, words
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.snapshot_views import Configs, Draft, JobDiff, JobSnapshot, PreSubmitCheck, SnapshotPage
from simpletuner_lab.services.views import JobView

_MAX_LISTED: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotsBody:
    """Body of the setting."""

    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunBody:
    """Body of a rerun: what a submit takes beside the request."""

    approve: str | None = None
    idempotency_key: str | None = None
    entry: str = "rest"
    snapshot_name: str = ""
    snapshot_message: str = ""


class PreSubmitHandler(LabHandler):
    """`GET /pre-submit-check`: git in the notebook server's folder, and the repository of snapshots."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `PreSubmitCheck`."""
        folder = str(self.settings.get("server_root_dir") or "")
        self.answer(await self.ask(lambda front: front.snapshots.check(folder), disk=True))


class ConfigsHandler(LabHandler):
    """`GET /available-configs`: the names of configs that were submitted."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers `Configs`."""
        self.answer(await self.ask(lambda front: front.snapshots.configs(), disk=True))


class SnapshotsHandler(LabHandler):
    """`GET /snapshots?limit=`: the newest."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `SnapshotPage`."""
        limit = self.number("limit", 50, least=1, most=_MAX_LISTED) or 50
        self.answer(await self.ask(lambda front: front.snapshots.listed(limit=limit), disk=True))


class SnapshotsSettingHandler(LabHandler):
    """`GET` and `PUT /snapshots/setting`."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers `{enabled}`."""
        self.answer(SnapshotsSetting(enabled=await self.ask(lambda front: front.snapshots.enabled())))

    @web.authenticated
    @authorized
    async def put(self) -> None:
        """Switches them on or off, for submits from now on."""
        enabled = self.body(SnapshotsBody).enabled
        await self.ask(lambda front: front.snapshots.set_enabled(enabled))
        self.answer(SnapshotsSet(enabled=enabled))


class DiffHandler(LabHandler):
    """`GET /jobs/diff?a=&b=`: what of job b is not as in job a."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `JobDiff`."""
        a, b = self.get_query_argument("a", ""), self.get_query_argument("b", "")
        if not a or not b:
            raise InvalidRequest("which two jobs?", hint="?a=ID&b=ID")
        self.answer(await self.ask(lambda front: front.snapshots.diff(a, b)))


class JobSnapshotHandler(LabHandler):
    """`GET /jobs/{id}/snapshot`: its commit and files."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answers a `JobSnapshot`."""
        self.answer(await self.ask(lambda front: front.snapshots.of_job(job_id), disk=True))


class DraftHandler(LabHandler):
    """`GET /jobs/{id}/draft`: its request, as `POST /jobs/plan` takes it."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answers a `Draft`."""
        self.answer(await self.ask(lambda front: front.snapshots.draft(job_id)))


class RerunHandler(LabHandler):
    """`POST /jobs/{id}/rerun`: 202 with a new job of the same request, under a plan of now."""

    @web.authenticated
    @authorized
    async def post(self, job_id: str) -> None:
        """Answers a `JobRerun`. Consent is asked as by a submit."""
        body = self.body(RerunBody)
        if body.idempotency_key is not None and not 1 <= len(body.idempotency_key) <= 255:
            raise InvalidRequest("idempotency_key has 1 to 255 characters")
        first, job = await self.ask(lambda front: _rerun(front, job_id, body), disk=True)
        same = first.digest == job.digest
        told = JobRerun(job_id=job.job_id, status=job.status, job=job, rerun_of=job_id, same_digest=same)
        self.answer(told, status=202)


def _rerun(front: Front, job_id: str, body: RerunBody) -> tuple[JobView, JobView]:
    """The first job and the new one."""
    asked: SubmitRequest = front.snapshots.request(
        job_id, snapshot_name=body.snapshot_name, snapshot_message=body.snapshot_message
    )
    job = front.submit(asked, approve=body.approve, key=body.idempotency_key, entry=body.entry)
    return front.job(job_id), job


OPERATIONS: Final[Operations] = {
    PreSubmitHandler.get: Operation(answer=PreSubmitCheck),
    ConfigsHandler.get: Operation(answer=Configs, errors=(StoreUnusable,)),
    SnapshotsHandler.get: Operation(
        answer=SnapshotPage, query=(whole("limit", 1, _MAX_LISTED, default=50),), errors=(StoreUnusable,)
    ),
    SnapshotsSettingHandler.get: Operation(answer=SnapshotsSetting),
    SnapshotsSettingHandler.put: Operation(answer=SnapshotsSet, body=SnapshotsBody),
    DiffHandler.get: Operation(
        answer=JobDiff, query=(words("a", needed=True), words("b", needed=True)), errors=(JobNotFound,)
    ),
    JobSnapshotHandler.get: Operation(answer=JobSnapshot, errors=(JobNotFound,)),
    DraftHandler.get: Operation(answer=Draft, errors=(JobNotFound, Conflict)),
    RerunHandler.post: Operation(
        answer=JobRerun, status=202, body=RerunBody, errors=(JobNotFound, Conflict, *SUBMITTING)
    ),
}


def snapshot_routes(job: str) -> list[tuple[str, type[web.RequestHandler]]]:
    """The table; `job` is the path of one job."""
    return [
        (r"/pre-submit-check", PreSubmitHandler),
        (r"/available-configs", ConfigsHandler),
        (r"/snapshots", SnapshotsHandler),
        (r"/snapshots/setting", SnapshotsSettingHandler),
        (r"/jobs/diff", DiffHandler),
        (job + r"/snapshot", JobSnapshotHandler),
        (job + r"/draft", DraftHandler),
        (job + r"/rerun", RerunHandler),
    ]
