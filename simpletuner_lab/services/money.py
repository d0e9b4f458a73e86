"""Money: limits, totals, estimates (contract §2.2 to §2.4; SPEC M1 to M3). What decides is in `core.spend`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Final

from simpletuner_lab.core.canonical import JsonObject
from simpletuner_lab.core.cost import Estimate, amount_or_none
from simpletuner_lab.core.errors import Conflict, InvalidRequest, JobNotFound, LabError, ProviderUnavailable
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.ledger import Charge, said_by_hand, with_charge
from simpletuner_lab.core.plan import Plan, SubmitRequest
from simpletuner_lab.core.provider import Provider
from simpletuner_lab.core.rates import CARDS, TYPICAL
from simpletuner_lab.core.spend import ALL, SpendLimits, day_of, dollars, midnight
from simpletuner_lab.core.verdict import LimitState, assumed_text, limit_text
from simpletuner_lab.services.codec import decode, encode
from simpletuner_lab.services.money_views import (
    USUAL_DAYS,
    BillingRefresh,
    CostEstimate,
    CostLimitStatus,
    DashboardView,
    DayCost,
    HardwareOptions,
    HardwareView,
    JobMoney,
    LimitsView,
    SpendView,
    StatedCost,
)
from simpletuner_lab.services.planning import Planner
from simpletuner_lab.services.recorder import Recorder
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.spending import Request, zone_of
from simpletuner_lab.services.store import Store
from simpletuner_lab.services.totals import by_name, days_from, grouped, of_jobs, spent_on, total

MOST_DAYS: Final = 365

_NO_BALANCE: Final = "no provider tells its balance; what runs of this lab have cost is under /spend"


class Money:
    """Reads the ledger and sets its limits. Safe to use from several threads. `changed` is called after limits were set, or a cost was said."""

    def __init__(
        self, store: Store, registry: Registry, planner: Planner, plan: Callable[[SubmitRequest], Plan],
        clock: Callable[[], float], *, recorder: Recorder, changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._store = store
        self._recorder = recorder
        self._registry = registry
        self._preview = planner.preview
        self._plan = plan
        self._clock = clock
        self._changed = changed

    # ------------------------------------------------------------ limits

    def limits(self) -> LimitsView:
        """The limits, and where those that are on stand."""
        return LimitsView(limits=self._store.spending.limits(), states=self._store.spending.states(now=self._clock()))

    def set_limits(self, changes: Mapping[str, object]) -> LimitsView:
        """Sets some of them; what is not given stays. `providers` holds those that are to change.

        Jobs that wait for money look at once whether there is some now.

        Raises:
            InvalidRequest: unknown members, amounts below 0, a zone that is none, a provider that is none.
        """
        for name in _of(changes, "providers"):
            self._registry.class_of(name)

        def changed(before: SpendLimits) -> SpendLimits:
            limits = decode(SpendLimits, merged(encode(before), changes), what="limits")
            zone_of(limits.time_zone)
            return limits

        self._store.spending.change_limits(changed)
        self._changed()
        return self.limits()

    def status(self, provider: str = "") -> CostLimitStatus:
        """The limit that is nearest to its end: of all providers, or of those that count for one.

        Raises:
            ProviderNotFound: there is no such provider.
        """
        if provider:
            self._registry.class_of(provider)
        limits, now = self._store.spending.limits(), self._clock()
        states = self._store.spending.states({provider, ALL} if provider else None, now=now)
        if not states:
            return _off(limits, provider)
        return _status(max(states, key=_urgency), limits.time_zone)

    def warning(self, job_id: str) -> JobMoney:
        """What a limit said when the job was submitted.

        Raises:
            JobNotFound: there is none.
        """
        self._store.jobs.get(job_id)
        return JobMoney(job_id=job_id, warning=self._store.spending.warning(job_id))

    def state_cost(self, job_id: str, usd: float, *, entry: str = "python") -> StatedCost:
        """Books what runs of an ended job have cost in all of which no provider told it, as its user says it; also after a delete.

        It may be said anew, and no sync changes it.

        Raises:
            InvalidRequest: it is no amount.
            JobNotFound: there is no such job, and nothing is booked for it.
            Conflict: it has not ended, or what it cost is known.
        """
        usd = require_amount(usd)
        charges, runs = self._store.charges, 0

        def write(job: Job) -> Job:
            nonlocal runs
            if not job.terminal:
                raise Conflict(
                    f"job {job_id} has not ended: its runs may cost more", hint="wait for its end, or cancel it"
                )
            now, booked = self._clock(), charges.of_job(job_id)
            said = _said_by_hand(job_id, booked, usd, now=now)
            runs = len(said)
            after = dataclasses.replace(job, cost_usd=_cost(booked, said), updated_at=now)
            message = f"that its runs cost {dollars(usd)} which no provider tells was said by hand"
            return self._recorder.note(
                job, after, EventKind.SPEND_LIMIT, at=now, charges=said, message=message, entry=entry
            )

        try:
            cost_usd = self._recorder.decide(job_id, write).cost_usd or 0.0
        except JobNotFound:
            booked = charges.of_job(job_id)
            if not booked:
                raise
            said = _said_by_hand(job_id, booked, usd, now=self._clock())
            runs, cost_usd = len(said), _cost(booked, said)
            charges.put(*said)
        with contextlib.suppress(LabError):  # it is booked, and who waits for money asks in a minute anyway
            self._changed()
        return StatedCost(job_id=job_id, cost_usd=cost_usd, runs=runs)

    # ------------------------------------------------------------ totals

    def spend(self, days: int = USUAL_DAYS, *, provider: str = "") -> SpendView:
        """What was spent in the last calendar days, today among them.

        Raises:
            InvalidRequest: days are not 1 to 365.
            ProviderNotFound: there is no such provider, and none that is gone has cost anything here.
        """
        if not 1 <= days <= MOST_DAYS:
            raise InvalidRequest(f"days are 1 to {MOST_DAYS}, not {days}")
        if provider and not self._store.charges.of_provider(provider):
            with contextlib.suppress(ProviderUnavailable):  # there is one
                self._registry.class_of(provider)
        now, time_zone = self._clock(), self._store.spending.limits().time_zone
        zone = zone_of(time_zone)
        today = day_of(now, zone)
        first = today - timedelta(days=days - 1)
        charges = self._store.spending.since(midnight(first, zone), provider=provider)
        by_day = grouped(charges, lambda charge: day_of(charge.opened_at, zone).isoformat())
        by_job = grouped(charges, lambda charge: charge.job_id)
        cost, runs, unpriced = total(charges)
        scopes = {provider, ALL} if provider else None
        return SpendView(
            days=days,
            time_zone=time_zone,
            since=first.isoformat(),
            total_usd=cost,
            runs=runs,
            unpriced=unpriced,
            by_day=tuple(spent_on(day, by_day.get(day.isoformat(), [])) for day in days_from(first, days)),
            by_provider=by_name(grouped(charges, lambda charge: charge.provider)),
            by_user=by_name(grouped(charges, lambda charge: charge.owner)),
            by_job=of_jobs(by_job, self._store.spending.names(by_job)),
            limits=self._store.spending.states(scopes, now=now),
        )

    def dashboard(self, days: int = USUAL_DAYS) -> DashboardView:
        """The fields of the original's dashboard: costs of a period, and jobs that were made in it."""
        spent = self.spend(days)
        since = midnight(date.fromisoformat(spent.since), zone_of(spent.time_zone))
        tally = self._store.spending.jobs_since(since)
        return DashboardView(
            credit_balance=None,
            estimated_jobs_remaining=None,
            total_cost=spent.total_usd,
            job_count=sum(tally.by_state.values()),
            avg_job_duration_seconds=tally.mean_duration_s,
            jobs_by_status={state.value: tally.by_state.get(state.value, 0) for state in JobState},
            cost_by_day=tuple(DayCost(date=one.day, cost=one.cost_usd) for one in spent.by_day),
            period_days=days,
        )

    # ------------------------------------------------------------ before a submit

    def estimate(self, request: SubmitRequest) -> CostEstimate:
        """What a submit of this would cost; changes nothing. Without a config only the size of the data is known.

        Raises:
            LabError: as `Lab.plan`.
        """
        plan = self._plan(request)
        known = plan.estimate.usd_likely is not None and plan.estimate.usd_high is not None
        return _estimated(plan.estimate, plan.rate.usd_per_hour, plan.identity.manifest.bytes, known=known)

    def unknown(self, provider: str, hardware: str, dataloader: Sequence[JsonObject]) -> CostEstimate:
        """The answer where data sets alone are given: their size and the price of an hour."""
        size = self._preview(dataloader).bytes
        rates = self._provider(provider).options().rates
        rate = next((one for one in rates if hardware in {"", one.hardware}), None)
        if rate is None:
            raise InvalidRequest(f"there is no hardware {hardware!r}", hint=", ".join(one.hardware for one in rates))
        why = "steps, model and batch decide what a run costs, and a list of data sets has none of them: send the config too"
        nothing = Estimate(seconds_low=None, seconds_high=None, usd_low=None, usd_high=None, basis=why)
        return _estimated(nothing, rate.usd_per_hour, size, known=False)

    def hardware(self, provider: str = "") -> HardwareOptions:
        """What a provider has, with prices, their dates and sources.

        Raises:
            ProviderNotFound, ProviderUnavailable: there is none, or it cannot be used.
        """
        chosen = self._provider(provider)
        rates = chosen.options().rates
        found = tuple(
            HardwareView(
                id=rate.hardware,
                name=rate.label,
                cost_per_second=None if rate.usd_per_hour is None else rate.usd_per_hour / 3600,
                cost_per_hour=rate.usd_per_hour,
                available=True,
                as_of=rate.as_of,
                source=rate.source,
            )
            for rate in rates
        )
        dates = sorted({rate.as_of for rate in rates if rate.as_of})
        message = (
            f"prices as of {dates[0]}" if dates else "nothing here has a price" if not rates else "no price is dated"
        )
        default = rates[0].hardware if rates else ""
        return HardwareOptions(
            provider=chosen.id, hardware=found, default_hardware=default, message=message, cards=CARDS,
            typical_runs=TYPICAL,
        )  # fmt: skip

    def refresh(self) -> BillingRefresh:
        """Asks nobody: there is nobody to ask."""
        return BillingRefresh(credit_balance=None, estimated_jobs_remaining=None, error=_NO_BALANCE)

    def _provider(self, provider: str) -> Provider:
        """The one that is named, else the first elsewhere, where things cost money."""
        if provider:
            return self._registry.get(provider)
        found = list(self._registry)
        remote = next((one for one in found if one.capabilities.remote), None)
        if remote is None and not found:
            raise InvalidRequest("no provider can be used", hint="stcloud providers says why")
        return remote or found[0]


def require_amount(usd: float) -> float:
    """The amount.

    Raises:
        InvalidRequest: it is none.
    """
    found = amount_or_none(usd)
    if found is None:
        raise InvalidRequest(f"{usd} is no amount of US dollars", hint="0 or more, for example 1.20")
    return found


def _said_by_hand(job_id: str, booked: Sequence[Charge], usd: float, *, now: float) -> tuple[Charge, ...]:
    said = said_by_hand(booked, usd, now=now)
    if not said:
        raise Conflict(f"what job {job_id} has cost is known", hint="its provider told it: stcloud spend lists it")
    return said


def _cost(booked: Sequence[Charge], said: Iterable[Charge]) -> float:
    for one in said:
        booked = with_charge(booked, one)
    return sum(one.cost_usd or 0.0 for one in booked)


def asked_by(plan: Plan) -> Request | None:
    """What a plan's job asks for."""
    return None if plan.spend is None else Request(claim=plan.spend.claim)


def merged(before: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """JSON objects laid one over the other, member by member, as deep as both have them."""
    after = dict(before)
    for key, value in changes.items():
        old = after.get(key)
        deeper = isinstance(value, Mapping) and isinstance(old, Mapping)
        after[key] = merged(old, value) if deeper else value  # type: ignore[arg-type]
    return after


def _of(changes: Mapping[str, object], key: str) -> Iterable[str]:
    found = changes.get(key)
    return map(str, found) if isinstance(found, Mapping) else ()


def _urgency(state: LimitState) -> tuple[bool, float]:
    """What is not known goes first, then what is nearest to its end."""
    return state.share is None, state.share or 0.0


def _off(limits: SpendLimits, provider: str) -> CostLimitStatus:
    limit = limits.providers.get(provider, limits.total)
    return CostLimitStatus(
        enabled=False, limit_amount=limit.amount_usd, period=limit.period, action=limit.action, current_spend=0.0,
        assumed=0.0, assumed_runs=0, committed=0.0, percent_used=0.0, is_exceeded=False, is_warning=False, message="no spend limit is set",
        scope=provider or ALL, time_zone=limits.time_zone, since="", until="",
    )  # fmt: skip


def _status(state: LimitState, time_zone: str) -> CostLimitStatus:
    percent = None if state.share is None else round(100 * state.share, 2)
    assumed = f" ({found})" if (found := assumed_text(state)) else ""
    said = "of a run it is not known what it costs" if percent is None else (
        f"{dollars(state.spent_usd or 0.0)} spent{assumed} and {dollars(state.committed_usd or 0.0)} reserved: {percent:g} %"
    )  # fmt: skip
    return CostLimitStatus(
        enabled=True, limit_amount=state.amount_usd, period=state.period, action=state.action,
        current_spend=state.spent_usd, assumed=state.assumed_usd, assumed_runs=state.assumed_runs, committed=state.committed_usd, percent_used=percent,
        is_exceeded=state.is_exceeded, is_warning=state.is_warning, message=f"{limit_text(state)}: {said}",
        scope=state.scope, time_zone=time_zone, since=state.since, until=state.until,
    )  # fmt: skip


def _estimated(estimate: Estimate, usd_per_hour: float | None, size: int, *, known: bool) -> CostEstimate:
    return CostEstimate(
        has_estimate=known,
        estimated_cost_usd=estimate.usd_likely,
        estimated_cost_low_usd=estimate.usd_low,
        estimated_cost_high_usd=estimate.usd_high,
        avg_duration_seconds=estimate.seconds_likely,
        hardware_cost_per_hour=usd_per_hour,
        data_size_mb=size / 1e6,
        message=estimate.basis,
    )
