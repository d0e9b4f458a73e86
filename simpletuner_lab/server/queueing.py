"""Routes under `{base_url}api/queue` (contract §2.8): who waits for a slot, who holds one, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jupyter_server.auth.decorator import authorized
from tornado import web

from simpletuner_lab.core.consent import signed
from simpletuner_lab.core.errors import (
    Conflict,
    IllegalTransition,
    JobNotFound,
    NotFound,
    ProviderNotFound,
    StaleRecord,
)
from simpletuner_lab.core.job_queue import priority_of
from simpletuner_lab.server.answers import CleanupDone, ConcurrencySet, JobTaken, PrioritySet, SlotsGiven
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import Operation, Operations, choice, flag, whole
from simpletuner_lab.server.queue_submit import QueueSubmitHandler
from simpletuner_lab.services.queue_front import MAX_ENTRIES, STATUSES
from simpletuner_lab.services.queue_views import (
    Concurrency,
    ConcurrencyChange,
    OwnQueue,
    QueuePage,
    QueuePosition,
    QueueStats,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityBody:
    """A priority, 0 to 50 or a name; null: that of the submit counts again."""

    priority: int | str | None
    entry: str = "rest"


class QueueHandler(LabHandler):
    """`GET /`: the queue."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `QueuePage`."""
        status = self.get_query_argument("status", "")
        ended = self.get_query_argument("include_completed", "") in {"1", "true"}
        limit = self.number("limit", 50, least=1, most=MAX_ENTRIES) or 50
        offset = self.number("offset", 0) or 0
        self.answer(
            await self.ask(
                lambda front: front.queue.entries(status=status, limit=limit, offset=offset, include_completed=ended)
            )
        )


class StatsHandler(LabHandler):
    """`GET /stats`."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers `QueueStats`."""
        self.answer(await self.ask(lambda front: front.queue.stats()))


class MineHandler(LabHandler):
    """`GET /me`."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers an `OwnQueue`."""
        self.answer(await self.ask(lambda front: front.queue.mine()))


class UserHandler(LabHandler):
    """`GET /user/{id}`: as `/me`, for who asks; of nobody else is anything told."""

    @web.authenticated
    @authorized
    async def get(self, user_id: str) -> None:
        """Answers an `OwnQueue`."""
        self.answer(await self.ask(lambda front: front.queue.of_user(user_id)))


class PositionHandler(LabHandler):
    """`GET /position/{id}`."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answers a `QueuePosition`."""
        self.answer(await self.ask(lambda front: front.queue.position(job_id)))


class QueueCancelHandler(LabHandler):
    """`POST /{id}/cancel`: what waits for a slot is cancelled at once."""

    @web.authenticated
    @authorized
    async def post(self, job_id: str) -> None:
        """Answers `{success, job_id, status, job}`."""
        self.answer(JobTaken.of(await self.ask(lambda front: front.queue.cancel(job_id))))


class PriorityHandler(LabHandler):
    """`POST /{id}/priority`."""

    @web.authenticated
    @authorized
    async def post(self, job_id: str) -> None:
        """Answers `Reprioritised`."""
        body = self.body(PriorityBody)
        priority = None if body.priority is None else priority_of(body.priority)
        entry = signed(body.entry)
        self.answer(await self.ask(lambda front: front.queue.prioritise(job_id, priority, entry=entry)), success=True)


class ConcurrencyHandler(LabHandler):
    """`GET` and `POST /concurrency`."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `Concurrency`."""
        self.answer(await self.ask(lambda front: front.queue.concurrency()))

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Sets those that are given; answers all."""
        change = self.body(ConcurrencyChange)
        self.answer(await self.ask(lambda front: front.queue.set_concurrency(change)), success=True)


class ProcessHandler(LabHandler):
    """`POST /process`: free slots are given away now."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Answers `Dispatched`."""
        self.answer(await self.ask(lambda front: front.queue.process()), success=True)


class CleanupHandler(LabHandler):
    """`POST /cleanup?days=`: removes jobs that ended longer ago."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Answers `CleanedUp`."""
        days = self.number("days", 30, least=1, most=365) or 30
        self.answer(await self.ask(lambda front: front.queue.cleanup(days), disk=True), success=True)


class NoRouteHandler(LabHandler):
    """Everything else below `api/queue`: 404 as JSON."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """There is no such route."""
        raise web.HTTPError(404, "there is no such route; approvals do not exist here")

    post = put = delete = get


OPERATIONS: Final[Operations] = {
    QueueHandler.get: Operation(
        answer=QueuePage,
        query=(
            choice("status", *STATUSES),
            flag("include_completed"),
            whole("limit", 1, MAX_ENTRIES, default=50),
            whole("offset", default=0),
        ),
    ),
    StatsHandler.get: Operation(answer=QueueStats),
    UserHandler.get: Operation(answer=OwnQueue, errors=(NotFound,)),
    MineHandler.get: Operation(answer=OwnQueue),
    PositionHandler.get: Operation(answer=QueuePosition, errors=(JobNotFound,)),
    QueueCancelHandler.post: Operation(answer=JobTaken, errors=(JobNotFound, IllegalTransition, StaleRecord)),
    PriorityHandler.post: Operation(answer=PrioritySet, body=PriorityBody, errors=(JobNotFound, Conflict, StaleRecord)),
    ConcurrencyHandler.get: Operation(answer=Concurrency),
    ConcurrencyHandler.post: Operation(answer=ConcurrencySet, body=ConcurrencyChange, errors=(ProviderNotFound,)),
    ProcessHandler.post: Operation(answer=SlotsGiven),
    CleanupHandler.post: Operation(answer=CleanupDone, query=(whole("days", 1, 365, default=30),)),
}


def queue_rules(base: str) -> list[tuple[str, type[web.RequestHandler]]]:
    """The table, for a base such as `/user/ann/api/queue`."""
    job = r"([A-Za-z0-9._-]{1,128})"
    table: list[tuple[str, type[web.RequestHandler]]] = [
        (r"/?", QueueHandler),
        (r"/stats", StatsHandler),
        (r"/me", MineHandler),
        (r"/user/([^/]{1,128})", UserHandler),
        (r"/submit", QueueSubmitHandler),
        (r"/position/" + job, PositionHandler),
        (r"/concurrency", ConcurrencyHandler),
        (r"/process", ProcessHandler),
        (r"/cleanup", CleanupHandler),
        (f"/{job}/cancel", QueueCancelHandler),
        (f"/{job}/priority", PriorityHandler),
        (r"/.*", NoRouteHandler),
    ]
    return [(base + path, handler) for path, handler in table]
