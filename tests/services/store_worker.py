"""A process that works on a store: `store_worker.py ADDRESS VERB ARGS...`. It starts when a line comes in."""

from __future__ import annotations

import dataclasses
import itertools
import sys

from simpletuner_lab.core.errors import StaleRecord
from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.metric import Points, PointsChange
from simpletuner_lab.services.store import Store
from tests.services.store_kit import T0, new_job, open_store


def create(_: Store) -> None:
    print("created")


def submit(store: Store, job_id: str, key: str) -> None:
    events = (EventDraft(kind=EventKind.CREATED, at=T0),)
    print(store.jobs.insert(new_job(job_id, idempotency_key=key), "{}", events).id)


def add(store: Store, job_id: str, times: str) -> None:
    """Adds a cent to a job's cost, so often."""
    lost = 0
    for _ in range(int(times)):
        while True:
            job = store.jobs.get(job_id)
            event = EventDraft(kind=EventKind.STAGE, at=T0)
            try:
                store.jobs.record(job, dataclasses.replace(job, cost_usd=(job.cost_usd or 0.0) + 0.01), (event,))
            except StaleRecord:
                lost += 1
                continue
            break
    print(lost)


def acquire(store: Store, name: str, holder: str) -> None:
    print(store.leases.acquire(name, holder, ttl_s=10.0, now=T0))


def train(store: Store, job_id: str) -> None:
    """Records a step with an event and a point, again and again, and says so after each commit."""
    job = store.jobs.get(job_id)
    if job.state is JobState.QUEUED:
        job, _ = store.jobs.record(job, job.moved(JobState.RUNNING, now=T0))
    for step in itertools.count(1):
        after = dataclasses.replace(job, log_bytes=step)
        change = PointsChange(append=Points(step=(step,), loss=(1.0 / step,), lr=(1e-4,), grad_norm=(1.0,)))
        event = EventDraft(kind=EventKind.STAGE, at=T0, data={"step": step})
        job, _ = store.jobs.record(job, after, (event,), change)
        print(step, flush=True)


def main(address: str, verb: str, *arguments: str) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    store = open_store(address)
    globals()[verb](store, *arguments)
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
