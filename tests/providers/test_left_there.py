"""A service that is not told where a model goes: it stays there, and plan, run and timeline say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from simpletuner_lab.core.destination import HubDestination
from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.core.provider import ProviderContext
from simpletuner_lab.providers.adapted import ServiceSettings, provider_of
from simpletuner_lab.providers.adapter import CloudJobInfo, CloudJobStatus, CloudTrainerService
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store
from simpletuner_lab.services.views import PlanView
from simpletuner_lab.terminal import plan_text

WHERE = "https://files.plain.example/models/p1.zip"
HOSTED = {"id": "set", "type": "huggingface", "dataset_name": "ann/cats"}
PUBLISHES = {"push_to_hub": True, "hub_model_id": "ann/cats-lora"}


@dataclass
class Plain(CloudTrainerService):
    """By the documented interface and no more."""

    given: list[Mapping[str, Any]] = field(default_factory=list)
    job: CloudJobInfo = field(default_factory=lambda: CloudJobInfo(job_id="p1", status=CloudJobStatus.RUNNING))

    provider_name = "Plain"
    supports_cost_tracking = True
    supports_live_logs = True

    async def validate_credentials(self) -> dict[str, Any]:
        return {"valid": True, "user_info": "ann"}

    async def list_jobs(self, limit: int = 50) -> list[CloudJobInfo]:
        return [self.job][: min(limit, len(self.given))]

    async def run_job(self, config: Mapping[str, Any], dataloader: Any) -> CloudJobInfo:
        self.given.append(config)
        return self.job

    async def cancel_job(self, job_id: str) -> bool:
        return False

    async def get_job_logs(self, job_id: str) -> str:
        return "training\n"

    async def get_job_status(self, job_id: str) -> CloudJobInfo:
        return self.job


@pytest.fixture
def plain() -> Plain:
    return Plain()


@pytest.fixture
def lab(plain: Plain, tmp_path: Path) -> Iterator[Lab]:
    """No server and no public URL: nothing could come home."""
    made = provider_of(Plain, id="plain", label="Plain", make=lambda _context: plain)
    provider = made(ServiceSettings(usd_per_hour=1.0), ProviderContext(home=tmp_path / "own", environment={}))
    home = Home(tmp_path / "lab").prepare()
    around = Surroundings(environment={"HOME": str(tmp_path)})
    with Lab(home, Store.open(home.database), Registry([provider]), around) as opened:
        yield opened


def asked(**more: Any) -> SubmitRequest:
    config = {"model_family": "sd", "pretrained_model_name_or_path": "some/base", "max_train_steps": 2}
    request = {"config": config | more.pop("config", {}), "dataloader": (HOSTED,), "provider": "plain"}
    return SubmitRequest(**request | more)


def test_a_plan_says_so_and_nothing_travels_to_bring_it_home(lab: Lab) -> None:
    plan = lab.plan(asked())
    assert plan.identity.credentials == ()
    assert any("it stays where Plain puts it" in text for text in plan.warnings)
    told = plan_text(PlanView.of(plan))
    assert "the model     stays where Plain puts it" in told
    assert "comes back" not in told


def test_another_destination_is_refused_and_what_the_config_says_is_handed_on(lab: Lab) -> None:
    with pytest.raises(InvalidRequest, match="is not told where a model goes") as refused:
        lab.plan(asked(destination=HubDestination(repo_id="ann/cats-lora")))
    assert [one.path for one in refused.value.problems] == ["destination"]
    assert dict(lab.plan(asked(config=PUBLISHES)).identity.config).items() >= PUBLISHES.items()


@pytest.mark.parametrize("where", [WHERE, None])
def test_a_run_that_ended_well_is_completed(lab: Lab, plain: Plain, where: str | None) -> None:
    """The address is told as far as it is no key."""
    request = asked(config=PUBLISHES)
    job = lab.submit(request, approve=lab.plan(request).digest)
    for _ in range(6):
        lab.runner.advance(lab.store.jobs.get(job.id))
    assert lab.store.jobs.get(job.id).state is JobState.RUNNING
    assert plain.given[0].items() >= PUBLISHES.items()
    plain.job.status = CloudJobStatus.COMPLETED
    plain.job.cost_usd = 0.25
    plain.job.output_url = where and f"{where.replace('https://', 'https://ann:key@')}?signature=abc"
    lab.runner.advance(lab.store.jobs.get(job.id))
    ended = lab.store.jobs.get(job.id)
    assert (ended.state, ended.failure, ended.cost_usd) == (JobState.COMPLETED, None, 0.25)
    (artifact,) = lab.store.events.of_kind(job.id, EventKind.ARTIFACT)
    assert artifact.data == {"stays": True, "url": where or ""}
    assert not list(lab.home.outputs.rglob("*.safetensors"))
