"""The original's job history becomes jobs of the lab, once, whatever happens meanwhile; the file stays as it is."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simpletuner_lab.core.job import JobFilter, JobState
from simpletuner_lab.core.spend import LimitAction, SpendLimit, SpendLimits
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.job_history import import_history
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.store import Store
from simpletuner_lab.testing import eventually
from tests.services.remote_kit import Elsewhere, away_lab

NOW = 1_790_000_000.0
AT = 1_762_164_000


def record(number: int, **more: Any) -> dict[str, Any]:
    return {
        "job_id": f"old-{number}",
        "job_type": "cloud",
        "provider": "elsewhere",
        "status": "completed",
        "config_name": f"config {number}",
        "created_at": AT + number,
        "started_at": AT + number + 60,
        "completed_at": AT + number + 3660,
        "cost_usd": 1.5,
        "hardware_type": "L40S",
        "upload_token": f"upload-token-{number}",
        "metadata": {"prediction_id": f"p{number}"},
    } | more


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").prepare()


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = Store.open(home.database)
    yield opened
    opened.close()


def written(home: Home, document: Any) -> bytes:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    home.job_history.write_bytes(data)
    return data


def taken(home: Home, store: Store) -> int:
    return import_history(home.job_history, store, owner="me", now=NOW)


def test_a_lab_shows_them_as_jobs_that_have_ended(home: Home) -> None:
    records = [
        record(1),
        record(2, status="failed", error_message="CUDA out of memory", metadata=None, cost_usd=None),
        record(3, status="running", completed_at=None, job_type="local", provider=None),
        record(4, status="canceled", output_url="https://h.example/x?sig=1"),
    ]
    data = written(home, records)
    with Lab.open(home.root, Surroundings(environment={})) as lab:
        front = Front(lab)
        page = front.jobs()
        found = {job.job_id: job for job in page.jobs}
        assert page.total == 4
        assert {name: job.status for name, job in found.items()} == {
            "old-1": "completed", "old-2": "failed", "old-3": "failed", "old-4": "cancelled"
        }  # fmt: skip
        assert front.jobs(JobFilter(states=frozenset({JobState.COMPLETED}))).total == 1
        one, two, three = found["old-1"], found["old-2"], found["old-3"]
        assert (one.config_name, one.cost_usd, one.duration_seconds) == ("config 1", 1.5, 3600)
        assert (one.created_at, one.job_type, one.provider) == ("2025-11-03T10:00:01.000Z", "cloud", "elsewhere")
        assert two.error_message == "CUDA out of memory"
        assert (three.job_type, three.provider) == ("local", "local")
        assert three.error is not None
        assert three.error.code == "imported_unfinished"
        detail = front.detail("old-4")
        assert [event.kind for event in detail.events] == ["imported"]
        assert detail.events[0].data["url"] == "https://h.example/x"
        assert [charge.cost_usd for charge in front.detail("old-1").charges] == [1.5]
        assert lab.store.jobs.active() == lab.store.jobs.unsettled() == ()
        front.delete("old-1")
    assert home.job_history.read_bytes() == data
    assert b"upload-token" not in home.database.read_bytes()
    with Lab.open(home.root, Surroundings(environment={})) as lab:
        assert {job.id for job in lab.store.jobs.page(JobFilter()).jobs} == {"old-2", "old-3", "old-4"}


def test_twice_is_once(home: Home, store: Store) -> None:
    written(home, {"jobs": [record(number) for number in range(5)]})
    assert [taken(home, store), taken(home, store)] == [5, 0]
    written(home, [record(number) for number in range(9)])
    assert taken(home, store) == 0
    assert len(store.charges.of_provider("elsewhere")) == 5


def test_no_file_is_no_matter(home: Home, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    assert taken(home, store) == 0
    assert caplog.records == []
    written(home, [record(1)])
    assert taken(home, store) == 1


@pytest.mark.parametrize("broken", [b"", b"{", b"\xff\xfe", b'"text"', b'{"jobs": 3}', b"[" * 100_000])
def test_a_broken_file_is_told_of_once_and_left_alone(
    home: Home, store: Store, caplog: pytest.LogCaptureFixture, broken: bytes
) -> None:
    written(home, broken)
    with caplog.at_level(logging.WARNING):
        assert [taken(home, store), taken(home, store)] == [0, 0]
    assert len(caplog.records) == 1
    assert "job_history.json is not imported" in caplog.text
    assert home.job_history.read_bytes() == broken
    written(home, [record(1)])  # somebody has mended it
    assert taken(home, store) == 1


def test_entries_that_are_no_jobs_hold_nothing_up(home: Home, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    written(home, [1, record(1), None, {}, record(1), "x"])
    with caplog.at_level(logging.WARNING):
        assert taken(home, store) == 1
    assert "4 of 6 entries are no jobs" in caplog.text


def test_a_sync_does_not_bring_the_same_run_again(tmp_path: Path) -> None:
    with away_lab(tmp_path) as away:
        ref = away.place.add(state="succeeded", cost_usd=0.5)
        later = away.place.add(state="running")
        records = [
            record(1, metadata={"prediction_id": ref}),
            record(2, status="running", metadata={"prediction_id": later}),
        ]
        written(away.lab.home, records)
        assert taken(away.lab.home, away.lab.store) == 2
        synced = away.lab.sync(Elsewhere.id)
        assert [job.run.ref for job in synced.imported] == [later]


def test_a_run_that_a_sync_brought_is_not_taken_in_again(tmp_path: Path) -> None:
    with away_lab(tmp_path) as away:
        ref = away.place.add(state="succeeded", cost_usd=0.5)
        (job,) = away.lab.sync(Elsewhere.id).imported
        written(away.lab.home, [record(1, metadata={"prediction_id": ref})])
        assert taken(away.lab.home, away.lab.store) == 0
        assert [charge.job_id for charge in away.lab.store.charges.of_provider(Elsewhere.id)] == [job.id]


def test_what_they_cost_counts_on_the_day_on_which_they_began(home: Home, store: Store) -> None:
    limit = SpendLimit(enabled=True, amount_usd=4.0, action=LimitAction.BLOCK)
    store.spending.change_limits(lambda _: SpendLimits(total=limit))
    this_month = {"created_at": NOW - 7300, "started_at": NOW - 7200, "completed_at": NOW - 3600}
    records = [record(1), record(2, **this_month), record(3, **this_month | {"metadata": None})]
    written(home, records)
    assert taken(home, store) == 3
    (state,) = store.spending.states(now=NOW)
    assert state.spent_usd == 3.0
    charges = store.charges.of_provider("elsewhere")
    assert [(charge.opened_at, charge.owner) for charge in charges] == [
        (AT + 61, "me"), (NOW - 7200, "me"), (NOW - 7200, "me"),
    ]  # fmt: skip


def test_what_they_do_not_tell_is_not_nothing_until_a_sync_tells_it(tmp_path: Path) -> None:
    with away_lab(tmp_path) as away:
        now = away.clock.now
        away.lab.money.set_limits({"total": {"enabled": True, "amount_usd": 4.0, "action": "block"}})
        untold: dict[str, Any] = {
            "cost_usd": None,
            "status": "failed",
            "created_at": now - 7200,
            "completed_at": now - 60,
        }
        unbegun = untold | {"started_at": None, "metadata": {"prediction_id": "unbegun"}}
        written(away.lab.home, [record(1, **unbegun), record(2, **untold | {"job_type": "local", "provider": None})])
        assert taken(away.lab.home, away.lab.store) == 2
        assert away.lab.store.spending.states(now=now)[0].spent_usd == 0.0, "neither has cost anything"
    with away_lab(tmp_path / "other", away.clock) as away:
        away.lab.money.set_limits({"total": {"enabled": True, "amount_usd": 4.0, "action": "block"}})
        ref = away.place.add(state="failed")
        begun = untold | {"started_at": now - 7100, "metadata": {"prediction_id": ref}}
        written(away.lab.home, [record(1, **begun)])
        assert taken(away.lab.home, away.lab.store) == 1
        assert away.lab.store.spending.states(now=now)[0].spent_usd is None
        away.place.change(ref, cost_usd=0.5)
        assert away.lab.sync(Elsewhere.id).imported == ()
        assert away.lab.store.spending.states(now=now)[0].spent_usd == 0.5
        assert away.lab.store.jobs.get("old-1").cost_usd == 0.5


KILLED = """
import sys
from pathlib import Path
from simpletuner_lab.services.job_history import import_history
from simpletuner_lab.services.store import Store
import_history(Path(sys.argv[1]), Store.open(Path(sys.argv[2])), owner="me", now=0.0)
"""


def test_a_kill_in_the_middle_leaves_the_rest_for_the_next_time(home: Home, store: Store) -> None:
    count = 60
    data = written(home, [record(number) for number in range(count)])
    words = [sys.executable, "-c", KILLED, str(home.job_history), str(home.database)]
    with subprocess.Popen(words) as process:
        eventually(lambda: store.jobs.page(JobFilter(), limit=1).total > 1, patience_s=60)
        os.kill(process.pid, signal.SIGKILL)
    before = store.jobs.page(JobFilter(), limit=1).total
    assert 1 < before < count
    assert store.settings.get("job_history") is None
    assert taken(home, store) == count - before
    assert store.jobs.page(JobFilter(), limit=1).total == len(store.charges.of_provider("elsewhere")) == count
    assert home.job_history.read_bytes() == data
