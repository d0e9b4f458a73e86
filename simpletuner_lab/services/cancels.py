"""Cancels: what is asked for is on record first, and reaches the provider even where there is no room for that (SPEC J5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from simpletuner_lab.core.errors import DiskFull, IllegalTransition, LabError, StoreUnusable
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.services.recorder import Recorder
from simpletuner_lab.services.runner import Runner
from simpletuner_lab.services.store import Store


class Cancels:
    """Asks for the end of jobs."""

    def __init__(self, *, store: Store, recorder: Recorder, runner: Runner, clock: Callable[[], float]) -> None:
        self._store = store
        self._recorder = recorder
        self._runner = runner
        self._clock = clock

    def cancel(self, job_id: str) -> Job:
        """The job, with that on record. Asking again is harmless.

        Raises:
            JobNotFound: there is no such job.
            IllegalTransition: it has ended by itself.
            DiskFull, StoreUnusable: it cannot be put on record; its run is told all the same, if it can be.
        """
        try:
            return self._recorder.decide(job_id, self._cancelled)
        except (DiskFull, StoreUnusable) as error:
            raise type(error)(f"{error.message}; {self._unrecorded(job_id)}", hint=error.hint) from error

    def _unrecorded(self, job_id: str) -> str:
        """What becomes of the run, which must not cost more for want of a few bytes."""
        try:
            told = self._runner.end_unrecorded(self._store.jobs.get(job_id))
        except LabError as error:
            return f"its run could not be told to end either: {error.message}"
        return "its run was told to end; cancel again when there is room" if told else "nothing was cancelled"

    def _cancelled(self, job: Job) -> Job:
        asked = job.cancel_requested_at is not None
        if asked and (not job.terminal or job.state is JobState.CANCELLED):
            return job
        if job.terminal:
            raise IllegalTransition(f"job {job.id} is already {job.state}", hint="there is nothing to cancel")
        now = self._clock()
        no_run = job.waits_for_slot or job.waits_for_money
        ended = job.moved(JobState.CANCELLED, now=now) if no_run else job
        after = dataclasses.replace(ended, cancel_requested_at=now, retry_at=None, updated_at=now)
        return self._recorder.note(job, after, EventKind.CANCEL_REQUESTED, at=now)
