"""Routes about money (contract §2.2, §2.4): limits, what was spent, estimates, hardware and its prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jupyter_server.auth.decorator import authorized
from tornado import web

from simpletuner_lab.core.errors import (
    Conflict,
    InvalidRequest,
    JobNotFound,
    ProviderNotFound,
    ProviderUnavailable,
    TokenUnusable,
)
from simpletuner_lab.core.spend import SpendLimits
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import PLANNING, Operation, Operations, whole, words
from simpletuner_lab.services.codec import decode
from simpletuner_lab.services.forms import RequestForm
from simpletuner_lab.services.money import MOST_DAYS
from simpletuner_lab.services.money_views import (
    USUAL_DAYS,
    BillingRefresh,
    CostEstimate,
    CostLimitStatus,
    DashboardView,
    HardwareOptions,
    JobMoney,
    LimitsView,
    SpendView,
    StatedCost,
)


class LimitsHandler(LabHandler):
    """`GET` and `PUT /cost-limit`: all limits, and where they stand."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `LimitsView`."""
        self.answer(await self.ask(lambda front: front.money.limits()))

    @web.authenticated
    @authorized
    async def put(self) -> None:
        """Sets the members that are given, as deep as they are given; answers all."""
        given = self.json()
        if not isinstance(given, dict):
            raise InvalidRequest("the body must be a JSON object of limits")
        self.answer(await self.ask(lambda front: front.money.set_limits(given)))


class LimitStatusHandler(LabHandler):
    """`GET /cost-limit/status?provider=`: the limit that is nearest to its end."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `CostLimitStatus`."""
        provider = self.get_query_argument("provider", "")
        self.answer(await self.ask(lambda front: front.money.status(provider)))


class JobLimitHandler(LabHandler):
    """`GET /jobs/{id}/cost-limit`: what a limit said when the job was submitted."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answers a `JobMoney`."""
        self.answer(await self.ask(lambda front: front.money.warning(job_id)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CostBody:
    """Body of a cost that is said by hand, in US dollars."""

    cost_usd: float
    entry: str = "rest"


class JobCostHandler(LabHandler):
    """`PUT /jobs/{id}/cost`: what runs of an ended job have cost whose provider did not tell."""

    @web.authenticated
    @authorized
    async def put(self, job_id: str) -> None:
        """Answers a `StatedCost`."""
        body = self.body(CostBody)
        self.answer(await self.ask(lambda front: front.money.state_cost(job_id, body.cost_usd, entry=body.entry[:32])))


class SpendHandler(LabHandler):
    """`GET /spend?days=&provider=`: by day, provider, user and job."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `SpendView`."""
        days = self.number("days", USUAL_DAYS, least=1, most=MOST_DAYS) or USUAL_DAYS
        provider = self.get_query_argument("provider", "")
        self.answer(await self.ask(lambda front: front.money.spend(days, provider=provider)))


class DashboardHandler(LabHandler):
    """`GET /metrics?days=`: the dashboard of the original."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `DashboardView`."""
        days = self.number("days", USUAL_DAYS, least=1, most=MOST_DAYS) or USUAL_DAYS
        self.answer(await self.ask(lambda front: front.money.dashboard(days)))


class EstimateHandler(LabHandler):
    """`POST /cost-estimate`: a request as of a plan, or the data sets alone, as the original has them."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Answers a `CostEstimate`; changes nothing."""
        given, provider = self.json(), self.get_query_argument("provider", "")
        if not isinstance(given, list):
            request = decode(RequestForm, given, what="body").request(provider)
            self.answer(await self.ask(lambda front: front.money.estimate(request), disk=True))
            return
        if not all(isinstance(entry, dict) for entry in given):
            raise InvalidRequest("the body must be a request, or a JSON list of data sets")
        hardware = self.get_query_argument("hardware_profile", "")
        front = await self.rooms.front()
        self.answer(await self.rooms.run(self.rooms.executors.disk, front.money.unknown, provider, hardware, given))


class HardwareHandler(LabHandler):
    """`GET /hardware-options?provider=`: what there is, and what it costs."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers `HardwareOptions`."""
        front, rooms = await self.rooms.front(), self.rooms
        provider = self.get_query_argument("provider", "")
        self.answer(await rooms.run(rooms.executors.net, front.money.hardware, provider))


class BillingRefreshHandler(LabHandler):
    """`POST /billing/refresh`: no provider tells its balance."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Answers a `BillingRefresh`."""
        self.answer(await self.ask(lambda front: front.money.refresh()))


_DAYS: Final = whole("days", 1, MOST_DAYS, default=USUAL_DAYS)

OPERATIONS: Final[Operations] = {
    LimitsHandler.get: Operation(answer=LimitsView),
    LimitsHandler.put: Operation(answer=LimitsView, body=SpendLimits, errors=(ProviderNotFound,)),
    LimitStatusHandler.get: Operation(answer=CostLimitStatus, query=(words("provider"),), errors=(ProviderNotFound,)),
    JobLimitHandler.get: Operation(answer=JobMoney, errors=(JobNotFound,)),
    JobCostHandler.put: Operation(answer=StatedCost, body=CostBody, errors=(JobNotFound, Conflict)),
    SpendHandler.get: Operation(answer=SpendView, query=(_DAYS, words("provider")), errors=(ProviderNotFound,)),
    DashboardHandler.get: Operation(answer=DashboardView, query=(_DAYS,)),
    EstimateHandler.post: Operation(
        answer=CostEstimate,
        body=RequestForm | tuple[Mapping[str, object], ...],
        query=(words("provider"), words("hardware_profile")),
        errors=PLANNING,
    ),
    HardwareHandler.get: Operation(
        answer=HardwareOptions,
        query=(words("provider"),),
        errors=(ProviderNotFound, TokenUnusable, ProviderUnavailable),
    ),
    BillingRefreshHandler.post: Operation(answer=BillingRefresh),
}


def money_rules() -> list[tuple[str, type[web.RequestHandler]]]:
    """What `api_rules` has of it, beside what stands below a job."""
    return [
        (r"/spend", SpendHandler),
        (r"/metrics", DashboardHandler),
        (r"/cost-limit", LimitsHandler),
        (r"/cost-limit/status", LimitStatusHandler),
        (r"/cost-estimate", EstimateHandler),
        (r"/hardware-options", HardwareHandler),
        (r"/billing/refresh", BillingRefreshHandler),
    ]
