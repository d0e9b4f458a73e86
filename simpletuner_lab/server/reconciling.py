"""Routes that bring the lab and its providers to say the same: of a lost start, of runs started elsewhere (SPEC J7, J8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jupyter_server.auth.decorator import authorized
from tornado import web

from simpletuner_lab.core.consent import signed
from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.errors import (
    Conflict,
    JobNotFound,
    ProviderFailure,
    ProviderNotFound,
    ProviderUnavailable,
    StaleRecord,
    TokenUnusable,
)
from simpletuner_lab.server.answers import JobTaken
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import Operation, Operations
from simpletuner_lab.services.provider_views import SyncView


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveBody:
    """What the user decides about an uncertain start."""

    action: Decision
    entry: str = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncBody:
    """Which provider; empty: every remote one that can be used."""

    provider: str = ""


class ResolveHandler(LabHandler):
    """`POST /jobs/{id}/resolve`: a job whose start is uncertain is sent again, or given up."""

    @web.authenticated
    @authorized
    async def post(self, job_id: str) -> None:
        """Answers `{success, job_id, status, job}`."""
        body = self.body(ResolveBody)
        job = await self.ask(lambda front: front.resolve(job_id, body.action, entry=signed(body.entry)))
        self.answer(JobTaken.of(job))


class SyncHandler(LabHandler):
    """`POST /jobs/sync`: runs that were started elsewhere become jobs."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Answers a `SyncView`."""
        body = self.body(SyncBody)
        front, rooms = await self.rooms.front(), self.rooms
        self.answer(await rooms.run(rooms.executors.net, front.sync, body.provider))


OPERATIONS: Final[Operations] = {
    ResolveHandler.post: Operation(answer=JobTaken, body=ResolveBody, errors=(JobNotFound, Conflict, StaleRecord)),
    SyncHandler.post: Operation(
        answer=SyncView,
        body=SyncBody,
        errors=(ProviderNotFound, TokenUnusable, ProviderFailure, ProviderUnavailable),
    ),
}
