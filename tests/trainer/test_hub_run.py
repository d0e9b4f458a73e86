"""The real trainer delivers to an emulated Hub by itself: checkpoints, samples, a card that the Hub accepts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

from simpletuner_lab.testing.hub_emulator import Fault, HubEmulator
from simpletuner_trainer import report
from simpletuner_trainer.errors import Refused
from simpletuner_trainer.files import Manifest
from simpletuner_trainer.hub import HubStore
from simpletuner_trainer.report import Exit
from simpletuner_trainer.spec import HubDestination
from tests.hub_kit import READ_TOKEN, TOKEN, hub_of_ann
from tests.trainer.trainer_kit import Job, of_kind

Jobs = Callable[..., Job]
PROMPTS = ['circle 1: a "quoted" one', "ring 2"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubEmulator]:
    with hub_of_ann() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


def to_hub(**more: object) -> dict:
    return {"destination": {"kind": "hub", "repo_id": "ann/neon", **more}}


def test_a_run_that_pushes_everything(
    job: Jobs, hub: HubEmulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = job(
        config={
            "validation_prompt": PROMPTS, "validation_num_inference_steps": 2, "validation_step_interval": 0,
            "checkpoint_step_interval": 4,
        },
        dataset={"caption_strategy": "instanceprompt", "instance_prompt": "neon, style"},
        more=to_hub(checkpoints=True),
    )  # fmt: skip
    hub.fail("preupload", Fault(status=500))
    assert made.run() == Exit.DONE
    said = capsys.readouterr().out
    assert TOKEN not in said
    titles = [commit.title for commit in hub.repositories["ann/neon"].commits]
    assert titles[0] == "initial commit"
    assert titles[-1] == "The trained model, step 6"
    assert "Checkpoint of step 4" in titles
    assert len(titles) == len(set(titles)), "nothing is committed twice"
    api = HfApi(endpoint=hub.url, token=TOKEN)
    back = Path(api.snapshot_download("ann/neon", local_dir=tmp_path / "back"))
    manifest = Manifest.verified(back)
    assert manifest.plan_digest == "d" * 64
    assert Manifest.verified(back / "checkpoints" / "step-00000004").kind == "checkpoint"
    assert [one.delivered for one in of_kind(said, report.Checkpoint) if one.step == 4] == [False, True]
    card = ModelCard((back / "README.md").read_text("utf-8"))
    assert card.data.to_dict()["widget"] == [
        {"text": prompt, "output": {"url": f"samples/step-00000006-{index}.png"}}
        for index, prompt in enumerate(PROMPTS)
    ]
    head = yaml.safe_load((back / "README.md").read_text("utf-8").split("---")[1])
    assert head["instance_prompt"] == "neon, style"
    assert "license" not in head
    assert str(made.base) not in card.content
    assert "d" * 64 in card.content


def test_a_token_that_can_only_read_ends_it_before_any_work(
    job: Jobs, hub: HubEmulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    made = job(more=to_hub())
    assert made.run() == Exit.BAD_SPEC
    (failure,) = of_kind(capsys.readouterr().out, report.Failure)
    assert (failure.code, "write" in failure.hint) == ("destination_refused", True)
    assert not (made.work / "cache").exists()


def test_checkpoints_that_are_not_wanted_stay(job: Jobs, hub: HubEmulator) -> None:
    made = job(config={"checkpoint_step_interval": 2}, more=to_hub())
    assert made.run() == Exit.DONE
    assert len(hub.repositories["ann/neon"].commits) == 2
    assert not [path for path in hub.repositories["ann/neon"].files if path.startswith("checkpoints/")]
    assert list((made.work / "checkpoints").iterdir())


def test_a_gated_base_is_told_before_anything_is_paid_for(job: Jobs, hub: HubEmulator) -> None:
    """The Hub is named by the environment: as a process of its own, since the library reads it when it is imported."""
    api = HfApi(endpoint=hub.url, token=TOKEN)
    api.create_repo("ann/base")
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="model_index.json", repo_id="ann/base")
    made = job(config={"pretrained_model_name_or_path": "ann/base"}, environment={"HF_TOKEN": "hf_bob"})

    def check() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "simpletuner_trainer", "check", str(made.write())]
        return subprocess.run(
            command, env={**os.environ, **made.environment}, capture_output=True, text=True, check=False
        )

    assert "1 data sets, nothing wrong\n" in check().stdout
    hub.repositories["ann/base"].gated = True
    refused = check()
    assert refused.returncode == Exit.BAD_SPEC
    assert "is gated: its owner asks everybody to accept a licence first" in refused.stdout
    assert "accept it at https://huggingface.co/ann/base" in refused.stdout
    assert not refused.stderr
    made.config["pretrained_model_name_or_path"] = "ann/none"
    assert "shows no 'ann/none' to this account" in check().stdout
    made.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    away = check()
    assert away.returncode == Exit.DONE
    assert "the Hub could not be asked for ann/none" in away.stdout


def test_another_machine_goes_on_from_the_checkpoint_on_the_hub(
    job: Jobs, hub: HubEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    made = job(config={"checkpoint_step_interval": 4}, more=to_hub(checkpoints=True))
    assert made.run() == Exit.DONE
    repository = hub.repositories["ann/neon"]
    at_four = "checkpoints/step-00000004/"
    for path in [path for path in repository.files if not path.startswith(at_four)]:
        del repository.files[path]  # as if the machine had been lost then
    shutil.rmtree(made.work)
    capsys.readouterr()
    assert made.run() == Exit.DONE
    said = capsys.readouterr().out
    (resumed,) = of_kind(said, report.Resume)
    assert resumed.step == 4
    assert [step for steps in of_kind(said, report.Steps) for step in steps.step] == [5, 6]
    assert "pytorch_lora_weights.safetensors" in repository.files


@pytest.mark.parametrize("private", [True, False])
def test_a_repository_that_others_see_otherwise_is_refused(hub: HubEmulator, private: bool) -> None:
    HfApi(endpoint=hub.url, token=TOKEN).create_repo("ann/neon", private=not private)
    store = HubStore(HubDestination(repo_id="ann/neon", private=private), {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN})
    there = "public" if private else "private"
    with pytest.raises(Refused, match=f"there and {there}") as told:
        store.require()
    assert "choose another name" in told.value.hint


def test_no_bars_where_nobody_looks(hub: HubEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["huggingface_hub.utils.tqdm"], "HF_HUB_DISABLE_PROGRESS_BARS", None)
    enable_progress_bars()
    assert not are_progress_bars_disabled()
    HubStore(HubDestination(repo_id="ann/neon", private=True), {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN})
    assert are_progress_bars_disabled()
