"""The queue of a lab: what waits is in the spool alone, slots are given away by themselves, and no crash loses one."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from simpletuner_lab.core import errors
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.job_queue import Limits
from simpletuner_lab.services.front import Front, InProcess
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.queue_views import ConcurrencyChange
from simpletuner_lab.testing import eventually
from tests.lab_kit import quick_home, request, settled, submitted, trainers
from tests.services.remote_kit import Away, away_lab
from tests.services.test_queue_table import forked

ONE = Limits(total=1)


@pytest.fixture
def away(tmp_path: Path):
    with away_lab(tmp_path) as opened:
        opened.lab.queue.set_limits(ONE)
        yield opened


def completed(away: Away, job_id: str) -> None:
    """The run of a job ends well, and the lab hears of it."""
    job = away.lab.store.jobs.get(job_id)
    away.deliver(job)
    away.place.change(job.run.ref, state="succeeded")
    while not job.terminal:
        job = away.on(job)
    assert job.state is JobState.COMPLETED


def test_nothing_of_a_job_that_waits_is_sent(away: Away, images: Path) -> None:
    first, second = away.started(images), away.submit(images)
    for _ in range(3):
        assert away.on(second) == second
    assert second.waits_for_slot
    assert away.place.uploads() == [first.id]
    assert away.lab.store.queue.slots().total == 1
    assert away.lab.store.transfers.of_job(second.id) == ()
    completed(away, first.id)
    while not second.run.ref:
        second = away.on(second)
    assert away.place.uploads() == [first.id, second.id]


def test_the_next_attempt_keeps_the_slot(away: Away, images: Path) -> None:
    first, second = away.started(images), away.submit(images, priority=50)
    away.place.step(first.run.ref, 3)
    first = away.on(first)
    away.place.change(first.run.ref, state="interrupted")
    while first.attempt == 1:
        first = away.on(first)
    assert first.state is JobState.QUEUED
    assert away.on(second).waits_for_slot
    while not first.run.ref:
        first = away.on(first)
    assert away.on(second).waits_for_slot


def test_it_is_told_where_a_job_stands_and_why(away: Away, images: Path) -> None:
    front, started = Front(away.lab), away.started(images)
    second, third = away.submit(images), away.submit(images, priority=40)
    seen = {job.job_id: job for job in front.jobs().jobs}
    assert (seen[third.id].queue_position, seen[second.id].queue_position) == (1, 2)
    assert (seen[started.id].queue_position, seen[started.id].priority, seen[third.id].priority) == (None, 10, 40)
    assert front.job(second.id).waiting == "number 2 in the queue: this lab has 1 of at most 1 job under way"
    assert front.detail(second.id).job == front.job(second.id) == seen[second.id]
    page = front.queue.entries()
    assert [(entry.job_id, entry.status, entry.position) for entry in page.entries] == [
        (started.id, "ready", None), (third.id, "pending", 1), (second.id, "pending", 2)
    ]  # fmt: skip
    assert (page.total_pending, page.total_running) == (2, 1)
    assert [entry.job_id for entry in front.queue.entries(limit=1, offset=2).entries] == [second.id]
    assert [entry.job_id for entry in front.queue.entries(status="pending", offset=1).entries] == [second.id]
    assert front.queue.entries(status="completed").entries == ()
    assert front.queue.mine().best_position == 1
    assert front.queue.position(started.id).position is None
    with pytest.raises(errors.InvalidRequest, match="not known"):
        front.queue.entries(status="queued")


def test_the_wait_is_known_once_runs_have_ended(away: Away, images: Path) -> None:
    front, first = Front(away.lab), away.started(images)
    second, third = away.submit(images), away.submit(images)
    assert front.queue.position(second.id).estimated_wait_seconds is None, "no run tells it yet"
    first = away.on(first)
    away.clock.now += 60
    completed(away, first.id)
    while not away.lab.store.jobs.get(second.id).started_at:
        away.on(second)
    away.clock.now += 20
    assert front.queue.position(third.id).estimated_wait_seconds == pytest.approx(40)
    assert front.queue.stats().avg_wait_seconds == pytest.approx(30)
    assert front.queue.entries(include_completed=True).entries[-1].job_id == first.id


def test_another_priority_is_another_place(away: Away, images: Path) -> None:
    front, first = Front(away.lab), away.started(images)
    second, third = away.submit(images), away.submit(images)
    found = front.queue.prioritise(third.id, 11, entry="test")
    assert (found.previous_effective_priority, found.new_effective_priority, found.priority_override) == (10, 11, 11)
    event = away.lab.store.events.of_kind(third.id, EventKind.PRIORITISED)[0]
    assert event.data == {"priority": 11, "previous": 10, "entry": "test"}
    assert front.queue.prioritise(third.id, 11).new_effective_priority == 11
    assert len(away.lab.store.events.of_kind(third.id, EventKind.PRIORITISED)) == 1, "the same again is not news"
    assert [entry.job_id for entry in front.queue.mine().pending_jobs] == [third.id, second.id]
    assert front.queue.prioritise(third.id, None).new_effective_priority == 10
    assert [entry.job_id for entry in front.queue.mine().pending_jobs] == [second.id, third.id]
    with pytest.raises(errors.Conflict, match="under way"):
        front.queue.prioritise(first.id, 50)


def test_cancel_of_a_job_that_waits_is_immediate(away: Away, images: Path) -> None:
    away.started(images)
    second = away.submit(images)
    job = away.lab.cancel(second.id)
    assert (job.state, job.claimed_at) == (JobState.CANCELLED, None)
    kinds = [event.kind for event in away.lab.store.events.after(0, job_id=job.id)]
    assert kinds[-2:] == [EventKind.CANCEL_REQUESTED, EventKind.STATE]
    assert away.on(job).settled_at is not None
    assert second.id not in away.place.uploads()


def test_limits_are_changed_together_or_not_at_all(away: Away, images: Path) -> None:
    front = Front(away.lab)
    found = front.queue.set_concurrency(ConcurrencyChange(user_max_concurrent=7, providers={"elsewhere": 3}))
    assert (found.max_concurrent, found.user_max_concurrent, found.providers) == (1, 7, {"elsewhere": 3})
    assert front.queue.set_concurrency(ConcurrencyChange(providers={"elsewhere": None})).providers == {
        "elsewhere": None
    }
    for wrong in (
        ConcurrencyChange(max_concurrent=0, user_max_concurrent=3),
        ConcurrencyChange(team_max_concurrent=3, user_max_concurrent=3),
    ):
        with pytest.raises(errors.InvalidRequest):
            front.queue.set_concurrency(wrong)
    with pytest.raises(errors.ProviderNotFound):
        front.queue.set_concurrency(ConcurrencyChange(user_max_concurrent=3, providers={"nope": 3}))
    assert front.queue.concurrency().user_max_concurrent == 7


def test_the_limit_of_a_provider_that_is_gone_can_be_written_back_and_taken_back(away: Away) -> None:
    front = Front(away.lab)
    away.lab.queue.set_limits(Limits(providers={"gone": 3}))
    assert front.queue.set_concurrency(ConcurrencyChange(providers={"gone": 3})).providers["gone"] == 3
    assert "gone" not in front.queue.set_concurrency(ConcurrencyChange(providers={"gone": None})).providers


def test_limits_that_are_set_at_once_are_all_kept(away: Away) -> None:
    front = Front(away.lab)
    with ThreadPoolExecutor(4) as pool:
        for number in range(2, 10):
            gate = threading.Barrier(4)

            def change(one: ConcurrencyChange, gate: threading.Barrier = gate) -> None:
                gate.wait()
                front.queue.set_concurrency(one)

            wanted = ConcurrencyChange(
                max_concurrent=number,
                user_max_concurrent=number,
                local_job_max_concurrent=number,
                providers={"elsewhere": number},
            )
            names = [field.name for field in dataclasses.fields(wanted)][:4]
            list(pool.map(change, (ConcurrencyChange(**{name: getattr(wanted, name)}) for name in names)))
            limits = away.lab.queue.limits()
            assert (limits.total, limits.user, limits.local, limits.providers) == (number,) * 3 + (
                {"elsewhere": number},
            )


def test_asking_twice_for_the_end_of_a_job_that_waits_is_harmless(away: Away, images: Path) -> None:
    away.started(images)
    waits = away.submit(images)
    first = away.lab.cancel(waits.id)
    assert first.state is JobState.CANCELLED
    assert away.lab.cancel(waits.id).state is JobState.CANCELLED
    assert len(away.lab.store.events.of_kind(waits.id, EventKind.CANCEL_REQUESTED)) == 1


def test_finished_jobs_of_long_ago_are_cleaned_up(away: Away, images: Path) -> None:
    front, first = Front(away.lab), away.started(images)
    completed(away, first.id)
    away.on(away.lab.store.jobs.get(first.id))
    away.clock.now += 2 * 24 * 3600
    second = away.submit(images)
    assert front.queue.cleanup(3).deleted == 0
    assert front.queue.cleanup(1).deleted == 1
    assert [job.job_id for job in front.jobs().jobs] == [second.id]
    assert away.lab.outputs.folder(first.id).exists(), "what it delivered stays"
    with pytest.raises(errors.InvalidRequest):
        front.queue.cleanup(0)


def test_a_cleanup_leaves_for_the_next_one_what_others_write(away: Away, images: Path) -> None:
    front, first = Front(away.lab), away.started(images)
    completed(away, first.id)
    away.on(away.lab.store.jobs.get(first.id))
    away.clock.now += 2 * 24 * 3600

    def taken_back(*at: object) -> None:
        if "DELETE FROM jobs" in str(at[2]):
            raise errors.StaleRecord("the database took back a transaction")

    writer = away.lab.store._database._writer
    sa.event.listen(writer, "before_cursor_execute", taken_back)
    assert front.queue.cleanup(1).deleted == 0
    sa.event.remove(writer, "before_cursor_execute", taken_back)
    assert front.queue.cleanup(1).deleted == 1


# ------------------------------------------------------------ this machine, one job at a time


def test_the_next_job_starts_by_itself(watched: Lab, images: Path) -> None:
    jobs = [submitted(watched, images) for _ in range(2)]
    ended = [settled(watched, job) for job in jobs]
    assert [job.state for job in ended] == [JobState.COMPLETED] * 2
    assert ended[0].completed_at <= ended[1].claimed_at


def test_the_cap_holds_over_a_restart(tmp_path: Path, images: Path) -> None:
    home = quick_home(tmp_path)
    with Lab.open(home.root) as lab:
        lab.watcher.start()
        first, second = submitted(lab, images, "wait"), submitted(lab, images)
        eventually(lambda: lab.store.jobs.get(first.id), lambda seen: seen.progress.step == 5)
    with Lab.open(home.root) as lab:
        lab.watcher.start()
        lab.cancel(first.id)
        ended = settled(lab, second)
        assert ended.state is JobState.COMPLETED
        assert ended.claimed_at >= lab.store.jobs.get(first.id).completed_at, "the new server waited for it too"
    assert trainers(lab) == []


def test_without_a_server_a_look_starts_what_waits(lab: Lab, images: Path) -> None:
    client = InProcess(lab)
    asked = request(images)
    digest = lab.plan(asked).digest
    first = client.submit(asked, approve=digest)
    second = client.submit(dataclasses.replace(asked, priority=20), approve=digest)
    assert (first.queue_position, second.queue_position, second.priority) == (None, 1, 20)
    assert second.waiting.endswith("local has 1 of at most 1 job under way")
    seen = eventually(lambda: client.job(second.job_id), lambda job: job.is_terminal, patience_s=40)
    assert seen.status is JobState.COMPLETED, "though nobody looked at the first one"
    assert client.queue.stats().by_status["completed"] == 2


# ------------------------------------------------------------ kill -9

COMMITS = 6
"""From a claim to a run: the claim, packed, about to send, sent, about to start, started."""


@pytest.mark.parametrize("commit", range(1, COMMITS + 1))
def test_a_process_killed_before_any_commit_costs_no_slot_and_no_second_run(
    tmp_path: Path, images: Path, commit: int
) -> None:
    with away_lab(tmp_path) as away:
        away.lab.queue.set_limits(ONE)
        first, second = away.submit(images), away.submit(images)

    def start_and_die() -> None:
        with away_lab(tmp_path) as dying:
            left = [commit]

            def die(*_: object) -> None:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

            sa.event.listen(dying.lab.store._database._writer, "commit", die)
            while True:
                dying.on(first)

    _, status = os.waitpid(forked(start_and_die), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with away_lab(tmp_path) as away:
        held = [job.id for job in away.lab.store.queue.held()]
        assert held == ([] if commit == 1 else [first.id])
        assert away.on(second).waits_for_slot, "it is not its turn"
        for job in (first, second):
            while not away.lab.store.jobs.get(job.id).run.ref:
                away.on(job)
                assert len(away.lab.store.queue.held()) == 1
            completed(away, job.id)
        tags = [run["tag"][0] for run in away.place.runs().values()]
        assert tags == [first.id, second.id], "each was started once"
