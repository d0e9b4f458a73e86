"""The state machine, edge by edge."""

from __future__ import annotations

import dataclasses

import pytest

from simpletuner_lab.core.errors import IllegalTransition
from simpletuner_lab.core.job import ACTIVE, TERMINAL, TRANSITIONS, Job, JobState, Progress, RunRef

S = JobState

LEGAL = {
    (S.PENDING, S.UPLOADING), (S.PENDING, S.QUEUED), (S.PENDING, S.CANCELLED), (S.PENDING, S.FAILED),
    (S.UPLOADING, S.QUEUED), (S.UPLOADING, S.CANCELLED), (S.UPLOADING, S.FAILED),
    (S.QUEUED, S.RUNNING), (S.QUEUED, S.CANCELLED), (S.QUEUED, S.FAILED),
    (S.RUNNING, S.COMPLETED), (S.RUNNING, S.CANCELLED), (S.RUNNING, S.FAILED), (S.RUNNING, S.QUEUED),
}  # fmt: skip
"""Written out a second time by hand, from SPEC J2 and contract §3.2: a change of the table must be meant."""


def a_job(**parts: object) -> Job:
    """A job with only what a job needs."""
    return dataclasses.replace(
        Job(
            id="j", owner="me", name="n", provider="p", target="t", hardware="h", remote=False, state=S.PENDING,
            created_at=1.0, updated_at=1.0, digest="d", nonce="0123456789abcdef",
        ),
        **parts,
    )  # fmt: skip


@pytest.mark.parametrize("before", list(S))
@pytest.mark.parametrize("after", list(S))
def test_only_the_edges_of_the_table_are_taken(before: JobState, after: JobState) -> None:
    job = a_job(state=before)
    if (before, after) in LEGAL:
        assert job.moved(after, now=5.0).state is after
    else:
        with pytest.raises(IllegalTransition):
            job.moved(after, now=5.0)


def test_every_state_is_active_or_terminal() -> None:
    assert set(S) == ACTIVE | TERMINAL == set(TRANSITIONS)
    assert {S.COMPLETED, S.FAILED, S.CANCELLED} == TERMINAL


def test_a_requeue_raises_the_attempt_and_forgets_the_run() -> None:
    job = a_job(state=S.RUNNING, run=RunRef(ref="r", cursor="9"), progress=Progress(step=4), started_at=2.0)
    again = job.moved(S.QUEUED, now=7.0)
    assert (again.attempt, again.run, again.attempt_step, again.stalled) == (2, RunRef(), 0, 1)
    assert again.started_at == 2.0
    stuck = dataclasses.replace(again, state=S.RUNNING).moved(S.QUEUED, now=8.0)
    assert (stuck.attempt, stuck.stalled) == (3, 2)


def test_times_follow_the_states() -> None:
    running = a_job(state=S.QUEUED, waiting="for a GPU").moved(S.RUNNING, now=3.0)
    assert (running.started_at, running.completed_at, running.waiting) == (3.0, None, "")
    assert running.moved(S.COMPLETED, now=9.0).completed_at == 9.0
