"""Routes about how this server is seen from outside (SPEC D1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jupyter_server.auth.decorator import authorized
from tornado import web

from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import Operation, Operations
from simpletuner_lab.services.exposure import local_upload, reach
from simpletuner_lab.services.reach.report import LocalUpload, Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlBody:
    """What is tested; empty: the public URL that is set."""

    url: str = ""


class LocalUploadHandler(LabHandler):
    """`GET /local-upload/config`: where results come home to. Never a secret."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `LocalUpload`."""
        self.answer(await self.ask(lambda front: local_upload(front.lab)))


class LocalUploadTestHandler(LabHandler):
    """`POST /local-upload/test`: whether the object endpoint is reached at its public URL, and what stands between."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Answers a `Reach`."""
        url = self.body(UrlBody).url
        front, rooms = await self.rooms.front(), self.rooms
        self.answer(await rooms.run(rooms.executors.net, reach, front.lab, url, listener=rooms.listener_host))


OPERATIONS: Final[Operations] = {
    LocalUploadHandler.get: Operation(answer=LocalUpload),
    LocalUploadTestHandler.post: Operation(answer=Reach, body=UrlBody),
}
