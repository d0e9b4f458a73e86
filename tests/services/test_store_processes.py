"""Several processes at one database, and one that is killed while it writes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from simpletuner_lab.core.job import JobFilter, JobState
from tests.services.store_kit import SLOW_ON_POSTGRESQL, new_job, open_store

ROOT = Path(__file__).parents[2]


class Worker:
    """A process of `store_worker.py` that has loaded everything and waits for its start."""

    def __init__(self, address, verb, *arguments):
        command = [sys.executable, "-m", "tests.services.store_worker", str(address), verb, *map(str, arguments)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


def race(address, *orders) -> list[str]:
    """Starts all at once; what each said."""
    with ExitStack() as stack:
        workers = [Worker(address, *order) for order in orders]
        for worker in workers:
            stack.enter_context(worker)
        for worker in workers:
            worker.go()
        answers = [worker.process.communicate(timeout=60)[0].strip() for worker in workers]
        assert [worker.process.returncode for worker in workers] == [0] * len(workers)
    return answers


def test_many_may_create_the_database_at_once(bare):
    assert race(bare, *[("create",)] * 4) == ["created"] * 4
    store = open_store(bare)
    assert store.events.max_seq() == 0
    store.close()


@SLOW_ON_POSTGRESQL
def test_one_key_makes_one_job(address):
    answers = race(address, *[("submit", f"job-{number}", "key") for number in range(3)])
    store = open_store(address)
    assert len(set(answers)) == 1
    assert [job.id for job in store.jobs.page(JobFilter()).jobs] == answers[:1]
    assert len(store.events.after(0)) == 1
    store.close()


def test_no_change_is_lost(address):
    store = open_store(address)
    store.jobs.insert(new_job(), "{}")
    race(address, *[("add", "job-1", 40)] * 3)
    job = store.jobs.get("job-1")
    assert job.cost_usd == pytest.approx(1.20)
    assert job.version == 121
    assert [event.seq for event in store.events.after(0)] == list(range(2, 122)), "the insert has the first number"
    store.close()


@SLOW_ON_POSTGRESQL
def test_a_lease_is_won_once(address):
    answers = race(address, *[("acquire", "watcher", f"holder-{number}") for number in range(3)])
    assert Counter(answers) == {"True": 1, "False": 2}


def test_a_killed_writer_leaves_whole_changes_only(address):
    store = open_store(address)
    job = store.jobs.insert(new_job(state=JobState.QUEUED), "{}")
    with Worker(address, "train", job.id) as writer:
        writer.go()
        said = 0
        for _ in range(60):
            said = int(writer.process.stdout.readline())
        writer.process.kill()
        writer.process.wait()
    stored = store.jobs.get(job.id).log_bytes
    assert stored >= said, "what was committed is there"
    assert store.points.read(job.id).step == tuple(range(1, stored + 1))
    assert [event.data["step"] for event in store.events.after(0)] == list(range(1, stored + 1))
    assert store.jobs.page(JobFilter(states=frozenset({JobState.RUNNING}))).total == 1
    store.close()
    if "://" not in str(address):
        _require_sound(address)


def _require_sound(path):
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def test_a_follower_sees_every_event_once_while_others_write(address):
    store = open_store(address)
    job = store.jobs.insert(new_job(state=JobState.QUEUED), "{}")
    seen: list[int] = []
    with Worker(address, "train", job.id) as writer:
        writer.go()
        while len(seen) < 100:
            seen += [event.seq for event in store.events.after(seen[-1] if seen else 0, limit=7)]
    assert seen == list(range(3, len(seen) + 3)), "the insert and the start have the first two numbers"
    store.close()
