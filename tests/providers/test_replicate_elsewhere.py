"""The published model at Replicate through the whole lab: a config that only it knows, and data on the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from simpletuner_lab.core.destination import S3Destination, Sender
from simpletuner_lab.core.errors import InvalidConfig, ProviderFailure, ProviderUnavailable, ProviderUncertain
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store
from simpletuner_lab.testing.replicate_emulator import Fault, Step, version_id
from tests.lab_kit import dataloader, dataset
from tests.providers.replicate_kit import PUBLISHED, TOKEN, Scene, scene

FAR = {"id": "far", "type": "huggingface", "dataset_name": "ann/set"}
CACHE = {"id": "text", "type": "local", "dataset_type": "text_embeds", "cache_dir": "cache"}
LOCAL = {"id": "set", "type": "local", "instance_data_dir": "set"}
CONFIG = {"model_family": "sd3", "lora_rnak": 4, "max_train_steps": 40}


@pytest.fixture
def replicate(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def given(replicate: Scene) -> dict[str, Any]:
    """The input of the newest prediction."""
    return dict(replicate.emulator.predictions[-1].input)


def asked(entries: list[dict[str, Any]]) -> SubmitRequest:
    to = S3Destination(bucket="mine", sender=Sender.TRAINER, checkpoints=True)
    return SubmitRequest(
        config=CONFIG, dataloader=tuple(entries), provider="replicate", target="simpletuner", destination=to
    )


def test_a_job_for_the_published_model(replicate: Scene, tmp_path: Path) -> None:
    emulator = replicate.emulator
    emulator.play(PUBLISHED, [Step(after_s=1, log="hello\n"), Step(after_s=1, output="done")])
    home = Home(tmp_path / "lab").prepare()
    keys = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "HOME": str(tmp_path)}
    around = Surroundings(environment=keys, clock=emulator.now)
    here = dataloader(dataset(tmp_path / "images"))
    with Lab(home, Store.open(home.database), Registry([replicate.provider()]), around) as lab:
        with pytest.raises(InvalidConfig, match="cannot be mixed"):
            lab.plan(asked([FAR, *here]))
        for entries in ([FAR, CACHE], [*here, CACHE]):
            plan = lab.plan(asked(entries))
            assert any("whether simpletuner/advanced-trainer does is not checked" in text for text in plan.warnings)
            job = lab.submit(asked(entries), approve=plan.digest)
            while not (job := lab.runner.advance(lab.store.jobs.get(job.id))).run.ref:
                emulator.advance(6)
            got = given(replicate)
            assert json.loads(got["config_json"]) == CONFIG
            if entries[0] is FAR:
                assert json.loads(got["dataloader_json"]) == [FAR, CACHE]
                assert "images" not in got
                assert (emulator.files("ann"), job.upload_ref, list(home.spool.iterdir())) == ((), "", [])
                assert not any("archive" in rest for rest in plan.stays)
            else:
                assert got["images"] == job.upload_ref.split()[1]
                assert "dataloader_json" not in got
                assert len(emulator.files("ann")) == 1
                assert any("archive" in rest for rest in plan.stays)
            while (job := lab.runner.advance(lab.store.jobs.get(job.id))).settled_at is None:
                emulator.advance(6)
            assert (job.state, emulator.files("ann")) == (JobState.COMPLETED, ())


def test_data_elsewhere_go_by_the_dataloader_alone(replicate: Scene) -> None:
    provider = replicate.provider()
    order = replicate.order("simpletuner", dataloader=[FAR, CACHE], archive=None)
    replicate.begin(provider, order)
    assert json.loads(given(replicate)["dataloader_json"]) == [FAR, CACHE]
    assert "images" not in given(replicate)
    with pytest.raises(ProviderFailure, match="cannot be mixed"):
        replicate.begin(provider, replicate.order("simpletuner", attempt=2, dataloader=[FAR, LOCAL]))


def test_a_run_without_data_that_has_lost_its_tag_is_not_started_twice(replicate: Scene) -> None:
    """Its start is not answered, and a prediction is there that may be it."""
    provider = replicate.provider()
    order = replicate.order("simpletuner", dataloader=[FAR], archive=None)
    replicate.emulator.fail("predictions.create", Fault(status=502))
    with pytest.raises(ProviderUnavailable):
        provider.start(order)
    body = {"version": version_id(PUBLISHED), "input": {"dataloader_json": "[]"}}
    made = httpx.post(
        f"{replicate.emulator.url}/v1/predictions", json=body, headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert made.status_code == 201
    replicate.emulator.advance(120)
    with pytest.raises(ProviderUncertain, match=made.json()["id"]):
        provider.find(order.tag)
