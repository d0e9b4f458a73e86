"""A service that gives two jobs one id: neither the money of the first nor a doubt about the second is lost (SPEC M2, J7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.core.provider import ProviderContext
from simpletuner_lab.providers.adapted import ServiceSettings, provider_of
from simpletuner_lab.providers.adapter import CloudJobInfo, CloudJobStatus, CloudTrainerService
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.registers import RunBooked
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store
from tests.services.remote_kit import Clock

HOSTED = {"id": "set", "type": "huggingface", "dataset_name": "ann/cats"}


@dataclass
class Twice(CloudTrainerService):
    """Calls every job `t1`, and shows the last one by that name."""

    jobs: list[CloudJobInfo] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    lists: bool = True

    provider_name = "Twice"
    supports_cost_tracking = True
    supports_live_logs = True

    async def validate_credentials(self) -> dict[str, Any]:
        return {"valid": True, "user_info": "ann"}

    async def list_jobs(self, limit: int = 50) -> list[CloudJobInfo]:
        return self.jobs[-1:] if self.lists else []

    async def run_job(self, config: Mapping[str, Any], dataloader: Any, *, job_tag: str = "") -> CloudJobInfo:
        self.jobs.append(CloudJobInfo(job_id="t1", status="running", cost_usd=0.1, metadata={"job_tag": job_tag}))
        return self.jobs[-1]

    async def cancel_job(self, job_id: str) -> bool:
        self.cancelled.append(job_id)
        return True

    async def get_job_logs(self, job_id: str) -> str:
        return "training\n"

    async def get_job_status(self, job_id: str) -> CloudJobInfo:
        return self.jobs[-1]


@pytest.fixture
def service() -> Twice:
    return Twice()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lab(service: Twice, clock: Clock, tmp_path: Path) -> Iterator[Lab]:
    made = provider_of(Twice, id="twice", label="Twice", make=lambda _context: service)
    provider = made(ServiceSettings(usd_per_hour=1.0), ProviderContext(home=tmp_path / "own", environment={}))
    home = Home(tmp_path / "lab").prepare()
    around = Surroundings(environment={"HOME": str(tmp_path)}, clock=clock)
    with Lab(home, Store.open(home.database), Registry([provider]), around) as opened:
        opened.money.set_limits(
            {"total": {"enabled": True, "amount_usd": 9.0, "action": "warn"}, "job": {"amount_usd": 2.0}}
        )
        yield opened


def started(lab: Lab, clock: Clock, steps: int = 2) -> Job:
    config = {"model_family": "sd", "pretrained_model_name_or_path": "some/base", "max_train_steps": steps}
    request = SubmitRequest(config=config, dataloader=(HOSTED,), provider="twice")
    return on(lab, clock, lab.submit(request, approve=lab.plan(request).digest))


def on(lab: Lab, clock: Clock, job: Job, times: int = 5) -> Job:
    for _ in range(times):
        job = lab.store.jobs.get(job.id)
        clock.now = max(clock.now, job.retry_at or 0.0)
        job = lab.runner.advance(job)
    return job


def booked(lab: Lab, job: Job) -> list[tuple[str, int, float | None]]:
    return [(one.ref, one.attempt, one.cost_usd) for one in lab.charges(job.id)]


def test_the_second_is_in_doubt_and_the_first_keeps_its_money(lab: Lab, clock: Clock) -> None:
    first = started(lab, clock)
    assert (first.run.ref, booked(lab, first)) == ("t1", [("t1", 1, 0.1)])
    second = started(lab, clock, 3)
    assert (second.uncertain, second.run.ref, second.terminal) == (True, "", False)
    assert second.failure is not None
    assert f"gave it the id 't1', which is that of job {first.id}" in second.failure.message
    assert (booked(lab, first), booked(lab, second)) == ([("t1", 1, 0.1)], [])
    (state,) = lab.store.spending.states(now=clock.now)
    assert state.committed_usd is not None
    assert state.committed_usd >= 2.0, "what is set aside for the second stays so"


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_what_a_sync_sees_of_it_ends_and_books_nothing_of_the_first(
    lab: Lab, service: Twice, clock: Clock, ended: bool, lists: bool
) -> None:
    service.lists = lists
    first, second = started(lab, clock), started(lab, clock, 3)
    lab.resolve(second.id, Decision.GIVE_UP)
    doubt = (f"start/{second.id}/1", 1, None)
    assert booked(lab, second) == [doubt]
    if ended:
        service.jobs[-1].status, service.jobs[-1].cost_usd = CloudJobStatus.COMPLETED, 0.4
        assert on(lab, clock, first).state is JobState.COMPLETED
    assert lab.sync("twice").imported == ()
    assert service.cancelled == []
    assert (booked(lab, first), booked(lab, second)) == ([("t1", 1, 0.4 if ended else 0.1)], [doubt])
    lab.money.state_cost(second.id, 0.2)
    assert booked(lab, second) == [(doubt[0], 1, 0.2)]


def test_so_is_the_second_attempt_of_one_job(lab: Lab, service: Twice, clock: Clock) -> None:
    lab.money.set_limits({"job": {"amount_usd": None}})
    job = started(lab, clock)
    again = dataclasses.replace(job, attempt=2, state=JobState.QUEUED, run=dataclasses.replace(job.run, ref=""))
    job = on(lab, clock, lab.store.jobs.record(job, again)[0])
    assert (job.uncertain, booked(lab, job), len(service.jobs)) == (True, [("t1", 1, 0.1)], 2)
    assert job.failure is not None
    assert "which is that of attempt 1 of this job" in job.failure.message


def test_a_charge_is_never_taken_over(lab: Lab, clock: Clock) -> None:
    (charge,) = lab.charges(started(lab, clock).id)
    for other in (dataclasses.replace(charge, job_id="another"), dataclasses.replace(charge, attempt=2)):
        with pytest.raises(RunBooked):
            lab.store.charges.put(other)
    assert lab.store.charges.of_provider("twice") == (charge,)
