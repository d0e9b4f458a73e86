"""Routes that test whether a provider's webhooks arrive (SPEC W1, D1; contract §2.3, §2.6).

No route here sends anything to an address that its caller names: what is tested is this lab's own.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from jupyter_server.auth.decorator import authorized
from tornado import web

from simpletuner_lab.core.errors import (
    Conflict,
    InvalidRequest,
    NotReached,
    Problem,
    ProviderFailure,
    ProviderNotFound,
    ProviderUnavailable,
)
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import Operation, Operations
from simpletuner_lab.server.trials import Arrival
from simpletuner_lab.services.exposure import cause_webhook, prove_webhook, require_own_webhook, webhook_url
from simpletuner_lab.services.reach.report import Look, Mode, Outcome, Step, WebhookReport, failed, ok

Method: TypeAlias = Literal["direct", "provider", "replicate_cog"]

_LONGEST_WAIT_S: Final = 60.0
_DIRECT: Final = "see how far one from here comes: stcloud webhook test PROVIDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTestBody:
    """Who sends the webhook of a test, and how many seconds it is waited for."""

    mode: Mode = Mode.DIRECT
    wait_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalTestBody:
    """How many seconds a webhook of the provider is waited for."""

    wait_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressTestBody:
    """Whose webhooks are tested, by which method, and how many seconds that may take."""

    provider: str
    webhook_url: str = ""
    """Empty, or this lab's own address for that provider: no other is asked."""
    timeout: float = 30.0
    method: Method | None = None
    """`direct`, also where it is null: from here. `provider`, of old `replicate_cog`: the provider is made to send one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookCame:
    """A webhook of the provider came, and was taken."""

    success: bool = True
    message: str
    latency_ms: float
    """From the question to the provider until it was verified here; the run that sends it is within."""
    status_code: int
    """What this lab has for one that is verified. One that takes longer is answered 202 before."""
    prediction_id: str | None
    """Of the run that sent it, as the provider calls it; null where that is not known."""
    error: str | None = None
    details: WebhookReport


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTested:
    """A webhook arrived at this lab's own address, and was taken."""

    success: bool = True
    latency_ms: float
    status_code: int
    error: str | None = None
    method: str
    webhook_url: str


class WebhookTests(LabHandler):
    """Base of the routes below: the two ways of a test."""

    async def from_here(self, provider_id: str) -> WebhookReport:
        """Of a webhook that this lab sends to itself."""
        front, rooms = await self.rooms.front(), self.rooms
        return await rooms.run(rooms.executors.net, prove_webhook, front.lab, provider_id)

    async def from_there(self, provider_id: str, wait_s: float) -> tuple[WebhookReport, str]:
        """Of one that the provider is made to send, and the run that sends it."""
        front, rooms = await self.rooms.front(), self.rooms
        began = time.monotonic()
        with rooms.trials.begun() as nonce:
            caused = await rooms.run(rooms.executors.net, cause_webhook, front.lab, provider_id, nonce)
            arrival = await rooms.trials.arrival(wait_s)
        took_s = round(time.monotonic() - began, 3)
        url, looks = webhook_url(front.lab, provider_id), looks_of(arrival, caused.said, wait_s)
        steps = (Step.PATH, Step.SIGNATURE)
        return WebhookReport.of(provider_id, Mode.PROVIDER, url, looks, steps=steps, took_s=took_s), caused.ref


class WebhookTestHandler(WebhookTests):
    """`POST /providers/{id}/test-webhook`: whether a provider's webhooks arrive."""

    @web.authenticated
    @authorized
    async def post(self, provider_id: str) -> None:
        """Answers a `WebhookReport`: of a webhook that this lab sends to itself, or that the provider is made to send."""
        body = self.body(WebhookTestBody)
        _require_patience("wait_s", body.wait_s)
        if body.mode is Mode.PROVIDER:
            report, _ = await self.from_there(provider_id, body.wait_s)
            self.answer(report)
        else:
            self.answer(await self.from_here(provider_id))


class ExternalTestHandler(WebhookTests):
    """`POST /providers/{id}/test-webhook-external`: the provider is made to send a webhook, which must arrive."""

    @web.authenticated
    @authorized
    async def post(self, provider_id: str) -> None:
        """Answers a `WebhookCame`; one that does not come, or is refused, is an error."""
        wait_s = self.body(ExternalTestBody).wait_s
        _require_patience("wait_s", wait_s)
        report, ref = await self.from_there(provider_id, wait_s)
        require_reached(report)
        message = "; ".join(step.message for step in report.steps)
        self.answer(
            WebhookCame(
                message=message,
                latency_ms=_milliseconds(report),
                status_code=200,
                prediction_id=ref or None,
                details=report,
            )
        )


class AddressTestHandler(WebhookTests):
    """`POST /api/webhooks/test`: whether a webhook arrives at this lab's own address, and at no other."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Answers a `WebhookTested`; one that does not arrive is an error."""
        body = self.body(AddressTestBody)
        _require_patience("timeout", body.timeout)
        own = await self.ask(lambda front: require_own_webhook(front.lab, body.provider, body.webhook_url))
        if body.method in {None, "direct"}:
            report = await self._in_time(body)
        else:
            report, _ = await self.from_there(body.provider, body.timeout)
        require_reached(report)
        method = body.method or "direct"
        self.answer(WebhookTested(latency_ms=_milliseconds(report), status_code=200, method=method, webhook_url=own))

    async def _in_time(self, body: AddressTestBody) -> WebhookReport:
        try:
            return await asyncio.wait_for(self.from_here(body.provider), body.timeout)
        except TimeoutError as error:
            hint = f"{_DIRECT}, which names the step at which it stands still"
            raise NotReached(f"no answer came within {body.timeout:g} s", hint=hint) from error


def require_reached(report: WebhookReport) -> None:
    """Whether what was sent arrived and was taken.

    Raises:
        NotReached: it was not; with each step that is not as it should be.
    """
    if report.reached:
        return
    wrong = [step for step in report.steps if step.status in {Outcome.FAILED, Outcome.WARNING}]
    first = next(step for step in wrong if step.status is Outcome.FAILED)
    raise NotReached(
        f"webhooks of {report.provider} do not arrive: {first.message}",
        hint=first.hint,
        problems=[Problem(path=step.name.value, message=step.message, hint=step.hint) for step in wrong],
    )


def looks_of(arrival: Arrival | None, said: str, wait_s: float) -> list[Look]:
    """What came of a webhook that a provider was made to send; `said` is the provider's word on it."""
    if arrival is None:
        return [failed(Step.PATH, f"no webhook came within {wait_s:g} s ({said})", _DIRECT)]
    came = ok(Step.PATH, f"a webhook came from {arrival.caller or 'an address that cannot be told'} ({said})")
    if arrival.problem:
        fix = "is the provider's token that of the account that sends, and webhook_allowed_ips right?"
        return [came, failed(Step.SIGNATURE, f"it was refused: {arrival.problem}", fix)]
    return [came, ok(Step.SIGNATURE, "its signature is right")]


def _require_patience(name: str, seconds: float) -> None:
    if not 0 < seconds <= _LONGEST_WAIT_S:
        raise InvalidRequest(f"{name} is from a fraction of a second to {_LONGEST_WAIT_S:.0f}")


def _milliseconds(report: WebhookReport) -> float:
    return round(report.took_s * 1000, 1)


def webhook_test_rules(provider: str) -> list[tuple[str, type[LabHandler]]]:
    """Paths below the API's; `provider` is that of one."""
    return [
        (provider + r"/test-webhook", WebhookTestHandler),
        (provider + r"/test-webhook-external", ExternalTestHandler),
    ]


_ASKED: Final = (ProviderNotFound, Conflict, ProviderFailure, ProviderUnavailable)

OPERATIONS: Final[Operations] = {
    WebhookTestHandler.post: Operation(answer=WebhookReport, body=WebhookTestBody, errors=_ASKED),
    ExternalTestHandler.post: Operation(answer=WebhookCame, body=ExternalTestBody, errors=(*_ASKED, NotReached)),
    AddressTestHandler.post: Operation(answer=WebhookTested, body=AddressTestBody, errors=(*_ASKED, NotReached)),
}
