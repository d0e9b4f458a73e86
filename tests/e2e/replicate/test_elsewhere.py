"""The lab is pointed at another Replicate while a job is under way: nothing goes there, and nothing is paid for twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.core.job import JobState
from simpletuner_lab.testing.replicate_emulator import MODELS, Account, Fault, ReplicateEmulator, replicate_emulator
from tests.e2e.replicate.house_kit import ANN, TOKEN, House, Nursery, house
from tests.e2e.replicate.plays import models
from tests.e2e.replicate.truth import Witness


@pytest.fixture
def other() -> Iterator[ReplicateEmulator]:
    """Another one that knows the same token, account and model."""
    with replicate_emulator({TOKEN: Account(username=ANN)}, models=(*models(), *MODELS)) as emulator:
        yield emulator


def test_switched_between_the_uploads_retry_and_the_start_and_while_it_runs(
    nursery: Nursery, tmp_path: Path, other: ReplicateEmulator
) -> None:
    with house(nursery, tmp_path) as lab:
        witness = Witness(lab)
        request = lab.request("slow")
        digest = lab.ask("plan", request)
        witness.consented.add(digest)
        lab.emulator.fail("files.create", Fault(status=503, times=4))
        job = lab.ask("submit", request, digest, None)
        lab.pass_time()
        assert lab.job(job.id).state is JobState.UPLOADING

        _held(lab, other, job.id, JobState.UPLOADING)
        while not lab.job(job.id).run.ref or lab.job(job.id).state is not JobState.RUNNING:
            lab.pass_time(5)
        _held(lab, other, job.id, JobState.RUNNING)
        (charge,) = lab.charges()
        assert not charge.final
        lab.until_settled(look=witness.look)
        witness.check_end()
        assert lab.job(job.id).state is JobState.COMPLETED
        assert len(lab.emulator.predictions) == 1


def _held(lab: House, other: ReplicateEmulator, job_id: str, state: JobState) -> None:
    """Pointed there for some polls, and back: the job keeps its state and says why, and nothing was sent there."""
    here = lab.emulator.url
    assert "1 job" in lab.ask("change", {"base_url": other.url})
    for _ in range(3):
        lab.pass_time(6)
    seen = lab.job(job_id)
    assert (seen.state, seen.attempt, seen.settled_at) == (state, 1, None)
    assert here.removeprefix("http://") in seen.waiting
    assert (list(other.predictions), other.files(ANN)) == ([], ())
    assert lab.ask("change", {"base_url": here}) == ""
