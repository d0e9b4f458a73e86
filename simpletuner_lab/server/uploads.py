"""The route that tells how far a job's data are on their way (contract §2.6)."""

from __future__ import annotations

import json
from typing import Final

from jupyter_server.auth.decorator import authorized
from tornado import iostream, web

from simpletuner_lab.core.errors import JobNotFound, NotFound
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import EVENTS, Operation, Operations
from simpletuner_lab.services.codec import encode
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.upload_views import GONE, UploadProgress, upload_progress

_NEWS_S: Final = 0.5
"""It looks again after this long even without news: another process may do the work."""
_PING_NEWS: Final = 30
"""Looks without a change between two pings."""


class UploadProgressHandler(LabHandler):
    """`GET /api/webhooks/upload/progress/{id}`: server-sent events of how far a job's data are, until they are there."""

    @web.authenticated
    @authorized
    async def get(self, upload_id: str) -> None:
        """Each event is an `UploadProgress`, the last one with `done`; `upload_id` is the id of a job."""
        seen = await self.ask(lambda front: _look(front, upload_id))
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Accel-Buffering", "no")
        quiet, told = 0, None
        try:
            while True:
                if seen != told:
                    quiet, told = 0, seen
                    self.write(f"data: {self.rooms.redactor().known(json.dumps(encode(seen)))}\n\n")
                    await self.flush()
                elif (quiet := quiet + 1) % _PING_NEWS == 0:
                    self.write(": ping\n\n")
                    await self.flush()
                if seen.done:
                    break
                await self.rooms.announcer.news(upload_id, _NEWS_S)
                seen = await self.ask(lambda front: _look_again(front, upload_id))
            await self.finish(set_content_type="text/event-stream")
        except iostream.StreamClosedError:
            return  # the reader has gone


def _look(front: Front, job_id: str) -> UploadProgress:
    job = front.lab.store.jobs.get(job_id)
    return upload_progress(job, front.lab.queue.standings((job,)).get(job_id))


def _look_again(front: Front, job_id: str) -> UploadProgress:
    """The answer has begun, so a job that is deleted meanwhile is an event of it."""
    try:
        return _look(front, job_id)
    except JobNotFound:
        return GONE


OPERATIONS: Final[Operations] = {
    UploadProgressHandler.get: Operation(answer=None, media=EVENTS, errors=(JobNotFound, NotFound)),
}
