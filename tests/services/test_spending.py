"""No interleaving of submits, runs, ends and crashes lets what is spent and reserved pass a limit that blocks."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from simpletuner_lab.core.book import Claim
from simpletuner_lab.core.cost import Rate
from simpletuner_lab.core.errors import InvalidRequest, SpendLimitReached
from simpletuner_lab.core.job import Job, JobState, RunRef
from simpletuner_lab.core.ledger import Charge, of_doubt, opened
from simpletuner_lab.core.spend import JobLimit, LimitAction, Period, SpendLimit, SpendLimits, span
from simpletuner_lab.services.spending import Request, zone_of
from simpletuner_lab.services.store import Store
from tests.services.store_kit import QUEUE_COLUMNS, T0, new_job, open_store
from tests.services.test_store_processes import ROOT

PRICE = 3.6
RATE = Rate(hardware="g", label="g", usd_per_hour=PRICE)
RUN_S = 1000.0
"""A run costs a dollar at most."""
ZONE = "Europe/Berlin"
AMOUNTS = {"all": 6.0, "p": 4.0, "q": 5.0}


def blocking(amount: float, period: Period = Period.MONTHLY) -> SpendLimit:
    return SpendLimit(enabled=True, amount_usd=amount, period=period, action=LimitAction.BLOCK)


def claim(most: float | None, price: float | None = PRICE) -> Request:
    return Request(claim=Claim(most_usd=most, least_usd=None, usd_per_hour=price))


def insert(store: Store, job_id: str, most: float | None, *, at: float = T0, **more: object) -> Job:
    job = new_job(job_id, **{"provider": "p", "remote": True, "created_at": at} | more)
    return store.jobs.insert(job, "{}", asks=claim(most))


class World:
    """Jobs at two providers, and what their runs have truly cost, which the lab may never hear."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.dice = random.Random(seed)
        self.now = T0
        self.jobs: dict[str, Job] = {}
        self.runs: dict[str, Charge] = {}
        self.paid: list[tuple[float, str, float]] = []
        self.doubts: list[tuple[Charge, float | None]] = []
        self.said: Counter[str] = Counter()

    def step(self) -> None:
        steps = [
            self.submit,
            self.submit,
            self.start,
            self.start,
            self.meter,
            self.end,
            self.pause,
            self.lose,
            self.find,
        ]
        self.dice.choice(steps)()

    def pause(self) -> None:
        self.now += self.dice.choice([*[60.0] * 8, 3600.0, 86400.0, 9 * 86400.0])

    def submit(self) -> None:
        provider, runs = self.dice.choice("pq"), self.dice.choice([1, 1, 2, 3])
        job_id = f"job-{len(self.jobs)}-{self.dice.random()}"
        try:
            job = insert(self.store, job_id, runs * 1.0, at=self.now, provider=provider, state=JobState.QUEUED)
        except SpendLimitReached:
            self.said["refused"] += 1
            return
        self.said["admitted"] += 1
        self.jobs[job_id] = job

    def start(self) -> None:
        waiting = [job for job_id, job in self.jobs.items() if job_id not in self.runs]
        if not waiting:
            return
        job = self.dice.choice(waiting)
        allowed = self.store.spending.reserve(job, PRICE, RUN_S, now=self.now)
        if allowed.refusal:
            self.said["no money"] += 1
            return
        assert allowed.run_usd is not None
        self.said["shorter" if allowed.seconds else "whole"] += 1
        if self.dice.random() < 0.1:
            return  # the process dies before anything is started, and reserves again later
        ref = f"{job.id}/{job.attempt}"
        charge = opened(job, ref, account="", rate=None, now=self.now, most_usd=allowed.run_usd)
        self.runs[job.id] = dataclasses.replace(charge, usd_per_hour=PRICE)
        self._write(job, dataclasses.replace(job.moved(JobState.RUNNING, now=self.now), run=RunRef(ref=ref)))

    def lose(self) -> None:
        """The answer to a start is lost, and the user gives up or sends it again: there is a run, or there is none."""
        waiting = [job for job_id, job in self.jobs.items() if job_id not in self.runs]
        if not waiting:
            return
        job = self.dice.choice(waiting)
        if self.store.spending.reserve(job, PRICE, RUN_S, now=self.now).refusal:
            return
        most = self.store.spending.run_usd(job.id) or 0.0
        doubt = of_doubt(job, account="", rate=RATE, now=self.now, most_usd=most)
        truth = self.dice.choice([None, most, self.dice.random() * most])
        self.doubts.append((doubt, truth))
        self.paid.append((doubt.opened_at, job.provider, truth or 0.0))
        self.said["doubts"] += 1
        again = self.dice.random() < 0.5
        after = dataclasses.replace(job, attempt=job.attempt + 1) if again else job.moved(JobState.FAILED, now=self.now)
        self.jobs[job.id], _ = self.store.jobs.record(job, after, charges=[doubt])
        if not again:
            del self.jobs[job.id]

    def find(self) -> None:
        """What became of it is known after all."""
        if not self.doubts:
            return
        doubt, truth = self.doubts.pop(self.dice.randrange(len(self.doubts)))
        if truth is None:
            self.store.charges.drop(doubt)
        else:
            self.store.charges.put(dataclasses.replace(doubt, ref=f"found {doubt.ref}", cost_usd=truth, final=True))

    def meter(self) -> None:
        if self.runs:
            job_id = self.dice.choice(sorted(self.runs))
            charge = self.runs[job_id]
            cost = max(charge.cost_usd or 0.0, self.dice.random() * (charge.most_usd or 0.0))
            self.runs[job_id] = dataclasses.replace(charge, cost_usd=cost, metered_s=cost * 1000)
            self._write(self.jobs[job_id], self.jobs[job_id])

    def end(self) -> None:
        if not self.runs:
            return
        job = self.jobs[self.dice.choice(sorted(self.runs))]
        charge = self.runs[job.id]
        known = charge.cost_usd or 0.0
        truth = known + self.dice.choice([1.0, self.dice.random()]) * ((charge.most_usd or 0.0) - known)
        self.paid.append((charge.opened_at, job.provider, truth))
        if self.dice.random() < 0.5:  # else it is gone without a word of what it took
            self.runs[job.id] = dataclasses.replace(charge, cost_usd=truth, metered_s=truth * 1000, final=True)
        after = self.dice.choice([JobState.COMPLETED, JobState.CANCELLED, JobState.FAILED, JobState.QUEUED])
        self._write(job, job.moved(after, now=self.now))
        del self.runs[job.id]
        if after is not JobState.QUEUED:
            del self.jobs[job.id]

    def _write(self, before: Job, after: Job) -> None:
        self.jobs[before.id], _ = self.store.jobs.record(before, after, charges=[self.runs[before.id]])

    def check(self) -> None:
        """What the limits say, and what is true, in this period and in all before it."""
        for state in self.store.spending.states(now=self.now):
            assert state.with_job_usd <= AMOUNTS[state.scope] + 1e-6, state
        zone = zone_of(ZONE)
        truths: Counter[tuple[str, float]] = Counter()
        for at, provider, cost in self.paid:
            for scope, period in (("all", Period.WEEKLY), ("p", Period.DAILY), ("q", Period.MONTHLY)):
                if scope in {"all", provider}:
                    truths[scope, span(period, at, zone)[0]] += cost
        assert all(cost <= AMOUNTS[scope] + 1e-6 for (scope, _), cost in truths.items()), truths


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 60))])
def test_no_interleaving_passes_a_limit(store: Store, seed: int) -> None:
    limits = SpendLimits(
        time_zone=ZONE,
        total=blocking(AMOUNTS["all"], Period.WEEKLY),
        providers={"p": blocking(AMOUNTS["p"], Period.DAILY), "q": blocking(AMOUNTS["q"])},
        job=JobLimit(amount_usd=1.5 if seed % 2 else None),
    )
    store.spending.change_limits(lambda _: limits)
    world = World(store, seed)
    for _ in range(100):
        world.step()
        world.check()
    assert world.said["refused"], "the limits were met"
    assert world.said["admitted"] > 3
    assert world.said["whole"] + world.said["shorter"] > 1


@pytest.fixture
def limited(store: Store) -> Iterator[Store]:
    store.spending.change_limits(lambda _: SpendLimits(total=blocking(3.5)))
    yield store


def test_a_refused_job_leaves_nothing_behind(limited: Store) -> None:
    for number in range(3):
        insert(limited, f"job-{number}", 1.0)
    before = limited.events.max_seq()
    with pytest.raises(SpendLimitReached, match=r"spend limit of \$3.50.*\$3.00 reserved.*up to \$1.00"):
        insert(limited, "job-3", 1.0, idempotency_key="again")
    assert limited.events.max_seq() == before
    assert limited.jobs.by_key("ann", "again", now=T0) is None
    insert(limited, "job-4", 0.5)
    insert(limited, "free", 0.0, provider="r")


def test_jobs_that_ask_for_nothing_are_not_taken_for_free(limited: Store) -> None:
    """A remote job that was there before limits were: nobody knows what it may cost."""
    limited.jobs.insert(new_job("old", provider="p", remote=True), "{}")
    with pytest.raises(SpendLimitReached, match="not known"):
        insert(limited, "job-1", 1.0)
    job = limited.jobs.get("old")
    limited.jobs.record(job, job.moved(JobState.CANCELLED, now=T0))
    insert(limited, "job-1", 1.0)


def test_what_runs_already_is_counted_and_not_refused(limited: Store) -> None:
    asks = Request(claim=Claim(most_usd=9.0, least_usd=None, usd_per_hour=PRICE), started=True)
    limited.jobs.insert(new_job("imported", provider="p", remote=True), "{}", asks=asks)
    (state,) = limited.spending.states(now=T0)
    assert (state.committed_usd, state.is_exceeded) == (9.0, True)
    assert "would be passed" in limited.spending.warning("imported")
    with pytest.raises(SpendLimitReached):
        insert(limited, "job-1", 0.1)


def test_a_deleted_job_stays_spent(limited: Store) -> None:
    job = insert(limited, "job-1", 3.0, state=JobState.RUNNING)
    charge = opened(job, "r", account="", rate=None, now=T0, most_usd=3.0)
    charge = dataclasses.replace(charge, usd_per_hour=PRICE, cost_usd=3.0, metered_s=9.0, final=True)
    limited.jobs.record(job, job.moved(JobState.COMPLETED, now=T0), charges=[charge])
    limited.jobs.delete("job-1", at=T0)
    with pytest.raises(SpendLimitReached):
        insert(limited, "job-2", 1.0)
    next_month = T0 + 31 * 86400
    insert(limited, "job-3", 1.0, at=next_month)


def test_a_run_of_which_nobody_tells_the_cost_stays_counted(limited: Store) -> None:
    job = insert(limited, "job-1", 3.0, state=JobState.RUNNING)
    untold = dataclasses.replace(opened(job, "r", account="", rate=None, now=T0, most_usd=3.0), final=True)
    limited.jobs.record(
        job, job.moved(JobState.COMPLETED, now=T0), charges=[dataclasses.replace(untold, usd_per_hour=PRICE)]
    )
    with pytest.raises(SpendLimitReached, match=r"\$3.00 spent"):
        insert(limited, "job-2", 1.0)


def test_a_start_in_doubt_makes_room_for_its_run(limited: Store) -> None:
    """In one transaction: it is never counted twice, and never not at all."""
    job = insert(limited, "job-1", 3.0, state=JobState.RUNNING)
    doubt = of_doubt(job, account="", rate=RATE, now=T0, most_usd=3.0)
    job, _ = limited.jobs.record(job, job.moved(JobState.FAILED, now=T0), charges=[doubt])
    other = dataclasses.replace(doubt, ref="of-another-attempt", attempt=2, cost_usd=0.0, final=True)
    limited.charges.put(other)
    assert limited.charges.of_job("job-1") == (doubt, other)
    with pytest.raises(SpendLimitReached, match=r"\$3.00 spent"):
        insert(limited, "job-2", 1.0)
    found = dataclasses.replace(doubt, ref="r", cost_usd=0.5, final=True)
    limited.jobs.record(job, job, charges=[found])
    assert limited.charges.of_job("job-1") == (found, other)
    limited.charges.drop(found)
    assert limited.charges.of_job("job-1") == (found, other), "what is known is never dropped"
    insert(limited, "job-2", 3.0)


def test_what_a_start_in_doubt_did_not_cost_is_free_again(limited: Store) -> None:
    """It is not left to the job's next run, which has its own."""
    job = insert(limited, "job-1", 1.0, state=JobState.QUEUED)
    doubt = of_doubt(job, account="", rate=RATE, now=T0, most_usd=1.0)
    job, _ = limited.jobs.record(job, dataclasses.replace(job, attempt=2), charges=[doubt])
    assert limited.spending.reserve(job, PRICE, RUN_S, now=T0).run_usd == 1.0

    def stands() -> tuple[float | None, float | None]:
        (state,) = limited.spending.states(now=T0)
        return state.spent_usd, state.committed_usd

    assert stands() == (1.0, 1.0)
    limited.charges.put(dataclasses.replace(doubt, ref="r", cost_usd=0.25, final=True))
    assert stands() == (0.25, 1.0)


def test_eight_processes_submit_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lab.db"
    store = open_store(path)
    store.spending.change_limits(lambda _: SpendLimits(total=blocking(3.5)))
    command = [sys.executable, "-m", "tests.services.spend_herd", str(path), "8"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert Counter(done.stdout.split()) == {"reserved": 3, "spend_limit": 5}
    assert len(store.jobs.active()) == 3
    (state,) = store.spending.states(now=T0)
    assert state.with_job_usd == 3.0
    store.close()


def test_zones_are_real(store: Store) -> None:
    assert zone_of("Asia/Kathmandu").utcoffset(None) is None
    for name in ("Mars/Olympus", "", "../etc/passwd", "Europe"):
        with pytest.raises(InvalidRequest):
            zone_of(name)


def test_charges_of_the_release_before_get_their_day_and_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "lab.db"
    store = open_store(path)
    job = store.jobs.insert(new_job("job-1", state=JobState.RUNNING), "{}")
    store.jobs.record(job, job, charges=[opened(job, "r", account="", rate=None, now=T0 + 5)])
    store.close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        for name in ("snapshots", "reservations"):
            connection.execute(sa.text(f"DROP TABLE {name}"))
        for name in ("charges_opened", "jobs_queue"):
            connection.execute(sa.text(f"DROP INDEX {name}"))
        for name in QUEUE_COLUMNS:
            connection.execute(sa.text(f"ALTER TABLE jobs DROP COLUMN {name}"))
        for name in ("owner", "opened_at", "most_usd", "by_hand"):
            connection.execute(sa.text(f"ALTER TABLE charges DROP COLUMN {name}"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0005'"))
    engine.dispose()
    store = open_store(path)
    (charge,) = store.charges.of_job("job-1")
    assert (charge.owner, charge.opened_at, charge.most_usd) == ("ann", T0 + 5, None)
    store.close()
