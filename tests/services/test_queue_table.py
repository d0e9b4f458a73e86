"""The jobs table as a queue: whose turn it is, against a plain list; claims of many processes, and of killed ones."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
from collections import Counter
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.job import TERMINAL, Job, JobFilter, JobState
from simpletuner_lab.core.job_queue import Held, Limits, Turn
from simpletuner_lab.services.store import Store
from tests.services.store_kit import T0, new_job, open_store

WAY = (JobState.QUEUED, JobState.FAILED)
"""Each write of eight processes waits for seven others."""
LIMITS = Limits(total=4, user=2, local=1, providers={"cloud": 3})
OWNERS = ("ann", "bob", "eve")


def asked(number: int, owner: str = "ann", provider: str = "cloud", **changes) -> Job:
    return new_job(f"job-{number:03}", owner=owner, provider=provider, remote=provider != "local", **changes)


def put(store: Store, *jobs: Job) -> None:
    for job in jobs:
        store.jobs.insert(job, "{}")


def claimed(store: Store, limits: Limits = LIMITS) -> list[str]:
    return [job.id for job, _ in store.queue.claim(limits, now=T0)]


def move(store: Store, job_id: str, state: JobState) -> None:
    job = store.jobs.get(job_id)
    events = [EventDraft(kind=EventKind.STATE, at=T0, data={"to": state.value})]
    store.jobs.record(job, job.moved(state, now=T0), events)


def turn(job: Job) -> Turn:
    return Turn(owner=job.owner, provider=job.provider, remote=job.remote)


def test_first_come_first_served_within_a_priority(store):
    put(store, asked(3, owner="a"), asked(1, owner="b"), asked(2, owner="c", priority=20), asked(0, owner="d"))
    assert [job.id for job in store.queue.waiting(limit=9)] == ["job-002", "job-003", "job-001", "job-000"]
    assert claimed(store, Limits(total=3)) == ["job-002", "job-003", "job-001"]
    assert claimed(store, Limits(total=3)) == []
    assert store.queue.places(["job-000", "job-001"]) == {"job-000": 1}


def test_a_claim_is_on_record(store):
    put(store, asked(1))
    (job, event), *others = store.queue.claim(LIMITS, now=T0 + 7)
    assert others == []
    assert job == store.jobs.get("job-001")
    assert (job.claimed_at, job.version, job.waits_for_slot, job.state) == (T0 + 7, 2, False, JobState.PENDING)
    assert (event.kind, event.data, event) == (EventKind.CLAIMED, {"waited_s": 7.0}, store.events.after(0)[-1])
    assert [found.id for found, _ in store.events.written(event.seq - 1).jobs] == ["job-001"], "followers hear of it"
    assert store.queue.waits_s() == (7.0,)


def test_a_slot_is_kept_through_every_state_and_attempt_and_free_after_any_end(store):
    one = Limits(total=1)
    put(store, *(asked(number) for number in range(4)))
    assert claimed(store, one) == ["job-000"]
    for state in (JobState.UPLOADING, JobState.QUEUED, JobState.RUNNING, JobState.QUEUED, JobState.RUNNING):
        move(store, "job-000", state)
        assert claimed(store, one) == []
    for number, end in enumerate((JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)):
        move(store, f"job-00{number}", end)
        assert claimed(store, one) == [f"job-00{number + 1}"]


def test_whoever_waits_for_his_own_limit_holds_up_nobody(store):
    put(store, asked(0, provider="local"), asked(1, provider="local", priority=50), asked(2), asked(3), asked(4, "bob"))
    assert claimed(store) == ["job-001", "job-002", "job-004"], "one local, two of ann, and bob's"
    held = store.queue.slots()
    assert held.bar(LIMITS, turn(store.jobs.get("job-000"))) == "local has 1 of at most 1 job under way"
    assert held.bar(LIMITS, turn(store.jobs.get("job-003"))) == "ann has 2 of at most 2 jobs under way"
    assert {(count.owner, count.remote, count.waiting, count.held) for count in store.queue.counts()} == {
        ("ann", False, 1, 1), ("ann", True, 1, 1), ("bob", True, 0, 1)
    }  # fmt: skip


def test_runs_that_were_started_elsewhere_count(store):
    put(store, *(asked(number, state=JobState.RUNNING) for number in range(2)), asked(7))
    assert claimed(store) == []
    move(store, "job-000", JobState.CANCELLED)
    assert claimed(store) == ["job-007"]


def test_a_job_without_money_holds_no_slot_and_is_first_when_there_is_some(store):
    one = Limits(total=1)
    put(store, asked(0, state=JobState.QUEUED, retry_at=T0 + 60), asked(1, priority=50), asked(2))
    assert store.jobs.get("job-000").waits_for_money
    assert ([job.id for job in store.queue.blocked()], store.queue.slots().total) == (["job-000"], 0)
    assert claimed(store, one) == ["job-001"]
    blocked = store.jobs.get("job-000")
    store.jobs.record(blocked, dataclasses.replace(blocked, retry_at=None), [])
    assert store.jobs.get("job-000").waits_for_slot
    assert [job.id for job in store.queue.waiting(limit=1)] == ["job-000"]
    assert [job.id for job in store.queue.waiting(limit=5, offset=1)] == ["job-002"]
    assert store.queue.places(["job-000", "job-002"]) == {"job-000": 1, "job-002": 2}
    assert claimed(store, one) == []
    move(store, "job-001", JobState.CANCELLED)
    assert claimed(store, one) == ["job-000"]
    assert (store.queue.slots().total, store.queue.blocked()) == (1, ())
    put(store, asked(8, state=JobState.QUEUED, nonce="", retry_at=T0))
    assert [job.id for job in store.queue.held()] == ["job-000", "job-008"], "an imported run is under way"


def test_how_long_runs_took(store):
    def run(number: int, run_class: str, seconds: float, **changes) -> None:
        times = {"started_at": T0, "completed_at": T0 + seconds, "state": JobState.COMPLETED}
        store.jobs.insert(asked(number, **times | changes), "{}", run_class=run_class)

    run(1, "a", 10)
    run(2, "b", 30)
    run(3, "b", 50, state=JobState.FAILED)
    run(4, "b", 70, provider="local")
    assert store.queue.past_runs_s(run_class="b") == (70.0, 30.0)
    assert sorted(store.queue.past_runs_s(provider="cloud")) == [10.0, 30.0]
    assert store.queue.past_runs_s(run_class="c") == ()
    assert store.queue.run_classes(["job-001", "job-004"]) == {"job-001": "a", "job-004": "b"}


@pytest.mark.parametrize("seed", range(3))
def test_any_history_gives_slots_as_a_plain_list_would(store, seed):
    """Submits, claims, ends, cancels and new priorities in any order."""
    dice = random.Random(seed)
    line: list[Job] = []
    held: dict[str, Job] = {}
    for number in range(40):
        match dice.randrange(5):
            case 0 | 1:
                job = asked(number, dice.choice(OWNERS), dice.choice(["local", "cloud"]), priority=dice.randrange(3))
                put(store, job)
                line.append(job)
            case 2 if held:
                ended = dice.choice(sorted(held))
                move(store, ended, JobState.FAILED)
                del held[ended]
            case 3 if line:
                chosen = dice.randrange(len(line))
                job = store.jobs.get(line[chosen].id)
                line[chosen], _ = store.jobs.record(job, dataclasses.replace(job, priority_override=dice.randrange(3)))
            case 4 if line:
                job = line.pop(dice.randrange(len(line)))
                move(store, job.id, JobState.CANCELLED)
        limits = Limits(total=dice.randrange(1, 5), user=2)
        line.sort(key=lambda job: -job.effective_priority)  # stable, so first come first served within each
        expected, slots = [], Held.by(map(turn, held.values()))
        for job in line:
            if slots.total < limits.total and not slots.bar(limits, turn(job)):
                slots.take(turn(job))
                expected.append(job.id)
        assert claimed(store, limits) == expected
        held |= {job.id: job for job in line if job.id in expected}
        line = [job for job in line if job.id not in expected]
        assert store.queue.places([job.id for job in line]) == {job.id: at for at, job in enumerate(line, 1)}
        assert {job.id for job in store.queue.held()} == set(held)


# ------------------------------------------------------------ several processes


def forked(work: Callable[[], None]) -> int:
    """A process of its own that does this and ends; its id."""
    process = os.fork()
    if process == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return process


def worker(address) -> None:
    """Claims what is free and brings it to its end, until nobody waits any more."""
    store = open_store(address)
    mine: list[str] = []
    while mine or store.queue.waiting(limit=1):
        mine += claimed(store)
        if mine:
            for state in WAY:
                move(store, mine[0], state)
            del mine[0]


JOBS = 16


def test_eight_processes_never_pass_a_limit_and_start_each_job_once(address):
    store = open_store(address)
    dice = random.Random(8)
    jobs = [asked(n, OWNERS[n % 3], dice.choice(["local", "cloud"]), priority=10 * (n % 2)) for n in range(JOBS)]
    put(store, *jobs)
    store.close()
    processes = [forked(lambda: worker(address)) for _ in range(8)]
    assert [os.waitpid(process, 0)[1] for process in processes] == [0] * 8
    store = open_store(address)
    assert store.jobs.page(JobFilter(states=frozenset({JobState.FAILED}))).total == JOBS, "none starves"
    events = store.events.after(0)
    starts = [event.job_id for event in events if event.kind is EventKind.CLAIMED]
    assert Counter(starts) == Counter(job.id for job in jobs), "each once"
    by_id, held, most = {job.id: job for job in jobs}, Held(), 0
    for event in events:  # in the order of the commits
        if event.kind is EventKind.CLAIMED:
            assert held.bar(LIMITS, turn(by_id[event.job_id])) == ""
            held.take(turn(by_id[event.job_id]))
            most = max(most, held.total)
        elif event.kind is EventKind.STATE and event.data["to"] in TERMINAL:
            held.take(turn(by_id[event.job_id]), -1)
    assert most == LIMITS.total, "and no slot was left idle for long"
    for kind in {(job.owner, job.provider, job.priority) for job in jobs}:
        alike = [job.id for job in jobs if (job.owner, job.provider, job.priority) == kind]
        assert [job_id for job_id in starts if job_id in alike] == alike, "first come, first served"
    store.close()


@pytest.mark.parametrize("moment", ["write", "commit", "after"])
def test_a_process_that_dies_while_it_claims_leaves_a_whole_claim_or_none(address, moment):
    store = open_store(address)
    put(store, asked(1), asked(2))
    store.close()

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def claim_and_die() -> None:
        dying = open_store(address)
        writer = dying._database._writer
        if moment == "write":
            sa.event.listen(writer, "after_cursor_execute", lambda *at: "UPDATE jobs" in at[2] and die())
        elif moment == "commit":
            sa.event.listen(writer, "commit", die)
        claimed(dying, Limits(total=1))
        die()

    _, status = os.waitpid(forked(claim_and_die), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    store = open_store(address)
    if moment == "after":
        assert [job.id for job in store.queue.held()] == ["job-001"], "it goes on from there"
        assert claimed(store, Limits(total=1)) == [], "and keeps its slot until it has ended"
        move(store, "job-001", JobState.FAILED)
        assert claimed(store, Limits(total=1)) == ["job-002"]
    else:
        assert store.queue.held() == ()
        assert claimed(store, Limits(total=1)) == ["job-001"]
    assert [event.seq for event in store.events.after(0) if event.kind is EventKind.CLAIMED]
    store.close()
