"""The memory that a run is said to need, beside what it takes, and what is said when there is none left."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simpletuner_trainer import loop
from simpletuner_trainer.__main__ import main
from simpletuner_trainer.errors import OutOfMemory
from simpletuner_trainer.memory import Need, available, foreseen, relief, room, standing
from simpletuner_trainer.models import find_base
from simpletuner_trainer.report import Exit
from simpletuner_trainer.schedule import Batches
from simpletuner_trainer.spec import RunSpec
from tests.trainer.test_optim import OPTIMIZERS, config_of, network, training_of
from tests.trainer.trainer_kit import Job

Jobs = Callable[..., Job]
CPU = torch.device("cpu")
CUDA = torch.device("cuda")
SMALLER = "lower train_batch_size to 2 with gradient_accumulation_steps 2"


def resident(name: str) -> int:
    """`VmRSS` or `VmHWM` of this process, in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert found
    return int(found[1]) << 10


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_the_estimate_is_within_a_factor_of_two_of_the_peak(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    """On the base that ships, beyond the weights: 25 images of 64 px."""
    made = job(config={"train_batch_size": 25, "resolution": 64, "lora_target": "all"},
               dataset={"repeats": 9, "crop": True, "resolution": 64})  # fmt: skip
    made.base = find_base("builtin:tiny", made.folder)
    training = training_of(made)
    need = training.weigh()
    assert need.activations
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # forgets the peak
    before = resident("VmRSS")
    assert training.train_step(0).images == 25
    taken = resident("VmHWM") - before
    assert 0.5 < taken / (need.total - need.weights) < 2, (taken, need)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_an_optimizer_keeps_is_what_it_is_said_to(optimizer: str) -> None:
    from simpletuner_trainer.optim import Learner

    config = config_of(optimizer=optimizer, use_ema=optimizer != "adamw_schedulefree", **OPTIMIZERS[optimizer])
    net = network()
    need, learner = standing(net.parameters(), config), Learner(net, config)
    learner.backward(net(torch.ones(1, 96)).sum())
    learner.clip()
    gradients = sum(gradient.nbytes for gradient in learner.gradients)
    learner.update(0, 1e-3)
    state = learner.state()
    kept = sum(
        value.nbytes
        for key, value in state.items()
        if key.startswith("tensor/") and "qmap" not in key and value.numel() > 1
    )
    assert (need.weights, need.gradients) == (sum(value.nbytes for value in net.parameters()), gradients)
    assert need.average == sum(value.nbytes for key, value in state.items() if key.startswith("average/"))
    assert need.optimizer == pytest.approx(kept, rel=0.1)


def test_check_says_what_the_run_will(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    """Without loading weights, for what is known without them."""
    for name, config in (("lora", {"use_ema": True}), ("full", {"model_type": "full"})):
        made = job(name, config={"max_train_steps": 1, "checkpoint_step_interval": 0, **config})
        spec = made.write()
        assert main(["check", str(spec)]) == Exit.DONE
        said = capsys.readouterr().out
        assert "memory, estimated: " in said
        foretold = foreseen(RunSpec.load(spec))
        assert isinstance(foretold, Need)
        training = training_of(made)
        assert foretold == standing(training.denoiser.parameters(), training.config)
    made.config["pretrained_model_name_or_path"] = "somebody/else"
    assert main(["check", str(made.write())]) == Exit.DONE
    assert "memory: estimated once the base is here" in capsys.readouterr().out
    made.config |= {"pretrained_model_name_or_path": str(made.base), "model_family": "sdxl"}
    assert main(["check", str(made.write())]) == Exit.BAD_SPEC
    assert "set model_family to sd" in capsys.readouterr().out


def test_the_estimate_is_of_the_largest_batch_whatever_the_seed(job: Jobs) -> None:
    training = training_of(job(config={"train_batch_size": 4}))
    batches = training.material.batches
    assert isinstance(batches, Batches)
    each = [training.noised(micro).latents.numel() for micro in range(batches.per_epoch)]
    assert len(set(each)) > 1
    assert training.noised(0, training.material.largest).latents.numel() == max(each)
    needs = set()
    for seed in range(8):
        other = Batches(buckets=batches.buckets, batch_size=4, seed=seed)
        training.material = dataclasses.replace(training.material, batches=other)
        needs.add(training.weigh().activations)
    assert len(needs) == 1


def test_a_run_that_needs_more_than_there_is_is_warned(
    job: Jobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert available(CPU)
    training = training_of(job())
    training.weigh()
    said = training.say._out.getvalue()
    assert re.search(r"memory, estimated: .* \(weights .*, activations .*\)\n$", said)
    monkeypatch.setattr(loop, "available", lambda _device: 1000)
    training.weigh()
    assert training.say._out.getvalue().splitlines()[-1].startswith("warning: 0.0 MB are free: first set gradient")


@pytest.mark.parametrize(
    ("config", "device", "says"),
    [
        ({}, CPU, f"first set gradient_checkpointing, then {SMALLER}, then lower resolution"),
        ({"gradient_checkpointing": True, "train_batch_size": 1}, CUDA, "first set mixed_precision to bf16, then lower resolution"),
        ({"gradient_checkpointing": True, "train_batch_size": 1}, CPU, "lower resolution"),
        ({"gradient_checkpointing": True, "train_batch_size": 1, "model_type": "full", "use_ema": True}, CPU,
         "first set optimizer to adafactor, then set model_type to lora, then leave use_ema out, then lower resolution"),
    ],
)  # fmt: skip
def test_a_full_memory_says_what_to_change_first(config: dict[str, Any], device: torch.device, says: str) -> None:
    assert relief(config_of(**config), device) == says


def test_the_allocators_own_error_becomes_a_sentence() -> None:
    with pytest.raises(OutOfMemory, match="memory is full") as raised, room(config_of(), CPU, 3):
        torch.empty(1 << 60, dtype=torch.uint8)
    assert (raised.value.step, raised.value.hint.startswith("first set")) == (3, True)
    with pytest.raises(RuntimeError, match="inconsistent tensor size"), room(config_of(), CPU, 3):
        torch.ones(2) @ torch.ones(3)
