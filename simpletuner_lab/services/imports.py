"""Runs that were started elsewhere, as jobs that are followed here like the others (SPEC J8)."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.book import Claim, claim_of
from simpletuner_lab.core.consent import ConsentState
from simpletuner_lab.core.cost import Estimate, Rate
from simpletuner_lab.core.destination import HOME
from simpletuner_lab.core.diff import ENDED, Change
from simpletuner_lab.core.errors import (
    Conflict,
    JobNotFound,
    LabError,
    ProviderFailure,
    ProviderUncertain,
    StaleRecord,
)
from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.ledger import Charge, is_unpriced, metered, opened, spent_usd, with_charge
from simpletuner_lab.core.manifest import Manifest
from simpletuner_lab.core.metric import PointsChange
from simpletuner_lab.core.plan import Identity, Plan, digest_of
from simpletuner_lab.core.provider import ListedRun, Options, Provider, RunState, RunTag, Target
from simpletuner_lab.services.binding import difference
from simpletuner_lab.services.codec import dumps
from simpletuner_lab.services.recorder import Recorder
from simpletuner_lab.services.registers import RunBooked
from simpletuner_lab.services.runner import Runner
from simpletuner_lab.services.spending import Request
from simpletuner_lab.services.store import Store

_UNDISTURBED_S: Final = 30.0
"""So long nobody else looks at a job that is being imported."""

_CLOCKS_S: Final = 900.0
"""How far a provider's clock and ours may differ."""

_NOTHING: Final = Claim(most_usd=0.0, least_usd=0.0, usd_per_hour=0.0)
"""What a run asks for that is over, and whose cost is told: that is in the ledger, and there will be no more."""

_NOTE: Final = "imported: it was started elsewhere, so what it was given and where its results go is not known here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """The new jobs, and those known before whose runs were looked at."""

    imported: tuple[Job, ...]
    seen: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """Takes runs in. An id is made of the run's reference, so of two processes one imports it."""

    store: Store
    recorder: Recorder
    runner: Runner
    clock: Callable[[], float]
    freed: Callable[[], None]
    """Called after a run turned out to cost something else than it was counted for."""

    def sync(self, provider: Provider, owner: str) -> Synced:
        """Imports every run of our targets that is not known here.

        Raises:
            LabError: the provider's.
        """
        listed, options, account = provider.list(), provider.options(), provider.check().account
        charged = {charge.ref: charge for charge in self.store.charges.of_provider(provider.id)}
        doubts = {RunTag(job_id=one.job_id, attempt=one.attempt): one for one in charged.values() if one.doubtful}
        active = {job.run.ref: job.id for job in self.store.jobs.unsettled() if job.provider == provider.id}
        imported: list[Job] = []
        seen: list[str] = []
        for run in listed:
            job = None if run.tag is None else self._known(run.tag.job_id)
            doubt = None if run.tag is None else doubts.pop(run.tag, None)
            if job is not None:
                seen.append(job.id)
            if run.ref in active:
                seen.append(active[run.ref])
            elif run.ref in charged:
                self._told_late(run, charged[run.ref])  # whose it is is known: it clears up no doubt
            elif doubt is not None:
                self._turned_up(provider, run, doubt, job)
            elif job is not None and run.tag is not None:
                if run.tag.attempt < job.attempt or job.terminal:
                    self._turned_up(provider, run, self._unbooked(job, run.tag), job)
            else:
                with contextlib.suppress(Conflict):  # imported before, or by another process just now
                    plan = _plan(provider, run, options, account)
                    imported.append(self._import(provider, run, plan, owner, options.run_limit_s))
        here = [doubt for doubt in doubts.values() if self._is_here(provider, account, doubt)]
        for run in listed:
            self._stands_for(run, charged.get(run.ref), here)
        for doubt in here:
            self._look_for(provider, doubt)
        return Synced(imported=tuple(imported), seen=tuple(dict.fromkeys(seen)))

    def _known(self, job_id: str) -> Job | None:
        try:
            return self.store.jobs.get(job_id)
        except JobNotFound:
            return None

    def _unbooked(self, job: Job, tag: RunTag) -> Charge:
        """For a run that nobody knew of."""
        plan, now = self.store.jobs.plan(job.id), self.clock()
        charge = opened(job, "", account=plan.identity.account, rate=plan.rate, now=now)
        return dataclasses.replace(charge, attempt=tag.attempt)

    def _turned_up(self, provider: Provider, run: ListedRun, charge: Charge, job: Job | None) -> None:
        """A run that was thought not to exist, after the user gave it up, or had another one started: ended, then booked."""
        if run.state not in ENDED:
            provider.cancel(run.ref)
            return
        found = dataclasses.replace(
            charge, ref=run.ref, cost_usd=run.cost_usd, final=True, updated_at=self.clock(),
            opened_at=run.started_at or run.created_at or charge.opened_at,
        )  # fmt: skip
        self._book(found, job, f"a run of attempt {charge.attempt} has turned up after all, and has ended: {run.ref}")

    def _told_late(self, run: ListedRun, charge: Charge) -> None:
        """What a run has cost that is over, where nobody had told it before."""
        unknown = is_unpriced(charge) or not charge.final
        if unknown and run.state in ENDED and run.cost_usd is not None:
            found = dataclasses.replace(charge, cost_usd=run.cost_usd, final=True, updated_at=self.clock())
            self._book(found, self._known(charge.job_id))

    def _look_for(self, provider: Provider, doubt: Charge) -> None:
        """A start that is not in the list: its provider may know of it all the same, or that there was none."""
        with contextlib.suppress(ProviderFailure):  # it cannot be told: it counts as before
            ref = provider.find(RunTag(job_id=doubt.job_id, attempt=doubt.attempt))
            if ref is None:
                self._drop(doubt)
                return
            if self.store.charges.of_run(provider.id, ref) is not None:
                return  # it is another's run, which is not to be ended: this start is in doubt as before
            snapshot, now = provider.poll(ref, ""), self.clock()
            found = metered(dataclasses.replace(doubt, ref=ref), snapshot, ended=True, now=now)
            if snapshot.state not in ENDED:
                provider.cancel(ref)
            elif found.final:
                told = f"a run of attempt {doubt.attempt} has turned up after all, and has ended: {ref}"
                self._book(found, self._known(doubt.job_id), told)

    def _is_here(self, provider: Provider, account: str, doubt: Charge) -> bool:
        """Whether the start was tried where the provider is set to now: another place, or account, knows nothing of it.

        Of a job that was deleted only the account is still known; a start of which not even that is stays in doubt.
        """
        job = self._known(doubt.job_id)
        if job is None:
            return bool(doubt.account) and doubt.account == account
        try:
            return not difference(provider, self.store.jobs.plan(job.id).identity)
        except ProviderFailure:
            return False

    def _stands_for(self, run: ListedRun, charge: Charge | None, doubts: list[Charge]) -> None:
        """An imported run that began when a doubtful start was tried is counted in its place: it may be that one.

        Where it is not, the other one is in the list too, if there is one, and counted for itself.
        """
        if run.tag is not None or not doubts:
            return
        nearest = min(doubts, key=lambda one: abs(run.created_at - one.opened_at))
        job = None if charge is None else self._known(charge.job_id)
        if abs(run.created_at - nearest.opened_at) <= _CLOCKS_S and (job is None or job.imported):
            self._drop(nearest)
            doubts.remove(nearest)

    def _drop(self, doubt: Charge) -> None:
        self.store.charges.drop(doubt)
        self.freed()

    def _book(self, charge: Charge, job: Job | None, told: str = "") -> None:
        if job is None:
            with contextlib.suppress(RunBooked):  # by another process just now
                self.store.charges.put(charge)
                self.freed()
            return
        spent = spent_usd(job, with_charge(self.store.charges.of_job(job.id), charge))
        data = {"code": ProviderUncertain.code, "message": told}
        events = (EventDraft(kind=EventKind.PROBLEM, at=charge.updated_at, data=data),) if told else ()
        after = dataclasses.replace(job, cost_usd=spent, updated_at=charge.updated_at)
        with contextlib.suppress(StaleRecord, RunBooked):  # the next sync books it
            self.recorder.record(job, Change(job=after, events=events, points=PointsChange(), charges=(charge,)))
            self.freed()

    def _import(self, provider: Provider, run: ListedRun, plan: Plan, owner: str, run_limit_s: float | None) -> Job:
        now, over = self.clock(), run.state in ENDED and run.cost_usd is not None
        new = dataclasses.replace(
            _job(provider, run, plan, owner), retry_at=now + _UNDISTURBED_S, updated_at=now,
            cost_usd=run.cost_usd if over else None,
        )  # fmt: skip
        claim = _NOTHING if over else claim_of(plan.estimate, plan.rate.usd_per_hour, run_limit_s, goes_on=False)
        charge = opened(new, run.ref, account=plan.identity.account, rate=plan.rate, now=now, most_usd=claim.most_usd)
        charge = dataclasses.replace(charge, opened_at=run.started_at or run.created_at or now)
        if over:
            charge = dataclasses.replace(charge, cost_usd=run.cost_usd, most_usd=run.cost_usd, final=True)
        asks = Request(claim=claim, started=True, ending="")  # nobody here knows what it was told
        event = EventDraft(kind=EventKind.IMPORTED, at=now, data={"ref": run.ref, "state": run.raw_state or run.state})
        job = self.store.jobs.insert(new, dumps(plan), (event,), charge=charge, asks=asks)
        self.recorder.announce(job, self.store.events.after(0, job_id=job.id))
        at = now if run.completed_at is None or run.state not in ENDED else run.completed_at
        with contextlib.suppress(LabError, StaleRecord):  # the watcher looks again
            job = self.runner.follow(dataclasses.replace(job, retry_at=None), now=at)
        return job


def _job(provider: Provider, run: ListedRun, plan: Plan, owner: str) -> Job:
    """In the state before its run's: a job has an end only after it was seen to run."""
    digest = hashlib.sha256(f"{provider.id}\0{run.ref}".encode()).hexdigest()
    waiting = run.state in {RunState.QUEUED, RunState.UNKNOWN}
    job = Job(
        id=f"{time.strftime('%y%m%d', time.gmtime(run.created_at))}-{digest[:10]}",
        owner=owner,
        name=plan.name,
        provider=provider.id,
        target=run.target,
        hardware=plan.identity.hardware,
        remote=provider.capabilities.remote,
        state=JobState.QUEUED if waiting else JobState.RUNNING,
        created_at=run.created_at,
        updated_at=run.created_at,
        started_at=None if waiting else run.started_at or run.created_at,
        digest=plan.digest,
        nonce="",
    )
    return dataclasses.replace(job, run=dataclasses.replace(job.run, ref=run.ref))


def _plan(provider: Provider, run: ListedRun, options: Options, account: str) -> Plan:
    """What is known of a run that nobody planned here."""
    target = next((one for one in options.targets if one.id == run.target), None) or Target(
        id=run.target, label=run.target, version="", live_metrics=False, resume=False
    )
    rate = next((one for one in options.rates if one.hardware == run.hardware), None) or Rate(
        hardware=run.hardware, label=run.hardware, usd_per_hour=None
    )
    identity = Identity(
        provider=provider.id,
        account=account,
        endpoint=options.endpoint,
        target=target.id,
        version=target.version,
        hardware=run.hardware,
        destination=HOME,
        config={},
        dataloader=(),
        manifest=Manifest(datasets=()),
        credentials=(),
    )
    plan = unplanned(
        identity, target, rate, name=f"imported {run.ref}", remote=provider.capabilities.remote, note=_NOTE
    )
    stays = tuple(filter(None, (provider.capabilities.archive_stays, *provider.capabilities.stays)))
    return dataclasses.replace(plan, stays=stays)


def unplanned(identity: Identity, target: Target, rate: Rate, *, name: str, remote: bool, note: str) -> Plan:
    """The plan of what nobody planned here, with a note that says so."""
    return Plan(
        name=name,
        identity=identity,
        digest=digest_of(identity),
        remote=remote,
        target=target,
        rate=rate,
        estimate=Estimate(seconds_low=None, seconds_high=None, usd_low=None, usd_high=None, basis="not planned here"),
        steps=0,
        stays=(),
        warnings=(note,),
        consent=ConsentState.GIVEN,
    )
