"""The route that submits a config by its name (contract §2.8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jupyter_server.auth.decorator import authorized
from tornado import web

from simpletuner_lab.core.errors import Conflict, NotFound
from simpletuner_lab.core.job import JobState
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import SUBMITTING, Operation, Operations
from simpletuner_lab.services.queue_submit import NamedSubmit, submit_named
from simpletuner_lab.services.views import JobView


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSubmitted:
    """A config that was submitted again. There are no approvals, no numbered graphics cards and no workers yet."""

    success: bool = True
    job_id: str
    status: str
    """`queued` while it waits for a slot, `dispatched` once it has one, `running` once its run is seen to run."""
    queue_position: int | None
    """1 is the next; null: it does not wait."""
    reason: str | None
    """Why it waits."""
    requires_approval: bool = False
    allocated_gpus: tuple[int, ...] | None = None
    allocated_worker_id: str | None = None
    error: str | None = None
    cost_limit_warning: str | None
    job: JobView


class QueueSubmitHandler(LabHandler):
    """`POST /submit`: 202 with a new job of a config that was submitted before."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Answers a `NamedSubmitted`. Consent is asked and limits count as by any submit."""
        asked = self.body(NamedSubmit)
        job = await self.ask(lambda front: submit_named(front, asked), disk=True)
        warning = await self.ask(lambda front: front.lab.store.spending.warning(job.job_id)) or None
        self.answer(_told(job, warning), status=202)


def _told(job: JobView, warning: str | None) -> NamedSubmitted:
    waits = job.queue_position is not None
    running = "running" if job.status is JobState.RUNNING else "dispatched"
    return NamedSubmitted(
        job_id=job.job_id,
        status="queued" if waits else running,
        queue_position=job.queue_position,
        reason=job.waiting if waits else None,
        cost_limit_warning=warning,
        job=job,
    )


OPERATIONS: Final[Operations] = {
    QueueSubmitHandler.post: Operation(
        answer=NamedSubmitted, status=202, body=NamedSubmit, errors=(*SUBMITTING, NotFound, Conflict)
    ),
}
