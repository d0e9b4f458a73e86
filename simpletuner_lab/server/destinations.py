"""Routes about where models go: the default destination, pushing a finished job, and what could be used (SPEC D2, D3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from jupyter_server.auth.decorator import authorized
from tornado import web

from simpletuner_lab.core.consent import signed
from simpletuner_lab.core.destination import Destination
from simpletuner_lab.core.errors import (
    Conflict,
    CredentialUnusable,
    JobNotFound,
    StaleRecord,
    UploadsForbidden,
)
from simpletuner_lab.server.answers import DeliveryList, RecommendedSet
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import Operation, Operations, words
from simpletuner_lab.services.recommending import enable_recommended
from simpletuner_lab.services.views import DeliveryView, PublishingView


@dataclass(frozen=True, slots=True, kw_only=True)
class PushBody:
    """Body of a push."""

    destination: Destination
    entry: str = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendedBody:
    """Which repository on the Hub; empty: that of the default, else one of the token's account."""

    hub_model_id: str = ""


class DestinationHandler(LabHandler):
    """`GET` and `PUT /destination`: where models go when a request does not say."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `Destination`."""
        self.answer(await self.ask(lambda front: front.destination()))

    @web.authenticated
    @authorized
    async def put(self) -> None:
        """Sets it, for plans from now on; answers it."""
        kind: Any = Destination
        wanted: Destination = self.body(kind)
        await self.ask(lambda front: front.set_destination(wanted))
        self.answer(wanted)


class PushHandler(LabHandler):
    """`GET /jobs/{id}/push`: each delivery. `POST`: 202 with a new one, which goes on by itself. `DELETE` ends them."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answers a `DeliveryList`: those of the detail, without a plan that may list 100,000 files."""
        found = await self.ask(lambda front: front.deliveries(job_id))
        self.answer(DeliveryList(deliveries=tuple(found)))

    @web.authenticated
    @authorized
    async def post(self, job_id: str) -> None:
        """Answers a `DeliveryView`."""
        body = self.body(PushBody)
        sent = await self.ask(
            lambda front: front.push(job_id, body.destination, entry=signed(body.entry)), disk=True
        )  # the Hub may be asked about its token
        self.answer(sent, status=202)

    @web.authenticated
    @authorized
    async def delete(self, job_id: str) -> None:
        """Gives up what waits, or with `?id=` one delivery; answers it."""
        chosen, entry = self.get_query_argument("id", ""), signed(self.get_query_argument("entry", "rest"))
        ended = await self.ask(lambda front: front.give_up(job_id, chosen, entry=entry))
        self.answer(DeliveryList(deliveries=tuple(ended)))


class RetryHandler(LabHandler):
    """`POST /jobs/{id}/push/retry`: what waits to be sent is tried now."""

    @web.authenticated
    @authorized
    async def post(self, job_id: str) -> None:
        """Answers 202 with all that waits."""
        waiting = await self.ask(lambda front: front.hasten(job_id))
        self.answer(DeliveryList(deliveries=tuple(waiting)), status=202)


class PublishingHandler(LabHandler):
    """`GET /publishing/status`: which destinations could be used now."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `PublishingView`."""
        front = await self.rooms.front()
        self.answer(await self.rooms.run(self.rooms.executors.net, front.publishing))


class OlderPublishingHandler(LabHandler):
    """`GET /publishing-status`: as `GET /publishing/status`, which it was called before."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `PublishingView`."""
        front = await self.rooms.front()
        self.answer(await self.rooms.run(self.rooms.executors.net, front.publishing))


class RecommendedHandler(LabHandler):
    """`POST /publishing/enable-recommended`: the Hub where its token works, else home, from now on."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Answers a `RecommendedSet`."""
        repo_id = self.body(RecommendedBody).hub_model_id
        front, rooms = await self.rooms.front(), self.rooms
        found = await rooms.run(
            rooms.executors.net, enable_recommended, front.lab, repo_id=repo_id, listener=rooms.listener_host
        )
        self.answer(found, success=True)


def destination_rules(job: str) -> list[tuple[str, type[LabHandler]]]:
    """Paths below the API's; `job` is that of one."""
    return [
        (job + r"/push", PushHandler),
        (job + r"/push/retry", RetryHandler),
        (r"/destination", DestinationHandler),
        (r"/publishing/status", PublishingHandler),
        (r"/publishing-status", OlderPublishingHandler),
        (r"/publishing/enable-recommended", RecommendedHandler),
    ]


_REFUSALS: Final = (JobNotFound, Conflict, StaleRecord)

OPERATIONS: Final[Operations] = {
    DestinationHandler.get: Operation(answer=Destination),
    DestinationHandler.put: Operation(answer=Destination, body=Destination),
    PushHandler.get: Operation(answer=DeliveryList, errors=(JobNotFound,)),
    PushHandler.post: Operation(
        answer=DeliveryView, status=202, body=PushBody, errors=(*_REFUSALS, CredentialUnusable, UploadsForbidden)
    ),
    PushHandler.delete: Operation(answer=DeliveryList, query=(words("id"), words("entry")), errors=_REFUSALS),
    RetryHandler.post: Operation(answer=DeliveryList, status=202, errors=_REFUSALS),
    PublishingHandler.get: Operation(answer=PublishingView),
    OlderPublishingHandler.get: Operation(answer=PublishingView, name="get_publishing_status_older"),
    RecommendedHandler.post: Operation(
        answer=RecommendedSet,
        body=RecommendedBody,
        errors=(CredentialUnusable, UploadsForbidden),
    ),
}
