"""What is said of the end of a run whose money is used up: by a service that can be told its time, and by one that cannot (SPEC M4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.core.provider import ProviderContext, Target
from simpletuner_lab.core.segments import ending_of
from simpletuner_lab.providers.adapted import ServiceSettings, provider_of
from simpletuner_lab.providers.adapter import CloudJobInfo
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store
from tests.providers.test_left_there import HOSTED, Plain
from tests.services.remote_kit import Clock

CANCELLED = "this one: it is cancelled when it is seen to have passed that, without a checkpoint"


class Timed(Plain):
    """It can be told."""

    async def run_job(
        self, config: Mapping[str, Any], dataloader: Any, *, deadline_s: float | None = None
    ) -> CloudJobInfo:
        return self.job


@pytest.mark.parametrize(("service", "told"), [(Plain, CANCELLED), (Timed, "this one: it is ended before that")])
def test_plan_timeline_and_failure_say_what_is_true(service: type[Plain], told: str, tmp_path: Path) -> None:
    plain, clock, home = service(), Clock(), Home(tmp_path / "lab").prepare()
    made = provider_of(service, id="plain", label="Plain", make=lambda _context: plain)
    provider = made(ServiceSettings(usd_per_hour=1.0), ProviderContext(home=tmp_path / "own", environment={}))
    around = Surroundings(environment={"HOME": str(tmp_path)}, clock=clock)
    with Lab(home, Store.open(home.database), Registry([provider]), around) as lab:
        lab.money.set_limits({"job": {"amount_usd": 0.5}})
        config = {"model_family": "sd", "pretrained_model_name_or_path": "some/base"}
        request = SubmitRequest(config=config | {"max_train_steps": 2}, dataloader=(HOSTED,), provider="plain")
        plan = lab.plan(request)
        assert [text.endswith(told) for text in plan.warnings if "a job may cost" in text] == [True]
        assert any("is not told by when a run is to end" in text for text in plan.warnings) is (service is Plain)
        assert plan.target.deadline is (service is Timed)
        job = lab.submit(request, approve=plan.digest)
        assert any(
            str(one.data["message"]).endswith(told) for one in lab.store.events.of_kind(job.id, EventKind.SPEND_LIMIT)
        )
        for _ in range(6):
            job = lab.runner.advance(lab.store.jobs.get(job.id))
        assert job.state is JobState.RUNNING
        plain.job.cost_usd = 0.7
        job = lab.runner.advance(job)
        assert job.failure is not None
        assert (job.failure.code, "told to end" in job.failure.hint) == ("spend_limit", False)


def test_a_target_that_goes_on_leaves_a_checkpoint() -> None:
    target = Target(id="t", label="T", version="1", live_metrics=True, resume=True)
    assert ending_of(target) == "it is ended before that, with a checkpoint"
