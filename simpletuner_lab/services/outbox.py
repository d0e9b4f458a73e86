"""The outbox: pushes on record, each written together with its job; asked for, hastened, given up (SPEC D2 to D4)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from simpletuner_lab.core.destination import DeliveryState, Push, Sender, label
from simpletuner_lab.core.diff import Change
from simpletuner_lab.core.errors import Conflict, OutputNotFound
from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.job import Job
from simpletuner_lab.core.metric import PointsChange
from simpletuner_lab.services.recorder import Recorder
from simpletuner_lab.services.store import Store

Written: TypeAlias = tuple[Push, tuple[EventDraft, ...]]
"""A push as it is to be, and what is told of it."""


class GivenUp(Exception):
    """The user gave the push up while it was under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """Every change of a push goes through here. Times are seconds since the epoch."""

    store: Store
    recorder: Recorder
    clock: Callable[[], float]

    def ask(self, push: Push, entry: str) -> Push:
        """Puts a push on record that somebody agreed to: a new one, or one that has ended, anew."""
        event = self._event(EventKind.CONSENTED, push, entry)
        return self._write(push, lambda: (push, (event,)))

    def record(self, push: Push, *events: EventDraft) -> Push:
        """How far a push has come. What has arrived is told also where it was given up meanwhile.

        Raises:
            GivenUp: somebody gave it up, and this is no arrival.
        """

        def decide() -> Written:
            given_up = self.store.pushes.get(push.id).state is DeliveryState.GIVEN_UP
            if not given_up or push.state is DeliveryState.DELIVERED:
                return push, events
            if not any(event.kind is EventKind.PUSHED for event in events):
                raise GivenUp
            return replace(push, state=DeliveryState.GIVEN_UP, retry_at=None), events

        return self._write(push, decide)

    def hasten(self, job_id: str) -> tuple[Push, ...]:
        """Makes due now what of a job waits for its next try; returns all that is not done.

        Raises:
            JobNotFound: there is no such job.
            Conflict: nothing waits to be sent.
        """
        self.store.jobs.get(job_id)
        waiting = self.store.pushes.open(job_id)
        if not waiting:
            raise _nothing_waits(job_id, "to send it on, say where to")
        for push in waiting:
            if push.retry_at is not None:
                with contextlib.suppress(GivenUp):
                    self.record(replace(push, retry_at=None))
        return self.store.pushes.open(job_id)

    def give_up(self, job_id: str, push_id: str = "", *, entry: str) -> tuple[Push, ...]:
        """Ends a job's pushes that are not done, or the one of this id. Once more changes nothing.

        A try under way stops at its next part. What has arrived stays where it is.

        Raises:
            JobNotFound: there is no such job.
            OutputNotFound: it has no push of this id.
            Conflict: nothing waits to be sent, or a trainer that still runs sends it by itself.
        """
        job = self.store.jobs.get(job_id)
        chosen = [push for push in self.store.pushes.of_job(job_id) if push_id in {"", push.id}]
        if push_id and not chosen:
            raise OutputNotFound(f"job {job_id} has no push {push_id}", hint="look at the job's deliveries")
        waiting = [push for push in chosen if push.open or push.state is DeliveryState.GIVEN_UP]
        if not waiting:
            raise _nothing_waits(job_id, "what has arrived is deleted at its destination")
        ours = [push for push in waiting if job.terminal or push.destination.sender is Sender.LAB]
        if not ours:
            message = "the training machine sends the model by itself, with credentials that travelled with the job"
            raise Conflict(message, hint="cancel the job to stop it")
        return tuple(self._give_up(push, entry) for push in ours)

    def _give_up(self, push: Push, entry: str) -> Push:
        def decide() -> Written:
            now = self.store.pushes.get(push.id)
            if not now.open:
                return now, ()
            after = replace(now, state=DeliveryState.GIVEN_UP, retry_at=None, tries=0, problem="", hint="")
            return after, (self._event(EventKind.PUSH_GIVEN_UP, now, entry),)

        return self._write(push, decide) if push.open else push

    def _event(self, kind: EventKind, push: Push, entry: str) -> EventDraft:
        return EventDraft(kind=kind, at=self.clock(), data={"to": label(push.destination), "entry": entry})

    def _write(self, push: Push, decide: Callable[[], Written]) -> Push:
        """The job is read before it is decided: a change in between makes the write a stale one, and it is done again."""
        after = push

        def write(job: Job) -> Job:
            nonlocal after
            after, events = decide()
            change = Change(job=replace(job, updated_at=self.clock()), events=events, points=PointsChange())
            return self.recorder.record(job, change, push=after)

        self.recorder.decide(push.job_id, write)
        return after


def _nothing_waits(job_id: str, hint: str) -> Conflict:
    return Conflict(f"nothing of job {job_id} waits to be sent", hint=hint)
