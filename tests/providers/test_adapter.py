"""A class with the documented interface is a provider: the example, installed from its own package; and poorer ones."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from simpletuner_lab.client import LabClient
from simpletuner_lab.core import errors
from simpletuner_lab.core.destination import FolderDelivery
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.core.provider import Archive, Provider, ProviderContext, RunState, RunTag, StartOrder
from simpletuner_lab.providers.adapted import ServiceSettings, provider_of
from simpletuner_lab.providers.adapter import (
    CloudJobInfo,
    CloudJobNotFoundError,
    CloudJobRefusedError,
    CloudJobStatus,
    CloudTrainerService,
)
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.provider_contract import ProviderContract
from tests.lab_kit import dataloader, dataset, quick_home
from tests.server.server_kit import Server, free_port

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "acme-trainer"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example is installed, as pip installs it."""
    target = tmp_path_factory.mktemp("site")
    words = [
        "install",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(EXAMPLE),
    ]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=120)
    return target


@pytest.fixture(scope="module")
def acme(site: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield importlib.import_module("acme_trainer")
        sys.modules.pop("acme_trainer")


class TestAcme(ProviderContract):
    @pytest.fixture
    def provider(self, home: Path, acme: ModuleType) -> Provider:
        return acme.Acme(acme.Acme.Settings(), ProviderContext(home=home, environment={}))


# --------------------------------------------------------------------------------------------------------- on a server


@pytest.fixture(scope="module")
def client(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabClient]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    options = (f"--SimpleTunerLabApp.public_port={port}", f"--SimpleTunerLabApp.public_url=http://127.0.0.1:{port}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
        server = Server(folder, quick_home(folder).root, "/", *options).start()
    yield server.client()
    server.stop()


def asked(images: Path, behaviour: str) -> SubmitRequest:
    config = {"behaviour": behaviour, "pretrained_model_name_or_path": "acme/base", "max_train_steps": 10}
    return SubmitRequest(config=config, dataloader=tuple(dataloader(images)), provider="acme")


def ended(client: LabClient, job_id: str) -> JobState:
    return eventually(lambda: client.job(job_id), lambda job: job.is_terminal, patience_s=40).status


def test_the_whole_way(client: LabClient, tmp_path: Path) -> None:
    images = dataset(tmp_path / "set")
    (listed,) = (one for one in client.providers() if one.id == "acme")
    assert (listed.name, listed.configured, listed.account) == ("Acme", True, "you")
    plan = client.plan(asked(images, "succeed"))
    assert (plan.endpoint, plan.remote, plan.total_files) == ("Acme", True, 6)
    assert "how far a run is, Acme does not tell: its log is all there is to see" in plan.warnings
    assert not any("cost" in warning for warning in plan.warnings)
    job = client.submit(asked(images, "succeed"), approve=plan.digest)
    assert ended(client, job.job_id) is JobState.COMPLETED
    assert "6 files came\n" in client.log(job.job_id).logs
    (output,) = client.outputs(job.job_id).outputs
    assert Path(client.outputs(job.job_id).folder, output.path).read_bytes() == b"lora"
    cost_usd = client.job(job.job_id).cost_usd
    assert cost_usd is not None
    assert cost_usd > 0
    eventually(lambda: any(event.kind == "discarded" for event in client.detail(job.job_id).events))


def test_a_job_that_is_cancelled_and_one_that_is_refused(client: LabClient, tmp_path: Path) -> None:
    images = dataset(tmp_path / "set")
    waits = client.submit(asked(images, "wait"), approve=client.plan(asked(images, "wait")).digest)
    eventually(lambda: client.job(waits.job_id).status is JobState.RUNNING, patience_s=30)
    client.cancel(waits.job_id)
    assert ended(client, waits.job_id) is JobState.CANCELLED
    refused = client.submit(asked(images, "refuse"), approve=client.plan(asked(images, "refuse")).digest)
    assert ended(client, refused.job_id) is JobState.FAILED
    assert "Acme refuses: Acme does not do this" in (client.job(refused.job_id).error_message or "")


# ------------------------------------------------------------------------------------- what the interface alone can do


class Bare:
    """Written to the interface, and to nothing of ours: no subclass, no names of starts, no files."""

    provider_name = "Bare"
    supports_cost_tracking = False
    supports_live_logs = False

    def __init__(self) -> None:
        self.jobs: dict[str, CloudJobInfo] = {}
        self.fault: Exception | None = None
        self.hangs = False
        self.credentials: dict[str, Any] = {"valid": True, "user_info": "ann"}

    async def validate_credentials(self) -> dict[str, Any]:
        return self.credentials

    async def list_jobs(self, limit: int = 50) -> list[CloudJobInfo]:
        return list(self.jobs.values())[:limit]

    async def run_job(self, config: Mapping[str, Any], dataloader: list[Mapping[str, Any]]) -> CloudJobInfo:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        self.jobs["b1"] = CloudJobInfo(job_id="b1", status="running", cost_usd=3.0, created_at="2026-01-01T00:00:00")
        return self.jobs["b1"]

    async def cancel_job(self, job_id: str) -> bool:
        raise CloudJobNotFoundError(job_id)

    async def get_job_logs(self, job_id: str) -> str:
        return "one\ntwo"

    async def get_job_status(self, job_id: str) -> CloudJobInfo | None:
        if isinstance(self.fault, KeyError):
            raise self.fault
        return self.jobs.get(job_id)


TAG = RunTag(job_id="j-1", attempt=1)


@pytest.fixture
def bare() -> Bare:
    return Bare()


@pytest.fixture
def provider(bare: Bare, tmp_path: Path) -> Provider:
    made = provider_of(Bare, id="bare", label="Bare", make=lambda _context: bare)
    return made(ServiceSettings(timeout_s=2.0), ProviderContext(home=tmp_path, environment={}))


def order() -> StartOrder:
    return StartOrder(
        tag=TAG, target="service", hardware="any", nonce="n", config={}, dataloader=[], plan_digest="0" * 64, archive=None,
        upload_ref="", delivery=FolderDelivery(path="/nowhere"), deadline_s=None,
    )  # fmt: skip


def test_a_plan_says_what_it_lacks(provider: Provider) -> None:
    (target,) = provider.options().targets
    assert target.inputs == {"hub", "s3"}
    assert [word for word in ("log when", "what a run costs", "no files", "where the model goes")
            if not any(word in lack for lack in target.lacks)] == []  # fmt: skip


def test_costs_and_logs_only_where_it_supports_them(provider: Provider, bare: Bare) -> None:
    ref = provider.start(order())
    running = provider.poll(ref, "")
    assert (running.state, running.log, running.cost_usd) == (RunState.RUNNING, b"", None)
    bare.jobs["b1"].status = CloudJobStatus.COMPLETED
    done = provider.poll(ref, "")
    assert (done.state, done.log, done.cursor) == (RunState.SUCCEEDED, b"one\ntwo\n", "8")
    assert provider.list()[0].cost_usd is None


@pytest.mark.parametrize("told", [float("inf"), float("nan"), -355.0, "3.50"])
def test_a_cost_that_is_none_is_not_known(
    bare: Bare, tmp_path: Path, caplog: pytest.LogCaptureFixture, told: Any
) -> None:
    """It would pass every limit, or be what no answer can hold."""

    class Costly(Bare):
        supports_cost_tracking = True

    costly = Costly()
    made = provider_of(Costly, id="bare", label="Bare", make=lambda _context: costly)
    provider = made(ServiceSettings(), ProviderContext(home=tmp_path, environment={}))
    ref = provider.start(order())
    assert provider.poll(ref, "").cost_usd == 3.0
    costly.jobs["b1"].cost_usd = told
    assert [provider.poll(ref, "").cost_usd, provider.poll(ref, "").cost_usd, provider.list()[0].cost_usd] == [None] * 3
    assert caplog.text.count("taken as not known") == 1


@pytest.mark.parametrize("price", [float("inf"), float("nan"), -1.0])
def test_a_price_that_is_none_is_no_setting(price: float) -> None:
    with pytest.raises(ValueError, match="usd_per_hour is 0 to 1e12"):
        ServiceSettings(usd_per_hour=price)


def test_a_job_that_was_cancelled_before_it_began_took_no_time(provider: Provider, bare: Bare) -> None:
    ref = provider.start(order())
    job = bare.jobs["b1"]
    job.status = "cancelled"
    assert provider.poll(ref, "").metered_s is None, "it does not say"
    job.completed_at = "2026-01-01T00:05:00"
    assert provider.poll(ref, "").metered_s == 0.0
    job.started_at = "2026-01-01T00:01:00"
    assert provider.poll(ref, "").metered_s is None


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("pending", "queued"),
        ("UPLOADING", "queued"),
        ("cancelled", "cancelled"),
        ("training", "unknown"),
        ("", "unknown"),
    ],
)
def test_states(provider: Provider, bare: Bare, status: str, state: str) -> None:
    ref = provider.start(order())
    bare.jobs["b1"].status = status
    assert provider.poll(ref, "").state == state


def test_a_start_is_not_repeated(provider: Provider, bare: Bare) -> None:
    assert provider.find(TAG) is None
    assert provider.start(order()) == provider.start(order()) == provider.find(TAG) == "b1"
    assert [run.tag for run in provider.list()] == [TAG]


def test_a_start_that_fails_somehow_is_uncertain(provider: Provider, bare: Bare) -> None:
    bare.fault = RuntimeError("the connection broke")
    with pytest.raises(errors.ProviderUncertain, match="the connection broke"):
        provider.start(order())
    with pytest.raises(errors.ProviderUncertain):
        provider.find(TAG)


class Keeper(Bare):
    """Takes files, and names of starts not."""

    kept = True

    async def run_job(
        self, config: Mapping[str, Any], dataloader: list[Mapping[str, Any]], images: Path | None = None
    ) -> CloudJobInfo:
        return await super().run_job(config, dataloader)

    async def discard_data(self, job_id: str) -> bool:
        self.kept = False
        return True


def test_data_of_a_start_in_doubt_are_not_said_to_be_gone(tmp_path: Path) -> None:
    keeper = Keeper()
    made = provider_of(Keeper, id="keeper", label="Keeper", make=lambda _context: keeper)
    provider = made(ServiceSettings(timeout_s=2.0), ProviderContext(home=tmp_path, environment={}))
    archive = Archive(path=tmp_path / "set.zip", sha256="0" * 64, bytes=9, files=1, content_bytes=9)
    keeper.fault = RuntimeError("the connection broke")
    with pytest.raises(errors.ProviderUncertain):
        provider.start(dataclasses.replace(order(), archive=archive))
    keeper.fault = None
    with pytest.raises(errors.ProviderUncertain, match="does not keep the names of starts"):
        provider.discard(TAG, "held until the start")
    again = RunTag(job_id=TAG.job_id, attempt=TAG.attempt + 1)
    ref = provider.start(dataclasses.replace(order(), archive=archive, tag=again))
    keeper.jobs[ref] = dataclasses.replace(keeper.jobs[ref], status=CloudJobStatus.COMPLETED)
    with pytest.raises(errors.ProviderUncertain):
        provider.discard(again, "held until the start")
    assert not keeper.kept, "what can be deleted is"


def test_a_start_that_is_not_answered_is_uncertain(provider: Provider, bare: Bare) -> None:
    bare.hangs = True
    with pytest.raises(errors.ProviderUncertain, match="did not answer within 2 s"):
        provider.start(order())


def test_a_start_that_is_refused_never_was(provider: Provider, bare: Bare) -> None:
    bare.fault = CloudJobRefusedError("no such base")
    with pytest.raises(errors.ProviderFailure, match="no such base"):
        provider.start(order())
    assert provider.find(TAG) is None


def test_a_fault_of_the_service_is_no_word_on_a_run(provider: Provider, bare: Bare) -> None:
    ref = provider.start(order())
    bare.fault = KeyError("status")
    with pytest.raises(errors.ProviderUnavailable):
        provider.poll(ref, "")
    bare.fault = None
    bare.jobs.clear()
    assert provider.poll(ref, "").state is RunState.LOST
    provider.cancel(ref)


@pytest.mark.parametrize(
    ("told", "account", "message"),
    [
        ({"valid": True, "user_info": {"email": "a@b.example"}}, "a@b.example", ""),
        ({"user_info": "ann"}, "ann", ""),
        ({"valid": False, "error": "no key"}, "", "no key"),
        ({"error": "expired"}, "", "expired"),
        ({"valid": False}, "", "its credentials are not valid"),
        (None, "", "Bare: validate_credentials gave nothing, and not an object with `valid`"),
        (["ann"], "", "Bare: validate_credentials gave a value of the type list, and not an object with `valid`"),
        (True, "", ""),
    ],
)
def test_credentials(provider: Provider, bare: Bare, told: Any, account: str, message: str) -> None:
    bare.credentials = told
    check = provider.check()
    assert (check.ready, check.account, check.message) == (not message, account, message)


def test_a_class_that_lacks_members_is_told_which() -> None:
    with pytest.raises(TypeError, match="Half has no supports_cost_tracking, supports_live_logs, validate_credentials"):
        provider_of(type("Half", (), {"provider_name": "Half"}), id="half", label="Half")


def test_the_interface_is_the_documented_one() -> None:
    assert CloudTrainerService.__abstractmethods__ == {
        "provider_name", "supports_cost_tracking", "supports_live_logs", "validate_credentials", "list_jobs", "run_job",
        "cancel_job", "get_job_logs", "get_job_status",
    }  # fmt: skip
    assert [status.value for status in CloudJobStatus] == [state.value for state in JobState]
