"""Money, through whichever way to the lab: `services.money` has its words on each verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.codec import decode
from simpletuner_lab.services.forms import form_of
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

T = TypeVar("T")


class MoneyDesk(Protocol):
    """The verbs."""

    def limits(self) -> LimitsView:
        """The limits, and where those that are on stand."""

    def set_limits(self, changes: Mapping[str, object]) -> LimitsView:
        """Sets some of them."""

    def status(self, provider: str = "") -> CostLimitStatus:
        """The limit that is nearest to its end."""

    def warning(self, job_id: str) -> JobMoney:
        """What a limit said when the job was submitted."""

    def state_cost(self, job_id: str, usd: float, *, entry: str = "python") -> StatedCost:
        """Books what runs have cost whose provider did not tell."""

    def spend(self, days: int = USUAL_DAYS, *, provider: str = "") -> SpendView:
        """What was spent in the last days."""

    def dashboard(self, days: int = USUAL_DAYS) -> DashboardView:
        """The dashboard of the original."""

    def estimate(self, request: SubmitRequest) -> CostEstimate:
        """What a submit of this would cost."""

    def hardware(self, provider: str = "") -> HardwareOptions:
        """What a provider has, and what it costs."""

    def refresh(self) -> BillingRefresh:
        """What is known of a balance."""


class RestMoney:
    """The verbs over REST. `call` takes method, path and body, and gives the answer's members."""

    def __init__(self, call: Callable[..., dict[str, Any]]) -> None:
        self._call = call

    def limits(self) -> LimitsView:
        """The limits, and where those that are on stand."""
        return self._read(LimitsView, "GET", "/cost-limit")

    def set_limits(self, changes: Mapping[str, object]) -> LimitsView:
        """Sets some of them."""
        return self._read(LimitsView, "PUT", "/cost-limit", json=dict(changes))

    def status(self, provider: str = "") -> CostLimitStatus:
        """The limit that is nearest to its end."""
        return self._read(CostLimitStatus, "GET", "/cost-limit/status", params=_given(provider=provider))

    def warning(self, job_id: str) -> JobMoney:
        """What a limit said when the job was submitted."""
        return self._read(JobMoney, "GET", f"/jobs/{quote(job_id, safe='') or '-'}/cost-limit")

    def state_cost(self, job_id: str, usd: float, *, entry: str = "python") -> StatedCost:
        """Books what runs have cost whose provider did not tell."""
        body = {"cost_usd": usd, "entry": entry}
        return self._read(StatedCost, "PUT", f"/jobs/{quote(job_id, safe='') or '-'}/cost", json=body)

    def spend(self, days: int = USUAL_DAYS, *, provider: str = "") -> SpendView:
        """What was spent in the last days."""
        return self._read(SpendView, "GET", "/spend", params=_given(days=str(days), provider=provider))

    def dashboard(self, days: int = USUAL_DAYS) -> DashboardView:
        """The dashboard of the original."""
        return self._read(DashboardView, "GET", "/metrics", params={"days": str(days)})

    def estimate(self, request: SubmitRequest) -> CostEstimate:
        """What a submit of this would cost."""
        return self._read(CostEstimate, "POST", "/cost-estimate", json=form_of(request))

    def hardware(self, provider: str = "") -> HardwareOptions:
        """What a provider has, and what it costs."""
        return self._read(HardwareOptions, "GET", "/hardware-options", params=_given(provider=provider))

    def refresh(self) -> BillingRefresh:
        """What is known of a balance."""
        return self._read(BillingRefresh, "POST", "/billing/refresh")

    def _read(self, cls: type[T], method: str, path: str, **how: Any) -> T:
        return decode(cls, self._call(method, path, **how), what="answer")


def _given(**query: str) -> dict[str, str]:
    return {name: value for name, value in query.items() if value}
