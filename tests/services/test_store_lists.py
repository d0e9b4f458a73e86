"""Sorted lists and the feed of what was written, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import dataclasses
import math
import sqlite3

import pytest

from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.job import Job, JobFilter, JobOrder, JobState, Progress, SortKey
from simpletuner_lab.services import feed
from simpletuner_lab.services.store import Store
from tests.services.store_kit import QUEUE_COLUMNS, T0, new_job

DAY_S = 24 * 3600.0
LOSSES = (0.5, None, 0.1, math.nan, 0.5, math.inf)


@pytest.fixture
def many(store):
    for number in range(36):
        ended = number % 3 == 0
        job = new_job(
            f"j{number:02}",
            created_at=T0 + number // 2,
            updated_at=T0 + 50 + number * 7 % 13,
            started_at=None if number % 4 == 0 else T0 + number,
            completed_at=T0 + 40 + number if ended else None,
            state=JobState.COMPLETED if ended else (JobState.PENDING, JobState.RUNNING)[number % 2],
            provider=("local", "one", "two")[number % 3],
            name=("cats", "Birds", "dogs", "Cats")[number % 4],
            cost_usd=None if number % 5 == 0 else number % 7 / 2,
            progress=Progress(loss=LOSSES[number % len(LOSSES)]),
        )
        store.jobs.insert(job, "{}")
    return store.jobs


def known(job: Job, key: SortKey):
    """What a job is sorted by; None is not known."""
    end = job.completed_at if job.terminal else job.updated_at
    loss = job.progress.loss
    return {
        SortKey.CREATED_AT: job.created_at,
        SortKey.UPDATED_AT: job.updated_at,
        SortKey.CONFIG_NAME: job.name.lower(),
        SortKey.STATUS: job.state.value,
        SortKey.PROVIDER: job.provider,
        SortKey.COST_USD: job.cost_usd,
        SortKey.DURATION_SECONDS: None if job.started_at is None else end - job.started_at,
        SortKey.LOSS: None if loss is None or math.isnan(loss) else loss,
    }[key]


@pytest.mark.parametrize("sign", ["", "-"], ids=["up", "down"])
@pytest.mark.parametrize("key", list(SortKey))
def test_a_sorted_list_cut_up(many, key, sign):
    """Pages put together are the whole list: sorted, the newest first among equals, the unknown last both ways."""
    order = JobOrder.parse(sign + key)
    found = [job for offset in range(0, 40, 5) for job in many.page(JobFilter(), order, limit=5, offset=offset).jobs]
    newest = sorted(many.page(JobFilter(), limit=500).jobs, key=lambda job: (job.created_at, job.id), reverse=True)
    if key is SortKey.CREATED_AT:
        expected = newest if sign else newest[::-1]
    else:
        told = [job for job in newest if known(job, key) is not None]
        expected = sorted(told, key=lambda job: known(job, key), reverse=bool(sign))
        expected += [job for job in newest if known(job, key) is None]
    assert [job.id for job in found] == [job.id for job in expected]


def test_sorted_and_filtered(many):
    chosen = JobFilter(provider="one", states=frozenset({JobState.RUNNING}))
    page = many.page(chosen, JobOrder.parse("config_name"), limit=2)
    assert page.total == 6
    assert [job.name for job in page.jobs] == ["Birds", "Birds"]


@pytest.mark.parametrize("text", ["", "-", "colour", "--loss", "LOSS", "loss;"])
def test_an_order_that_is_none(text):
    with pytest.raises(InvalidRequest) as refusal:
        JobOrder.parse(text)
    assert all(key in refusal.value.hint for key in SortKey)


def test_a_loss_is_sorted_by_its_last_value(store):
    job = store.jobs.insert(new_job("a"), "{}")
    store.jobs.insert(new_job("b", progress=Progress(loss=0.5)), "{}")
    order = JobOrder.parse("loss")
    assert [job.id for job in store.jobs.page(JobFilter(), order).jobs] == ["b", "a"]
    store.jobs.record(job, dataclasses.replace(job, progress=Progress(loss=0.2)))
    assert [job.id for job in store.jobs.page(JobFilter(), order).jobs] == ["a", "b"]


def test_jobs_of_a_key(store):
    store.jobs.insert(new_job("a", idempotency_key="k"), "{}")
    store.jobs.insert(new_job("b", idempotency_key="other"), "{}")
    store.jobs.insert(new_job("c", idempotency_key="k", created_at=T0 + 2 * DAY_S), "{}")
    page = store.jobs.page(JobFilter(key="k"))
    assert ([job.id for job in page.jobs], page.total) == (["c", "a"], 2)
    assert store.jobs.page(JobFilter(key="k"), limit=1).total == 2
    assert store.jobs.page(JobFilter(key="no")).total == 0
    assert store.jobs.page(JobFilter(key="k", states=frozenset({JobState.FAILED}))).total == 0


# ------------------------------------------------------------ what was written


def test_every_write_is_found_once(store):
    start = store.events.max_seq()
    assert store.events.written(start) == feed.Written(seq=start)
    job = store.jobs.insert(new_job("a"), "{}", (EventDraft(kind=EventKind.CREATED, at=T0),))
    found = store.events.written(start)
    assert found.jobs == ((job, store.events.after(0)[0].seq),)
    job, _ = store.jobs.record(job, dataclasses.replace(job, waiting="for a GPU"))
    again = store.events.written(found.seq)
    assert again.jobs == ((job, found.jobs[0][1]),), "a write without an event is found too"
    assert store.events.written(again.seq) == feed.Written(seq=again.seq)


def test_a_deletion_is_in_the_feed_for_some_days(store):
    job = store.jobs.insert(new_job("a"), "{}")
    start = store.events.max_seq()
    event = store.jobs.delete("a", at=T0)
    assert (event.kind, event.job_id, event.data) == (EventKind.DELETED, "a", {"version": job.version + 1})
    assert store.events.written(start) == feed.Written(deletions=(event,), seq=event.seq)
    assert store.events.after(start) == (event,)
    assert store.events.after(start, job_id="a") == ()
    store.jobs.insert(new_job("b"), "{}")
    later = store.jobs.delete("b", at=T0 + 8 * DAY_S)
    assert store.events.after(start) == (later,)


def test_events_and_deletions_in_one_order(store):
    for name in ("a", "b", "c"):
        store.jobs.insert(new_job(name), "{}", (EventDraft(kind=EventKind.CREATED, at=T0),))
        if name != "b":
            store.jobs.delete(name, at=T0)
    seqs = [event.seq for event in store.events.after(0)]
    assert [event.kind.value for event in store.events.after(0)] == ["deleted", "created", "deleted"]
    assert seqs == sorted(seqs)
    assert [event.seq for event in store.events.after(0, limit=2)] == seqs[:2]
    assert [event.seq for event in store.events.after(seqs[1])] == seqs[2:]


def test_a_long_absence_is_caught_up_in_steps(store, monkeypatch):
    monkeypatch.setattr(feed, "_AT_ONCE", 4)
    for number in range(10):
        store.jobs.insert(new_job(f"j{number}"), "{}")
        if number < 6:
            store.jobs.delete(f"j{number}", at=T0)
    seq, jobs, gone = 0, [], []
    while (found := store.events.written(seq)).seq > seq:
        seq = found.seq
        jobs += [job.id for job, _ in found.jobs]
        gone += [event.job_id for event in found.deletions]
    assert seq == store.events.max_seq()
    assert sorted(set(jobs)) == ["j6", "j7", "j8", "j9"]
    assert list(dict.fromkeys(gone)) == [f"j{number}" for number in range(6)]


def test_a_store_of_the_first_schema_is_brought_up_to_date(tmp_path):
    """Jobs of the last release keep everything, and can be sorted by their loss."""
    path = tmp_path / "lab.db"
    store = Store.open(path)
    store.jobs.insert(
        new_job("a", progress=Progress(step=3, loss=0.5)), "{}", (EventDraft(kind=EventKind.STAGE, at=T0),)
    )
    store.jobs.insert(new_job("b", progress=Progress(loss=math.nan)), "{}")
    store.jobs.insert(new_job("c", progress=Progress(loss=0.25)), "{}")
    before = store.jobs.page(JobFilter()).jobs
    store.close()
    _back_to_the_first_schema(path)
    store = Store.open(path)
    assert repr(store.jobs.page(JobFilter()).jobs) == repr(before), "a NaN equals itself in a text alone"
    assert [job.id for job in store.jobs.page(JobFilter(), JobOrder.parse("loss")).jobs] == ["c", "a", "b"]
    seq = store.events.max_seq()
    job = store.jobs.get("a")
    store.jobs.record(job, dataclasses.replace(job, waiting="x"))
    assert [job.id for job, _ in store.events.written(seq).jobs] == ["a"]
    store.close()


def _back_to_the_first_schema(path):
    connection = sqlite3.connect(path)
    for statement in (
        "DROP TABLE snapshots",
        "DROP TABLE reservations",
        "DROP INDEX jobs_queue",
        *(f"ALTER TABLE jobs DROP COLUMN {name}" for name in QUEUE_COLUMNS),
        "DROP TABLE charges",
        "DROP TABLE pushes",
        *(f"ALTER TABLE grants DROP COLUMN {name}" for name in ("endpoint_url", "name", "created_at")),
        "DROP TABLE deletions",
        "DROP INDEX jobs_changed",
        "DROP INDEX jobs_key",
        "ALTER TABLE jobs DROP COLUMN changed",
        "ALTER TABLE jobs DROP COLUMN loss",
        "UPDATE alembic_version SET version_num = '0001'",
    ):
        connection.execute(statement)
    connection.commit()
    connection.close()
