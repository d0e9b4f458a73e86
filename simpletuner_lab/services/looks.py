"""What brings jobs up to date where nobody watches them: a look at their runs, and the slots that are free then."""

from __future__ import annotations

import contextlib

from simpletuner_lab.core.errors import StaleRecord
from simpletuner_lab.core.job import Job
from simpletuner_lab.services.lab import Lab


def look_at(lab: Lab, job_id: str) -> None:
    """The next step of one job; where it waits for a slot, of those first that hold one.

    Raises:
        JobNotFound: there is none.
    """
    job = lab.store.jobs.get(job_id)
    if job.waits_for_slot:
        look_at_holders(lab)
    if job.settled_at is None:
        _advance(lab, job)


def look_at_all(lab: Lab) -> None:
    """The next step of every job, and of those that have a slot by that. Those that still wait are packed."""
    jobs = lab.store.jobs.unsettled()
    for job in jobs:
        if not job.waits_for_slot:
            _advance(lab, job)
    claimed = lab.queue.process()
    for job in claimed:
        _advance(lab, job)
    done = {job.id for job in claimed}
    for job in jobs:
        if job.waits_for_slot and job.id not in done and not lab.runner.packed(job.id):
            _advance(lab, job)


def look_at_holders(lab: Lab) -> None:
    """Runs end without anybody knowing, and their slots are free then."""
    for job in lab.store.queue.held():
        _advance(lab, job)


def start(lab: Lab, job: Job) -> Job:
    """Every step until the run exists, the job is packed and waits for a slot or its provider, or has ended."""
    looked = False
    while not job.terminal and not job.run.ref and job.retry_at is None:
        try:
            job = lab.runner.advance(job)
        except StaleRecord:
            job = lab.store.jobs.get(job.id)
        if job.waits_for_slot and looked:
            break
        if job.waits_for_slot:
            look_at_holders(lab)
            looked = True
    return job


def _advance(lab: Lab, job: Job) -> None:
    with contextlib.suppress(StaleRecord):  # another process is at it
        lab.runner.advance(job)
