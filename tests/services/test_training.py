"""A target that runs another trainer than ours: what is refused for everybody, what is only said, and data elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from simpletuner_lab.core import errors
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.steps import run_class
from simpletuner_lab.services.views import PlanView
from simpletuner_lab.terminal import plan_text
from tests.lab_kit import dataloader, dataset
from tests.services.remote_kit import Away, away_lab

FAR = {"id": "far", "type": "huggingface", "dataset_name": "ann/cats", "caption_strategy": "huggingface"}
CACHE = {"id": "text", "dataset_type": "text_embeds", "type": "local", "cache_dir": "cache", "default": True}
STRANGE = {
    "model_family": "sd3",
    "pretrained_model_name_or_path": "stabilityai/stable-diffusion-3.5-large",
    "--max_train_steps": "40",
    "lora_rnak": 4,
    "lycoris_config": "lokr.json",
}


def theirs(entries: list[dict[str, Any]], **more: Any) -> SubmitRequest:
    """A config that our trainer would not take, for the other one."""
    return SubmitRequest(config={**STRANGE, **more}, dataloader=tuple(entries), provider="elsewhere", target="theirs")


def sent(away: Away, asked: SubmitRequest) -> Job:
    return away.lab.submit(asked, approve=away.lab.plan(asked).digest)


def test_what_our_trainer_does_not_take_is_said_once(tmp_path: Path, images: Path) -> None:
    (images / "0.txt").unlink()
    with away_lab(tmp_path) as away:
        asked = theirs([{**dataloader(images)[0], "conditioning_data": "x"}, CACHE])
        plan = away.lab.plan(asked)
        assert (plan.steps, len(plan.identity.manifest.files)) == (40, 5)
        assert plan.identity.dataloader[0]["instance_data_dir"] == "set"
        said = "\n".join(plan.warnings)
        assert said.count("our trainer does not take") == 1
        assert "model_family, lora_rnak, lycoris_config and 1 more: whether Another trainer does is not checked" in said
        assert "1 of 3 images have no caption" in said
        assert "stable-diffusion-3.5-large is gated" in said
        assert "repeats do not reach it" in plan.warnings
        assert plan.name == "set"
        with pytest.raises(errors.InvalidConfig):
            away.lab.plan(dataclasses.replace(asked, target="trainer"))


def test_a_config_that_ours_takes_is_read_as_ours_reads_it(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        known = {"pretrained_model_name_or_path": "some/base", "num_train_epochs": 4, "train_batch_size": 3}
        asked = dataclasses.replace(theirs(dataloader(images)), config=known)
        plan = away.lab.plan(asked)
        assert plan.steps == 4
        assert "our trainer" not in " ".join(plan.warnings)
        ours = away.lab.plan(dataclasses.replace(asked, target="trainer"))
        assert run_class(plan.identity, plan.target) != run_class(ours.identity, ours.target)


@pytest.mark.parametrize(
    "steps", [None, 0, -1, True, "many", "9" * 400, 10**400, 1.5, [3]], ids=lambda value: str(value)[:9]
)
def test_steps_that_nobody_can_count_are_not_known(tmp_path: Path, steps: object) -> None:
    with away_lab(tmp_path) as away:
        plan = away.lab.plan(theirs([FAR], **{"--max_train_steps": steps}))
        assert (plan.steps, plan.estimate.seconds_low) == (0, None)
        assert plan.estimate.basis == "how many steps it makes is not known"
        assert any(text.startswith("how many steps") for text in plan.warnings)
        assert "steps not known" in plan_text(PlanView.of(plan))


def test_data_elsewhere_leave_no_trace_here(tmp_path: Path) -> None:
    """Each step in a process of its own; the answer to the start is lost."""
    asked = theirs([FAR, CACHE])
    with away_lab(tmp_path) as away:
        plan = away.lab.plan(asked)
        assert plan.identity.manifest.datasets == ()
        note = "no file leaves this machine: Another trainer reads the data where they lie (far (huggingface))"
        assert note in plan.warnings
        assert plan.name == "far (huggingface)"
        assert "Start at elsewhere.example\n" in plan_text(PlanView.of(plan))
        assert "  price         $3.60 per hour, as of 2026-01-01\n" in plan_text(PlanView.of(plan))
        with pytest.raises(errors.ConsentRequired):
            away.lab.submit(asked)
        job = sent(away, asked)
        away.place.fail(start="away after")
    states = []
    for _ in range(3):
        with away_lab(tmp_path) as away:
            job = away.on(job)
            states.append(job.state)
    assert states == [JobState.UPLOADING, JobState.QUEUED, JobState.QUEUED]
    with away_lab(tmp_path) as away:
        assert (job.run.ref, job.upload_ref, len(away.place.runs())) == ("run-1", "", 1)
        run = away.place.runs()["run-1"]
        assert (run["packed"], run["upload_ref"], run["dataloader"]) == (False, "", [FAR, CACHE])
        away.place.change("run-1", state="failed")
        job = away.on(job, 2)
        assert (job.state, job.settled_at is not None) == (JobState.FAILED, True)
        assert (away.place.uploads(), list(away.lab.home.spool.iterdir())) == ([], [])
        assert away.lab.store.transfers.of_job(job.id) == ()
        kinds = {event.kind for event in away.lab.store.events.after(0, job_id=job.id)}
        assert kinds & {EventKind.SENT, EventKind.DISCARDED} == set()


def test_local_data_are_packed_for_it_as_ever(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = away.on(sent(away, theirs(dataloader(images))), 3)
        run = away.place.runs()[job.run.ref]
        assert (run["packed"], run["upload_ref"], away.place.uploads()) == (True, "upload-1", [job.id])
        assert len(away.lab.store.transfers.of_job(job.id)) == 1


@pytest.mark.parametrize(
    ("entries", "error", "words"),
    [
        ([FAR, "LOCAL"], errors.InvalidConfig, "cannot be mixed in one run of Another trainer"),
        ([{**FAR, "type": "csv"}], errors.InvalidConfig, "'csv', and Another trainer cannot have data"),
        ([{**FAR, "type": "aws"}], errors.InvalidConfig, "'aws', and Another trainer cannot have data"),
        ([{**FAR, "aws_secret_access_key": "x" * 40}], errors.SecretInConfig, "aws_secret_access_key"),
        ([{**FAR, "token": "env:HF_TOKEN"}], errors.InvalidConfig, "is a reference"),
        ([CACHE, {**FAR, "disabled": True}], errors.InvalidDataset, "there is no data set"),
        ([], errors.InvalidDataset, "there is no data set"),
        (["x"], errors.InvalidConfig, "is not an object"),
        ([{"id": "a", "type": "local", "instance_data_dir": "here"}], errors.InvalidDataset, "relative path"),
        ([CACHE, {"id": "../a", "type": "local", "instance_data_dir": "/x"}], errors.InvalidConfig, r"dataloader\[1\]"),
        ([{"id": "a", "type": "local", "instance_data_dir": "EMPTY"}], errors.InvalidDataset, "no image"),
    ],
)
def test_what_is_refused_for_everybody(
    tmp_path: Path, images: Path, entries: list[Any], error: type[errors.LabError], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    told = [dataloader(images)[0] if entry == "LOCAL" else entry for entry in entries]
    if isinstance(told[0] if told else None, dict) and told[0].get("instance_data_dir") == "EMPTY":
        told = [{**told[0], "instance_data_dir": str(tmp_path / "empty")}]
    with away_lab(tmp_path) as away, pytest.raises(error, match=words):
        away.lab.plan(theirs(told))


def test_ours_has_local_data_alone(tmp_path: Path) -> None:
    with away_lab(tmp_path) as away, pytest.raises(errors.InvalidConfig) as told:
        config = {"pretrained_model_name_or_path": "some/base", "max_train_steps": 4}
        away.lab.plan(dataclasses.replace(theirs([FAR]), config=config, target="trainer"))
    assert [problem.path for problem in told.value.problems] == ["dataloader[0].type"]
    assert told.value.hint == "make it a data set of type local"


def test_secrets_and_keys_for_publishing_are_looked_for_there_too(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        with pytest.raises(errors.SecretInConfig):
            away.lab.plan(theirs(dataloader(images), webhook_token="x" * 20))
        plan = away.lab.plan(theirs(dataloader(dataset(tmp_path / "more")), push_to_hub=False))
        assert "push_to_hub" not in plan.identity.config
