"""Money as front-ends see it: limits, what is spent by day, provider, user and job, estimates, hardware (contract §2.2, §2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.rates import Card, TypicalRun
from simpletuner_lab.core.spend import LimitAction, Period, SpendLimits
from simpletuner_lab.core.verdict import LimitState

USUAL_DAYS: Final = 30
"""So many days are looked back at where nobody says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLimitStatus:
    """The limit that is nearest to its end, in the fields that users of the original know."""

    enabled: bool
    limit_amount: float
    period: Period
    action: LimitAction
    current_spend: float | None
    """Null: of a run it is not known."""
    assumed: float
    """Of that: what runs count for whose cost nobody told."""
    assumed_runs: int
    committed: float | None
    """What jobs under way may still cost; a submit is judged by both."""
    percent_used: float | None
    """Of spent and committed together."""
    is_exceeded: bool
    is_warning: bool
    message: str
    scope: str
    """`all`, or the provider whose limit it is."""
    time_zone: str
    since: str
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsView:
    """The limits that are set, and where those that are on stand."""

    limits: SpendLimits
    states: tuple[LimitState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DaySpend:
    """What runs that began on a day have cost; `unpriced`: runs of which that is not known."""

    day: str
    cost_usd: float
    runs: int
    unpriced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSpend:
    """The same of a provider or a user."""

    name: str
    cost_usd: float
    runs: int
    unpriced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpend:
    """The same of a job; `config_name` is empty once it was deleted."""

    job_id: str
    config_name: str
    provider: str
    owner: str
    cost_usd: float
    runs: int
    unpriced: int
    metered_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendView:
    """What was spent in the last days, each a calendar day of the zone; today is the last. Days without a run are 0."""

    days: int
    time_zone: str
    since: str
    total_usd: float
    runs: int
    unpriced: int
    by_day: tuple[DaySpend, ...]
    by_provider: tuple[NamedSpend, ...]
    by_user: tuple[NamedSpend, ...]
    by_job: tuple[JobSpend, ...]
    """The dearest first."""
    limits: tuple[LimitState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayCost:
    """A day of the dashboard's chart."""

    date: str
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardView:
    """The dashboard of the original. No provider tells its balance, so what rests on that is null."""

    credit_balance: float | None
    estimated_jobs_remaining: int | None
    total_cost: float
    job_count: int
    avg_job_duration_seconds: float | None
    jobs_by_status: Mapping[str, int]
    cost_by_day: tuple[DayCost, ...]
    period_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CostEstimate:
    """An estimate with its basis and range. Null is not known, and `message` says why."""

    has_estimate: bool
    estimated_cost_usd: float | None
    estimated_cost_low_usd: float | None
    estimated_cost_high_usd: float | None
    avg_duration_seconds: float | None
    """How long it takes as it seems: of the run in question, not of others."""
    hardware_cost_per_hour: float | None
    data_size_mb: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareView:
    """One kind of hardware and its price, with date and source."""

    id: str
    name: str
    cost_per_second: float | None
    cost_per_hour: float | None
    available: bool
    as_of: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareOptions:
    """What a provider has, and the published figures that estimates begin with."""

    provider: str
    hardware: tuple[HardwareView, ...]
    default_hardware: str
    message: str
    cards: tuple[Card, ...]
    typical_runs: tuple[TypicalRun, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingRefresh:
    """What is known of the balance: nothing, and why."""

    credit_balance: float | None
    estimated_jobs_remaining: int | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedCost:
    """What a user said that runs of a job have cost whose provider did not tell."""

    job_id: str
    cost_usd: float
    """Of the job in all."""
    runs: int
    """Of which it was not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMoney:
    """What is reserved for a job, and what a limit said when it was submitted."""

    job_id: str
    warning: str
