"""A service that answers something else than the interface says: one sentence that names the member, where people look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simpletuner_lab.core.errors import LabError, ProviderFailure, ProviderUncertain
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.core.provider import Provider, ProviderContext, RunState
from simpletuner_lab.providers.adapted import ServiceSettings, provider_of
from simpletuner_lab.providers.adapter import CloudJobInfo
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store
from tests.providers.test_adapter import TAG, order
from tests.providers.test_left_there import HOSTED, Plain


class Odd(Plain):
    """Gives what a test says of a member."""

    def __init__(self) -> None:
        super().__init__()
        self.gives: dict[str, Any] = {}

    async def list_jobs(self, limit: int = 50) -> Any:
        return self.gives.get("list_jobs", [self.job])

    async def run_job(self, config: Mapping[str, Any], dataloader: Any) -> Any:
        return self.gives.get("run_job", self.job)

    async def get_job_logs(self, job_id: str) -> Any:
        return self.gives.get("get_job_logs", "training\n")

    async def get_job_status(self, job_id: str) -> Any:
        return self.gives.get("get_job_status", self.job)


@pytest.fixture
def odd() -> Odd:
    return Odd()


@pytest.fixture
def provider(odd: Odd, tmp_path: Path) -> Provider:
    made = provider_of(Odd, id="odd", label="Odd", make=lambda _context: odd)
    return made(
        ServiceSettings(usd_per_hour=1.0, timeout_s=5.0), ProviderContext(home=tmp_path / "own", environment={})
    )


@pytest.mark.parametrize(
    ("given", "log"),
    [(b"one\n\xff\n", "one\n\ufffd\n"), (bytearray(b"one\n"), "one\n"), (None, ""), ("\ud800\n", "?\n")],
)
def test_a_log_of_bytes_is_read_and_none_is_none_yet(provider: Provider, odd: Odd, given: object, log: str) -> None:
    odd.gives["get_job_logs"] = given
    assert provider.poll("p1", "").log.decode() == log


@pytest.mark.parametrize(
    ("member", "given", "what"),
    [
        ("get_job_logs", ["one"], "get_job_logs gave a value of the type list, and not a text"),
        ("get_job_logs", [], "get_job_logs gave a value of the type list, and not a text"),
        (
            "get_job_status",
            {"status": "running"},
            "get_job_status gave a value of the type dict, and not a job with a status",
        ),
        ("list_jobs", None, "list_jobs gave nothing, and not a list of jobs"),
        ("list_jobs", {"p1": "running"}, "list_jobs gave a value of the type dict, and not a list of jobs"),
        ("list_jobs", ["p1"], "list_jobs gave a value of the type str, and not a job with a status"),
        ("list_jobs", [CloudJobInfo(job_id="")], "the job_id of list_jobs gave an empty text, and not a text"),
    ],
)
def test_what_is_none_is_a_failure(provider: Provider, odd: Odd, member: str, given: object, what: str) -> None:
    odd.gives[member] = given
    with pytest.raises(ProviderFailure) as found:
        provider.list() if member == "list_jobs" else provider.poll("p1", "")
    assert found.value.message == f"Odd: {what}"


@pytest.mark.parametrize(
    "given", [None, "p1", CloudJobInfo(job_id=""), CloudJobInfo(job_id=7), SimpleNamespace(status="running")]
)  # type: ignore[arg-type]
def test_a_start_that_is_answered_so_may_have_begun(provider: Provider, odd: Odd, given: object) -> None:
    odd.gives["run_job"] = given
    with pytest.raises(ProviderUncertain, match="run_job gave"):
        provider.start(order())
    with pytest.raises(ProviderUncertain):
        provider.find(TAG)


def test_members_of_a_job_that_are_no_texts_are_taken_as_far_as_they_go(provider: Provider, odd: Odd) -> None:
    odd.gives["get_job_status"] = SimpleNamespace(status="failed", error_message=ValueError("no memory"), output_url=5)
    seen = provider.poll("p1", "")
    assert (seen.state, seen.error) == (RunState.FAILED, "no memory")
    odd.gives["list_jobs"] = [SimpleNamespace(job_id="p1", status="running", created_at=7, metadata={"job_tag": "j/²"})]
    (listed,) = provider.list()
    assert (listed.ref, listed.tag) == ("p1", None)


def test_a_member_that_is_no_coroutine_or_fails_at_once(provider: Provider, odd: Odd) -> None:
    odd.list_jobs = lambda limit: [odd.job]  # type: ignore[assignment,method-assign,misc]
    assert [run.ref for run in provider.list()] == ["p1"]
    odd.list_jobs = list  # type: ignore[assignment,method-assign,misc]
    with pytest.raises(LabError, match="keyword argument"):
        provider.list()


def test_the_job_says_it_once(provider: Provider, odd: Odd, tmp_path: Path) -> None:
    home = Home(tmp_path / "lab").prepare()
    around = Surroundings(environment={"HOME": str(tmp_path)})
    with Lab(home, Store.open(home.database), Registry([provider]), around) as lab:
        config = {"model_family": "sd", "pretrained_model_name_or_path": "some/base", "max_train_steps": 2}
        request = SubmitRequest(config=config, dataloader=(HOSTED,), provider="odd")
        job = lab.submit(request, approve=lab.plan(request).digest)
        while not job.run.ref:
            job = lab.runner.advance(lab.store.jobs.get(job.id))
        odd.gives["get_job_logs"] = ["one"]
        job = lab.runner.advance(job)
        assert "get_job_logs gave a value of the type list" in job.waiting
        (event,) = lab.store.events.of_kind(job.id, EventKind.PROBLEM)
        assert (event.data["message"], job.state) == (job.waiting, JobState.QUEUED)
