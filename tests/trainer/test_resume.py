"""Stopped at any moment and started again, a run ends bit for bit as if it had never been stopped."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from simpletuner_trainer import report
from simpletuner_trainer.files import Manifest
from simpletuner_trainer.report import Exit
from simpletuner_trainer.spec import MANIFEST_NAME
from simpletuner_trainer.validate import Painter
from tests.trainer.test_optim import training_of
from tests.trainer.trainer_kit import Job, of_kind, reports, sha256

Jobs = Callable[..., Job]
EVERYTHING = {
    "max_train_steps": 30,
    "checkpoint_step_interval": 3,
    "gradient_accumulation_steps": 2,
    "lora_dropout": 0.2,
    "caption_dropout_probability": 0.3,
    "use_ema": True,
    "lr_scheduler": "cosine",
    "lr_warmup_steps": 4,
    "validation_prompt": "circle 1",
    "validation_step_interval": 15,
    "validation_num_inference_steps": 2,
}
WEIGHTS = "pytorch_lora_weights.safetensors"


@pytest.mark.timeout(900)  # it starts two processes, on a machine that may be busy
@pytest.mark.parametrize(
    ("more", "weights"),
    [
        ({}, WEIGHTS),
        pytest.param(
            {"model_type": "full", "learning_rate": 1e-3, "mixed_precision": "bf16", "gradient_checkpointing": True},
            "unet/diffusion_pytorch_model.safetensors",
            marks=pytest.mark.slow,
        ),
        *(
            pytest.param({"use_ema": False, **more}, WEIGHTS, marks=pytest.mark.slow)
            for more in (
                {"optimizer": "adafactor"},
                {"optimizer": "prodigy", "learning_rate": 1},
                {"optimizer": "adamw_schedulefree", "lr_scheduler": "constant_with_warmup"},
                {"optimizer": "bnb-adamw8bit", "lora_rank": 512},
                {"use_dora": True, "peft_lora_target_modules": ".*attentions.*", "use_rslora": True},
            )
        ),
    ],
    ids=["lora", "full", "adafactor", "prodigy", "schedulefree", "8bit", "dora"],
)
def test_two_kills_leave_no_trace(
    job: Jobs, more: dict[str, Any], weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**EVERYTHING, **more}
    kill_twice(job("whole", config=config), job("killed", config=config), weights, capsys)


SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CONFIGURATIONS: dict[str, tuple[str | None, dict[str, Any], dict[str, Any]]] = {
    "sd-epsilon": ("micro_base", {"prediction_type": "epsilon", "rescale_betas_zero_snr": False, **SCHEDULE}, {}),
    "sd-v": ("micro_base", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": False, **SCHEDULE}, {}),
    "sd-zero-snr": ("micro_base", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, {}),
    "sdxl": ("xl_base", {}, {"model_family": "sdxl"}),
    "flux": ("flux_base", {}, {"model_family": "flux", "resolution": 32, "snr_gamma": None}),
    "builtin": (None, {}, {"pretrained_model_name_or_path": "builtin:tiny", "resolution": 64}),
}
"""Fixture of the base, changes to its scheduler, config."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_two_kills_leave_no_trace_on_any_base(
    job: Jobs, name: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    fixture, schedule, more = CONFIGURATIONS[name]
    config = {**EVERYTHING, **more}
    if fixture is not None:
        base = tmp_path / "base"
        shutil.copytree(request.getfixturevalue(fixture), base)
        path = base / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **schedule}), "utf-8")
        config["pretrained_model_name_or_path"] = str(base)
    kill_twice(job("whole", config=config), job("killed", config=config), WEIGHTS, capsys)


def kill_twice(whole: Job, killed: Job, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run both, one of them with two kills at random checkpoints; weights, loss curve, images and the rest are equal."""
    assert whole.run() == Exit.DONE

    first, second = sorted(random.sample(range(3, 28, 3), 2))
    for step in (first, second):
        with killed.start() as started:
            started.until(report.Checkpoint, step=step)
            started.kill()
            assert started.process.returncode == -signal.SIGKILL
    capsys.readouterr()
    assert killed.run() == Exit.DONE
    (resumed,) = of_kind(capsys.readouterr().out, report.Resume)
    assert resumed.step >= second, f"killed after {first} and {second}"
    for name in (weights, "metrics.jsonl", "samples/step-00000015-0.png", "samples/step-00000030-0.png", MANIFEST_NAME):
        assert sha256(whole.output / name) == sha256(killed.output / name), f"{name}, killed after {first} and {second}"


def test_sigterm_is_a_checkpoint_and_then_the_same_result(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    config = {**EVERYTHING, "checkpoint_step_interval": 0, "max_train_steps": 14, "validation_step_interval": 9}
    whole, stopped = job("whole", config=config), job("stopped", config=config)
    assert whole.run() == Exit.DONE
    capsys.readouterr()
    assert stopped.run_until(7, lambda: os.kill(os.getpid(), signal.SIGTERM)) == Exit.INTERRUPTED
    end = reports(capsys.readouterr().out)[-1]
    assert isinstance(end, report.End)
    (checkpoint,) = (stopped.work / "checkpoints").iterdir()
    assert Manifest.verified(checkpoint).step == end.step >= 7
    assert stopped.run() == Exit.DONE
    assert sha256(whole.output / WEIGHTS) == sha256(stopped.output / WEIGHTS)
    assert sha256(whole.output / "metrics.jsonl") == sha256(stopped.output / "metrics.jsonl")


@pytest.mark.parametrize(
    "more",
    [
        {"optimizer": "prodigy", "learning_rate": 1, "use_ema": True},
        pytest.param(
            {"optimizer": "adamw_schedulefree", "lr_scheduler": "constant_with_warmup"}, marks=pytest.mark.slow
        ),
    ],
    ids=["prodigy", "schedulefree"],
)
def test_a_stop_with_another_optimizer_leaves_no_trace(job: Jobs, more: dict[str, Any]) -> None:
    config = {
        **EVERYTHING,
        "use_ema": False,
        "max_train_steps": 10,
        "checkpoint_step_interval": 0,
        "validation_prompt": "",
        **more,
    }
    whole, stopped = job("whole", config=config), job("stopped", config=config)
    assert whole.run() == Exit.DONE
    assert stopped.run_until(4, lambda: os.kill(os.getpid(), signal.SIGTERM)) == Exit.INTERRUPTED
    assert stopped.run() == Exit.DONE
    assert sha256(whole.output / WEIGHTS) == sha256(stopped.output / WEIGHTS)
    assert sha256(whole.output / "metrics.jsonl") == sha256(stopped.output / "metrics.jsonl")


def test_the_end_of_the_lifeline_is_the_end_of_the_run(
    job: Jobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = job(config={"max_train_steps": 100_000})
    monkeypatch.setenv("SIMPLETUNER_LIFELINE", "stdin")
    stdin, lifeline = os.pipe()
    before = os.dup(0)
    os.dup2(stdin, 0)
    try:
        assert made.run_until(3, lambda: os.close(lifeline)) == Exit.INTERRUPTED
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(stdin)
    assert of_kind(capsys.readouterr().out, report.Checkpoint)


def test_the_deadline_is_kept(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(config={"max_train_steps": 100_000}, more={"deadline_s": 2.5})
    assert made.run() == Exit.DEADLINE
    end = reports(capsys.readouterr().out)[-1]
    assert isinstance(end, report.End)
    assert end.step > 0
    assert Manifest.verified(made.work / "checkpoints" / f"step-{end.step:08d}").step == end.step


def test_a_damaged_checkpoint_is_passed_over(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job()
    assert made.run() == Exit.DONE
    first = sha256(made.output / WEIGHTS)
    shutil.rmtree(made.output)
    newest = made.work / "checkpoints" / "step-00000006"
    content = bytearray((newest / "train_state.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "train_state.safetensors").write_bytes(content)
    (made.work / "checkpoints" / "step-00000004" / MANIFEST_NAME).unlink()
    capsys.readouterr()
    assert made.run() == Exit.DONE
    said = capsys.readouterr().out
    assert of_kind(said, report.Resume) == [report.Resume(step=2)]
    assert "step-00000006 is passed over: train_state.safetensors is damaged" in said
    assert sha256(made.output / WEIGHTS) == first
    assert Manifest.verified(newest).step == 6


def test_another_config_does_not_go_on_from_this_checkpoint(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job()
    assert made.run() == Exit.DONE
    made.config = {"learning_rate": 5e-3}
    capsys.readouterr()
    assert made.run() == Exit.BAD_SPEC
    (failure,) = of_kind(capsys.readouterr().out, report.Failure)
    assert "another config" in failure.message
    made.config["resume_from_checkpoint"] = "none"
    assert made.run() == Exit.DONE
    assert not of_kind(capsys.readouterr().out, report.Resume)


def test_what_differs_is_refused_unless_told(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    """Each part by itself, on copies of one run that was stopped after two steps."""
    short = {"max_train_steps": 3, "torch_num_threads": 1}
    begun = job("begun", config=short)
    assert begun.run() == Exit.DONE
    shutil.rmtree(begun.output)
    shutil.rmtree(begun.work / "checkpoints" / "step-00000003")
    for part, changes, says in (
        ("config", {"learning_rate": 5e-3}, "another config"),
        ("threads", {"torch_num_threads": 2}, "another number of threads (1, now 2)"),
        ("data", {}, "another data set"),
    ):
        shutil.copytree(begun.folder, begun.folder.with_name(part))
        made = job(part, config={**short, **changes})
        if part == "data":
            (made.folder / "pictures" / "p1.txt").write_text("something else", "utf-8")
        capsys.readouterr()
        before = torch.get_num_threads()
        try:
            assert made.run() == Exit.BAD_SPEC
            (failure,) = of_kind(capsys.readouterr().out, report.Failure)
            assert failure.message.endswith(says)
            assert f'resume_despite ["{part}"] goes on' in failure.hint
            made.config["resume_despite"] = [part]
            assert made.run() == Exit.DONE
        finally:
            torch.set_num_threads(before)
        said = capsys.readouterr().out
        assert of_kind(said, report.Resume) == [report.Resume(step=2)]
        assert f"warning: step-00000002 was made with {says}" in said

    other = job("config", config={**short, "lora_rank": 2, "resume_despite": "config"})
    assert other.run() == Exit.BAD_SPEC
    (failure,) = of_kind(capsys.readouterr().out, report.Failure)
    assert "another config and optimizer or set of weights" in failure.message
    assert "resume_despite" not in failure.hint


def test_threads_are_those_of_the_checkpoint(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    """Another number of threads rounds differently, so where the config leaves it open the checkpoint decides."""
    before = torch.get_num_threads()
    made = job(config={"torch_num_threads": 0})
    try:
        torch.set_num_threads(1)
        assert made.run() == Exit.DONE
        shutil.rmtree(made.output)
        shutil.rmtree(made.work / "checkpoints" / "step-00000006")
        torch.set_num_threads(2)
        assert made.run() == Exit.DONE
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert of_kind(capsys.readouterr().out, report.Resume) == [report.Resume(step=4)]


def test_only_the_newest_checkpoints_are_kept(job: Jobs) -> None:
    made = job(config={"checkpoints_total_limit": 2})
    assert made.run() == Exit.DONE
    kept = sorted(path.name for path in (made.work / "checkpoints").iterdir())
    assert kept == ["step-00000004", "step-00000006"]


def test_what_was_passed_over_goes_before_what_is_written(job: Jobs) -> None:
    training = training_of(job(config={"max_train_steps": 3, "checkpoints_total_limit": 2}))
    for step in (1, 2, 4, 100_000_000):
        (training.work.checkpoints / f"step-{step:08d}").mkdir(parents=True)
    training.run_from(2)
    kept = sorted(path.name for path in training.work.checkpoints.iterdir())
    assert kept == ["step-00000002", "step-00000003"]


def test_a_run_that_begins_anew_keeps_no_picture_of_the_one_before(job: Jobs) -> None:
    made = job(config={"max_train_steps": 2, "checkpoint_step_interval": 0, "validation_prompt": "circle 1",
                       "validation_step_interval": 1, "validation_num_inference_steps": 1})  # fmt: skip
    assert made.run() == Exit.DONE
    samples = made.output / "samples"
    before = {path.name: Image.open(path).tobytes() for path in samples.iterdir()}
    assert len(before) == 3
    shutil.rmtree(made.work / "checkpoints")
    made.config |= {"learning_rate": 1, "validation_step_interval": 0}
    assert made.run() == Exit.DONE
    after = {path.name: Image.open(path).tobytes() for path in samples.iterdir()}
    assert sorted(after) == ["step-00000000-0.png", "step-00000002-0.png"]
    assert [before[name] == pixels for name, pixels in sorted(after.items())] == [True, False]


def test_a_picture_of_another_training_is_painted_anew(job: Jobs) -> None:
    training = training_of(job(config={"validation_prompt": "circle 1", "validation_num_inference_steps": 1}))
    painter = Painter(config=training.config, family=training.family, material=training.material, work=training.work,
                      say=training.say, stop=training.stop, training="one")  # fmt: skip
    path = training.work.samples / "step-00000001-0.png"
    whose = []
    for one in (painter, painter, replace(painter, training="other")):
        one.paint(training.denoiser, 1)
        whose.append((path.stat().st_ino, json.loads(Image.open(path).info["simpletuner"])["training"]))
    assert whose[0] == whose[1] != whose[2]
    assert [name for _, name in whose] == ["one", "one", "other"]


def test_a_loss_that_is_no_number_ends_the_run(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(config={"learning_rate": 10, "max_grad_norm": 0, "max_train_steps": 2000, "checkpoint_step_interval": 1,
                       "lora_target": "all", "lora_alpha": 1e15})  # fmt: skip
    assert made.run() == Exit.CRASHED
    said = capsys.readouterr().out
    (failure,) = of_kind(said, report.Failure)
    assert failure.code == "diverged"
    assert f"at step {failure.step}" in failure.message
    assert f"step-{failure.step - 1:08d} is from before that" in failure.hint
    assert failure.hint.endswith("or a max_grad_norm above 0")
    assert len(made.metrics()) == failure.step - 1


def test_a_disk_that_fills_up_leaves_the_checkpoints_before(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"max_train_steps": 12, "checkpoint_step_interval": 4}
    whole, made = job("whole", config=config), job("filled", config=config)
    assert whole.run() == Exit.DONE
    size = (whole.work / "checkpoints" / "step-00000004" / "train_state.safetensors").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    capsys.readouterr()
    try:
        code = made.run_until(5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1000, limits[1])))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == Exit.CRASHED
    (failure,) = of_kind(capsys.readouterr().out, report.Failure)
    assert (failure.code, failure.step) == ("disk_full", 8)
    assert [path.name for path in (made.work / "checkpoints").iterdir()] == ["step-00000004"]
    assert Manifest.verified(made.work / "checkpoints" / "step-00000004").step == 4
    assert made.run() == Exit.DONE
    assert of_kind(capsys.readouterr().out, report.Resume) == [report.Resume(step=4)]
    assert sha256(whole.output / MANIFEST_NAME) == sha256(made.output / MANIFEST_NAME)


def test_a_full_disk_leaves_the_last_checkpoint(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    """The limit on the size of a file stands for the disk's: the write fails in the same place."""
    made = job(config={"max_train_steps": 3, "checkpoint_step_interval": 0})
    assert made.run() == Exit.DONE
    shutil.rmtree(made.output)
    size = (made.work / "checkpoints" / "step-00000003" / "train_state.safetensors").stat().st_size
    shutil.rmtree(made.work / "checkpoints")
    made.config |= {"max_train_steps": 4, "checkpoint_step_interval": 2}
    capsys.readouterr()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1000, limits[1]))
    try:
        assert made.run() == Exit.CRASHED
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (failure,) = of_kind(capsys.readouterr().out, report.Failure)
    assert (failure.code, failure.step) == ("disk_full", 2)
    assert list((made.work / "checkpoints").iterdir()) == []
    assert made.run() == Exit.DONE


def test_one_trainer_at_a_time(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    made = job()
    made.work.mkdir(parents=True)
    holder = os.open(made.work / "trainer.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert made.run() == Exit.CRASHED
    finally:
        os.close(holder)
    assert of_kind(capsys.readouterr().out, report.Failure)[0].code == "work_dir_in_use"
