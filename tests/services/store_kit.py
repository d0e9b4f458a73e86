"""Jobs and databases for tests of the store, here and in other processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services.store import Store

T0 = 1_700_000_000.0

SLOW_ON_POSTGRESQL = pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
"""For a test of which others show the same on PostgreSQL in less time."""
QUEUE_COLUMNS = ("priority", "priority_override", "rank", "claimed_at", "place")
"""Of the jobs, since revision 0007."""


def new_job(job_id: str = "job-1", **changes) -> Job:
    fields = {
        "id": job_id,
        "owner": "ann",
        "name": f"cats of {job_id}",
        "provider": "local",
        "target": "process",
        "hardware": "cpu",
        "remote": False,
        "state": JobState.PENDING,
        "created_at": T0,
        "updated_at": T0,
        "digest": "d" * 64,
        "nonce": "n0nce",
    }
    return Job(**fields | changes)


def open_store(address: Path | str) -> Store:
    """A path, or a database URL."""
    return Store.open(target_of(address))


def target_of(address: Path | str) -> Path | Secret:
    """An address as the store wants it."""
    return Secret(str(address)) if "://" in str(address) else Path(address)
