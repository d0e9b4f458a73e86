"""The store on a real database, SQLite and PostgreSQL alike."""

from __future__ import annotations

import dataclasses
import math

import pytest

from simpletuner_lab.core.consent import Agreement, ConsentMode
from simpletuner_lab.core.errors import Conflict, IllegalTransition, InvalidRequest, JobNotFound, StaleRecord
from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.grant import ALL_VERBS, Grant, Verb
from simpletuner_lab.core.job import Failure, Job, JobFilter, JobState, Progress, RunRef
from simpletuner_lab.core.metric import Points, PointsChange
from simpletuner_lab.services import schema
from simpletuner_lab.services.rows import FileStamp
from tests.services.store_kit import T0, new_job

DAY_S = 24 * 3600.0


def draft(at: float = T0, **data) -> EventDraft:
    return EventDraft(kind=EventKind.STAGE, at=at, data=data)


def finish(store, job: Job, state: JobState = JobState.COMPLETED, **changes) -> Job:
    for step in (JobState.QUEUED, JobState.RUNNING, state):
        job, _ = store.jobs.record(job, dataclasses.replace(job.moved(step, now=T0 + 5), **changes))
    return job


# ------------------------------------------------------------ jobs


def test_every_field_of_a_job_comes_back(store):
    full = new_job(
        "full",
        attempt=3,
        started_at=T0 + 1.5,
        completed_at=T0 + 2.25,
        cancel_requested_at=T0,
        retry_at=T0 + 9,
        remote=True,
        idempotency_key="k",
        progress=Progress(stage="train", step=7, total_steps=10, loss=math.inf, lr=1e-4, step_s=0.5),
        attempt_step=4,
        stalled=1,
        cost_usd=0.07,
        failure=Failure(code="x", message="Ünicode \U0001f408", hint="h"),
        waiting="for a GPU",
        run=RunRef(ref="r", cursor="c", start_tried=True),
        log_bytes=2**40,
        upload_ref="up",
        settled_at=T0 + 3,
        result_sha256="a" * 64,
        uncertain=True,
    )
    store.jobs.insert(full, "{}")
    assert store.jobs.get("full") == dataclasses.replace(full, version=1)


def test_a_plain_job_comes_back_too(store):
    assert store.jobs.insert(new_job(), "{}") == store.jobs.get("job-1")


def test_every_field_of_a_job_has_a_column():
    assert {f.name for f in dataclasses.fields(Job)} == set(schema.jobs.c.keys()) - {
        *("run_class", "changed", "loss", "rank", "place")
    }


def test_the_plan_is_kept_byte_for_byte(store):
    text = '{"b": 1,  "a":"\u00e9"}'
    store.jobs.insert(new_job(), text)
    assert store.jobs.snapshot("job-1") == text


def test_unknown_jobs(store):
    for call in (store.jobs.get, store.jobs.snapshot, lambda name: store.jobs.delete(name, at=T0)):
        with pytest.raises(JobNotFound):
            call("nobody")
    with pytest.raises(JobNotFound):
        store.jobs.record(new_job("nobody"), new_job("nobody"))


def test_an_id_is_used_once(store):
    store.jobs.insert(new_job(), "{}")
    with pytest.raises(Conflict):
        store.jobs.insert(new_job(owner="bob"), "{}")
    assert store.jobs.page(JobFilter()).total == 1


def test_text_that_is_no_text_is_refused(store):
    with pytest.raises(InvalidRequest):
        store.jobs.insert(new_job(name="caf\udce9"), "{}")


# ------------------------------------------------------------ idempotency


def test_the_same_key_returns_the_first_job_for_a_day(store):
    first = store.jobs.insert(new_job("a", idempotency_key="k"), "{}", (draft(),))
    again = store.jobs.insert(new_job("b", idempotency_key="k", created_at=T0 + DAY_S - 1), "{}", (draft(),))
    assert again == first
    assert store.jobs.by_key("ann", "k", now=T0 + DAY_S - 1) == first
    assert len(store.events.after(0)) == 1


def test_a_key_of_another_plan_is_refused_where_both_came_at_once(store):
    """Both have asked before, and seen that the key is new."""
    store.jobs.insert(new_job("a", idempotency_key="k", digest="d1"), "{}")
    with pytest.raises(Conflict, match="stands for another plan"):
        store.jobs.insert(new_job("b", idempotency_key="k", digest="d2"), "{}", agreement=agreement())
    assert store.jobs.page(JobFilter()).total == 1
    assert not store.consents.agreed("ann", "d1"), "a submit that is refused agrees to nothing"


def test_after_a_day_the_key_is_free(store):
    store.jobs.insert(new_job("a", idempotency_key="k"), "{}")
    assert store.jobs.by_key("ann", "k", now=T0 + DAY_S) is None
    assert store.jobs.insert(new_job("b", idempotency_key="k", created_at=T0 + DAY_S), "{}").id == "b"
    assert store.jobs.by_key("ann", "k", now=T0 + DAY_S + 1).id == "b"
    assert store.jobs.get("a").idempotency_key == "k"


def test_keys_belong_to_their_owner_and_go_with_the_job(store):
    store.jobs.insert(new_job("a", idempotency_key="k"), "{}")
    assert store.jobs.insert(new_job("b", owner="bob", idempotency_key="k"), "{}").id == "b"
    store.jobs.delete("a", at=T0)
    assert store.jobs.insert(new_job("c", idempotency_key="k"), "{}").id == "c"


# ------------------------------------------------------------ lists


@pytest.fixture
def many(store):
    for number in range(30):
        provider = "local" if number % 3 else "replicate"
        job = new_job(
            f"j{number:02}",
            created_at=T0 + number // 2,
            owner="ann" if number % 5 else "bob",
            provider=provider,
            remote=provider != "local",
            name="50%_off" if number == 7 else f"Run {number}",
        )
        job = store.jobs.insert(job, "{}")
        if number % 4 == 0:
            finish(store, job, JobState.COMPLETED if number % 8 else JobState.FAILED)
    return store.jobs


@pytest.mark.parametrize(
    "chosen",
    [
        JobFilter(),
        JobFilter(provider="replicate"),
        JobFilter(owner="bob"),
        JobFilter(remote=False, owner="ann"),
        JobFilter(states=frozenset({JobState.COMPLETED, JobState.FAILED})),
        JobFilter(states=frozenset({JobState.RUNNING})),
        JobFilter(text="RUN 2"),
        JobFilter(text="%_"),
        JobFilter(text="j1", provider="local", states=frozenset({JobState.PENDING})),
    ],
    ids=["all", "provider", "owner", "owner-local", "ended", "running", "text", "wildcards", "everything"],
)
def test_pages_are_the_filtered_list_cut_up(many, chosen):
    def passes(job):
        return (
            (not chosen.states or job.state in chosen.states)
            and chosen.provider in (None, job.provider)
            and chosen.owner in (None, job.owner)
            and chosen.remote in (None, job.remote)
            and (chosen.text.lower() in job.name.lower() or chosen.text in job.id)
        )

    everything = many.page(JobFilter(), limit=500).jobs
    expected = sorted(filter(passes, everything), key=lambda job: (job.created_at, job.id), reverse=True)
    found = []
    for offset in range(0, 35, 7):
        page = many.page(chosen, limit=7, offset=offset)
        assert page.total == len(expected)
        found += page.jobs
    assert found == expected


def test_the_total_follows_every_change(store):
    job = store.jobs.insert(new_job(), "{}")
    pending, done = JobFilter(states=frozenset({JobState.PENDING})), JobFilter(states=frozenset({JobState.COMPLETED}))
    assert (store.jobs.page(pending).total, store.jobs.page(done).total) == (1, 0)
    finish(store, job)
    assert (store.jobs.page(pending).total, store.jobs.page(done).total) == (0, 1)
    store.jobs.delete("job-1", at=T0)
    assert store.jobs.page(JobFilter()).total == 0


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (501, 0), (50, -1)])
def test_page_limits(store, limit, offset):
    with pytest.raises(InvalidRequest):
        store.jobs.page(JobFilter(), limit=limit, offset=offset)


def test_active_and_unsettled(store):
    store.jobs.insert(new_job("b", created_at=T0 + 1), "{}")
    ended = finish(store, store.jobs.insert(new_job("a"), "{}"))
    assert [job.id for job in store.jobs.active()] == ["b"]
    assert [job.id for job in store.jobs.unsettled()] == ["a", "b"]
    store.jobs.record(ended, dataclasses.replace(ended, settled_at=T0))
    assert [job.id for job in store.jobs.unsettled()] == ["b"]


def test_seconds_a_step_of_runs_like_this_one(store):
    for number in range(4):
        job = store.jobs.insert(new_job(f"j{number}"), "{}", run_class="local|sd|64|16")
        finish(store, job, progress=Progress(step=9, step_s=1.0 + number), updated_at=T0, completed_at=T0 + number)
    other = store.jobs.insert(new_job("other"), "{}", run_class="local|sd|512|1")
    finish(store, other, progress=Progress(step_s=99.0))
    failed = store.jobs.insert(new_job("failed"), "{}", run_class="local|sd|64|16")
    finish(store, failed, JobState.FAILED, progress=Progress(step_s=99.0))
    assert store.jobs.past_step_s("local|sd|64|16", limit=3) == (4.0, 3.0, 2.0)
    assert store.jobs.past_step_s("never") == ()


# ------------------------------------------------------------ changes


def test_a_change_is_one_transaction(store):
    job = store.jobs.insert(new_job(), "{}", (draft(),))
    after = dataclasses.replace(job, waiting="for you")
    curve = Points(step=(1, 2), loss=(0.5, math.nan), lr=(1.0, 1.0), grad_norm=(0.0, 0.0))
    stored, events = store.jobs.record(job, after, (draft(a=1), draft(b="\u00e9")), PointsChange(append=curve))
    assert stored == dataclasses.replace(after, version=2) == store.jobs.get("job-1")
    assert store.events.after(1) == events
    assert [dict(event.data) for event in events] == [{"a": 1}, {"b": "\u00e9"}]
    assert store.points.read("job-1").step == (1, 2)


def test_of_two_writers_the_second_is_refused_whole(store):
    job = store.jobs.insert(new_job(), "{}")
    store.jobs.record(job, dataclasses.replace(job, waiting="first"))
    points = PointsChange(append=Points(step=(1,), loss=(1.0,), lr=(1.0,), grad_norm=(1.0,)))
    with pytest.raises(StaleRecord):
        store.jobs.record(job, dataclasses.replace(job, waiting="second"), (draft(),), points)
    assert store.jobs.get("job-1").waiting == "first"
    assert not store.events.after(0)
    assert not store.points.count("job-1")


def test_a_fault_leaves_nothing_behind(store):
    job = store.jobs.insert(new_job(), "{}")
    crooked = PointsChange(append=Points(step=(2, 1), loss=(1.0, 1.0), lr=(1.0, 1.0), grad_norm=(1.0, 1.0)))
    with pytest.raises(ValueError):
        store.jobs.record(job, dataclasses.replace(job, waiting="x"), (draft(),), crooked)
    assert store.jobs.get("job-1") == job
    assert store.events.max_seq() == 1


def test_the_table_of_states_is_enforced_here_too(store):
    job = finish(store, store.jobs.insert(new_job(), "{}"))
    with pytest.raises(IllegalTransition):
        store.jobs.record(job, dataclasses.replace(job, state=JobState.RUNNING))
    store.jobs.record(job, dataclasses.replace(job, cost_usd=1.0))


def test_events_are_followed_by_their_number(store):
    for name in ("a", "b"):
        store.jobs.insert(new_job(name), "{}", (draft(), draft()))
    assert store.events.max_seq() == 4
    assert [event.seq for event in store.events.after(1)] == [2, 3, 4]
    assert [event.seq for event in store.events.after(0, job_id="b")] == [3, 4]
    assert [event.seq for event in store.events.after(0, limit=3)] == [1, 2, 3]


def test_a_deleted_job_takes_everything_with_it_but_what_was_sent(store, address):
    points = PointsChange(append=Points(step=(1,), loss=(1.0,), lr=(1.0,), grad_norm=(1.0,)))
    for name in ("a", "b"):
        job = store.jobs.insert(new_job(name, idempotency_key=name), "{}", (draft(),))
        store.jobs.record(job, job, (), points)
    store.transfers.sent("b", what="data sets", where_to="there", digest="e" * 64, bytes=5, files=1, at=T0)
    store.grants.insert_grant(grant("STLGB", "b"))
    before = store.events.max_seq()
    store.jobs.delete("b", at=T0)
    assert store.points.count("b") == 0
    assert {event.job_id for event in store.events.after(0) if event.kind is not EventKind.DELETED} == {"a"}
    assert store.events.max_seq() > before, "a cursor never falls"
    assert store.grants.grant("STLGB") is None
    assert len(store.transfers.of_job("b")) == 1
    assert store.points.count("a") == 1
    new = store.jobs.insert(new_job("c"), "{}", (draft(),))
    assert [event.job_id for event in store.events.after(before)] == ["b", new.id], "no number is given twice"


# ------------------------------------------------------------ the small tables


def test_a_lease_has_one_holder(store):
    leases = store.leases
    assert leases.acquire("watch", "one", ttl_s=10, now=T0)
    assert not leases.acquire("watch", "two", ttl_s=10, now=T0 + 9)
    assert leases.acquire("watch", "one", ttl_s=10, now=T0 + 9)
    assert leases.renew("watch", "one", ttl_s=10, now=T0 + 15)
    assert not leases.renew("watch", "two", ttl_s=10, now=T0 + 15)
    assert leases.acquire("other", "two", ttl_s=10, now=T0)
    assert leases.acquire("watch", "two", ttl_s=10, now=T0 + 25), "it had run out"
    assert not leases.renew("watch", "one", ttl_s=10, now=T0 + 26)
    assert not leases.release("watch", "one")
    assert leases.release("watch", "two")
    assert leases.acquire("watch", "one", ttl_s=10, now=T0 + 26)


def grant(name: str, job_id: str | None) -> Grant:
    verbs = frozenset({Verb.PUT, Verb.LIST})
    return Grant(
        id=name, job_id=job_id, bucket="outputs", prefix=f"{job_id}/", verbs=verbs, expires_at=T0, quota_bytes=9
    )


def test_grants(store):
    owner = Grant(id="own", job_id=None, bucket="*", prefix="", verbs=ALL_VERBS, expires_at=None)
    for each in (grant("one", "a"), grant("two", "b"), owner):
        store.grants.insert_grant(each)
        assert store.grants.grant(each.id) == each
    store.grants.revoke_grants("a", at=T0 + 1)
    store.grants.revoke_grants("a", at=T0 + 2)
    assert store.grants.grant("one").revoked_at == T0 + 1
    assert store.grants.grant("two").revoked_at is None
    assert store.grants.grant("none") is None
    with pytest.raises(Conflict):
        store.grants.insert_grant(owner)


def agreement(at: float = T0) -> Agreement:
    return Agreement(owner="ann", digest="d1", at=at, entry="widget", mode=ConsentMode.ASK)


def test_consent_is_for_one_owner_and_one_digest(store):
    for number, at in enumerate((T0, T0, T0 + 1)):
        store.jobs.insert(new_job(f"job-{number}"), "{}", agreement=agreement(at))
    assert store.consents.agreed("ann", "d1")
    assert not store.consents.agreed("bob", "d1")
    assert not store.consents.agreed("ann", "d2")


def test_transfers(store):
    one = store.transfers.sent("a", what="data sets", where_to="r", digest="e", bytes=2**40, files=3, at=T0)
    two = store.transfers.sent("a", what="data sets", where_to="r", digest="e", bytes=1, files=3, at=T0)
    store.transfers.sent("b", what="data sets", where_to="r", digest="e", bytes=1, files=3, at=T0)
    assert store.transfers.of_job("a") == (one, two)
    store.transfers.discarded("a", what="data sets", at=T0 + 1)
    store.transfers.discarded("a", what="data sets", at=T0 + 2)
    assert [transfer.discarded_at for transfer in store.transfers.of_job("a")] == [T0 + 1, T0 + 1]
    assert store.transfers.of_job("b")[0].discarded_at is None


def test_settings(store):
    assert store.settings.get("consent") is None
    for value in ("never", {"a": [1, None, "\u00e9"]}, None):
        store.settings.put("consent", value)
        assert store.settings.get("consent") == value


def stamp(path: str, **changes) -> FileStamp:
    return FileStamp(path, **({"size": 1, "mtime_ns": 2, "ctime_ns": 3, "inode": 2**64 - 1} | changes))


def test_hashes_hold_as_long_as_the_file_is_the_same(store):
    stamps = [stamp(f"/data/{number}\udcff.png") for number in range(1000)]
    store.hashes.store_many({each: f"{number:064}" for number, each in enumerate(stamps)}, now=T0)
    assert store.hashes.lookup_many(stamps)[stamps[999].path] == f"{999:064}"
    for change in ({"size": 9}, {"mtime_ns": 9}, {"ctime_ns": 9}, {"inode": 9}):
        assert store.hashes.lookup_many([dataclasses.replace(stamps[0], **change)]) == {}
    store.hashes.store_many({dataclasses.replace(stamps[0], size=9): "f" * 64}, now=T0)
    assert store.hashes.lookup_many(stamps[:2]) == {stamps[1].path: f"{1:064}"}
    store.hashes.store_many({}, now=T0)


def test_the_oldest_hashes_are_forgotten(store):
    for number in range(5):
        store.hashes.store_many({stamp(f"/{number}"): "a" * 64}, now=T0 + number, keep=3)
    assert set(store.hashes.lookup_many([stamp(f"/{n}") for n in range(5)])) == {"/2", "/3", "/4"}
