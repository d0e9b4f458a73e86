"""Routes about how this server is seen from outside (SPEC D1)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from jupyter_server.auth.decorator import authorized
from tornado import web

from simpletuner_lab.core.errors import Conflict, InvalidRequest, ProviderFailure, ProviderNotFound, ProviderUnavailable
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import Operation, Operations
from simpletuner_lab.server.trials import Arrival
from simpletuner_lab.services.exposure import cause_webhook, local_upload, prove_webhook, reach, webhook_url
from simpletuner_lab.services.reach.report import LocalUpload, Look, Mode, Reach, Step, WebhookReport, failed, ok

_LONGEST_WAIT_S: Final = 60.0
_DIRECT: Final = "see how far one from here comes: stcloud webhook test PROVIDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlBody:
    """What is tested; empty: the public URL that is set."""

    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTestBody:
    """Who sends the webhook of a test, and how many seconds it is waited for."""

    mode: Mode = Mode.DIRECT
    wait_s: float = 60.0


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


class WebhookTestHandler(LabHandler):
    """`POST /providers/{id}/test-webhook`: whether a provider's webhooks arrive."""

    @web.authenticated
    @authorized
    async def post(self, provider_id: str) -> None:
        """Answers a `WebhookReport`: of a webhook that this lab sends to itself, or that the provider is made to send."""
        body = self.body(WebhookTestBody)
        if not 0 < body.wait_s <= _LONGEST_WAIT_S:
            raise InvalidRequest(f"wait_s is from a fraction of a second to {_LONGEST_WAIT_S:.0f}")
        if body.mode is Mode.PROVIDER:
            self.answer(await self._by_provider(provider_id, body.wait_s))
            return
        front, rooms = await self.rooms.front(), self.rooms
        self.answer(await rooms.run(rooms.executors.net, prove_webhook, front.lab, provider_id))

    async def _by_provider(self, provider_id: str, wait_s: float) -> WebhookReport:
        front, rooms = await self.rooms.front(), self.rooms
        began = time.monotonic()
        with rooms.trials.begun() as nonce:
            said = await rooms.run(rooms.executors.net, cause_webhook, front.lab, provider_id, nonce)
            arrival = await rooms.trials.arrival(wait_s)
        took_s = round(time.monotonic() - began, 3)
        url, looks = webhook_url(front.lab, provider_id), looks_of(arrival, said, wait_s)
        steps = (Step.PATH, Step.SIGNATURE)
        return WebhookReport.of(provider_id, Mode.PROVIDER, url, looks, steps=steps, took_s=took_s)


def looks_of(arrival: Arrival | None, said: str, wait_s: float) -> list[Look]:
    """What came of a webhook that a provider was made to send; `said` is the provider's word on it."""
    if arrival is None:
        return [failed(Step.PATH, f"no webhook came within {wait_s:g} s ({said})", _DIRECT)]
    came = ok(Step.PATH, f"a webhook came from {arrival.caller or 'an address that cannot be told'} ({said})")
    if arrival.problem:
        fix = "is the provider's token that of the account that sends, and webhook_allowed_ips right?"
        return [came, failed(Step.SIGNATURE, f"it was refused: {arrival.problem}", fix)]
    return [came, ok(Step.SIGNATURE, "its signature is right")]


OPERATIONS: Final[Operations] = {
    LocalUploadHandler.get: Operation(answer=LocalUpload),
    LocalUploadTestHandler.post: Operation(answer=Reach, body=UrlBody),
    WebhookTestHandler.post: Operation(
        answer=WebhookReport,
        body=WebhookTestBody,
        errors=(ProviderNotFound, Conflict, ProviderFailure, ProviderUnavailable),
    ),
}
