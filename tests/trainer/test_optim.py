"""What learns: each optimizer through a checkpoint, clipping, accumulation, averages, loss weights, learning rates."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.optimization import get_polynomial_decay_schedule_with_warmup, get_scheduler
from diffusers.training_utils import compute_snr
from safetensors.torch import load_file

from simpletuner_trainer.checkpoint import Fingerprint
from simpletuner_trainer.conflicts import SETTINGS as KNOWN
from simpletuner_trainer.data import take_stock
from simpletuner_trainer.errors import Diverged, MissingPackage
from simpletuner_trainer.history import History
from simpletuner_trainer.loop import Training, load_learning
from simpletuner_trainer.material import prepare
from simpletuner_trainer.models import Noised, open_family
from simpletuner_trainer.optim import Learner, make_optimizer
from simpletuner_trainer.publish import Publisher
from simpletuner_trainer.reporter import Reporter
from simpletuner_trainer.schedule import learning_rate
from simpletuner_trainer.spec import RunSpec, TrainConfig
from simpletuner_trainer.stop import Stop
from simpletuner_trainer.team import Team
from simpletuner_trainer.weights import write_safetensors
from simpletuner_trainer.workdir import WorkDir
from tests.trainer.trainer_kit import Job

Jobs = Callable[..., Job]
CPU = torch.device("cpu")
OPTIMIZERS = {
    "adamw": {},
    "adafactor": {},
    "prodigy": {"learning_rate": 1.0},
    "adamw_schedulefree": {},
    "bnb-adamw8bit": {},
}
AVERAGED = [("adamw", True), ("prodigy", True), *((name, False) for name in OPTIMIZERS)]


def config_of(**changes: Any) -> TrainConfig:
    return TrainConfig(pretrained_model_name_or_path="x", max_train_steps=100, **{"learning_rate": 1e-2, **changes})


def network() -> torch.nn.Module:
    """One matrix of more than 4096 numbers, where 8 bits begin, and small ones, one of them all zero."""
    torch.manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Linear(96, 64), torch.nn.Tanh(), torch.nn.Linear(64, 3, bias=False))
    torch.nn.init.zeros_(made[2].weight)
    return made


def loss_of(net: torch.nn.Module, step: int) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(step)
    seen = torch.randn(16, 96, generator=drawn)
    return torch.nn.functional.mse_loss(net(seen), seen[:, :3].sin())


def copied(learner: Learner) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in learner.state().items()}


def advance(net: torch.nn.Module, learner: Learner, first: int, last: int) -> list[float]:
    losses = []
    for step in range(first, last):
        loss = loss_of(net, step)
        learner.backward(loss)
        learner.clip()
        learner.update(step, 1e-2 if learner._config.optimizer != "prodigy" else 1.0)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("optimizer", "use_ema"), AVERAGED)
def test_a_checkpoint_goes_on_bit_for_bit(tmp_path: Path, optimizer: str, *, use_ema: bool) -> None:
    """Through the file's format; the first run looks at its average on the way, which must not be seen in its weights."""
    config = config_of(optimizer=optimizer, use_ema=use_ema, lr_warmup_steps=2, **OPTIMIZERS[optimizer])
    whole = network()
    learner = Learner(whole, config)
    losses = advance(whole, learner, 0, 5)
    write_safetensors(tmp_path / "state", learner.state(), {})
    with learner.averaged():
        pass
    losses += advance(whole, learner, 5, 12)

    resumed = network()
    again = Learner(resumed, config)
    again.restore(load_file(tmp_path / "state"))
    assert advance(resumed, again, 5, 12) == losses[5:]
    ends, repeated = copied(learner), copied(again)
    assert ends.keys() == repeated.keys()
    assert all(torch.equal(ends[key], repeated[key]) for key in ends)
    assert any(key.startswith(("tensor/", "number/")) for key in ends)
    with learner.averaged(), again.averaged():
        assert torch.equal(whole[0].weight, resumed[0].weight)
        assert torch.equal(whole[0].weight, ends["weight/0.weight"]) == (
            optimizer != "adamw_schedulefree" and not use_ema
        )
    assert torch.equal(whole[0].weight, repeated["weight/0.weight"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns(optimizer: str) -> None:
    net = network()
    losses = advance(net, Learner(net, config_of(optimizer=optimizer, **OPTIMIZERS[optimizer])), 0, 60)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_eight_bits_are_eight_bits() -> None:
    net = network()
    learner = Learner(net, config_of(optimizer="bnb-adamw8bit"))
    advance(net, learner, 0, 2)
    state = learner.state()
    assert state["tensor/state1/0.weight"].dtype is torch.uint8
    assert state["tensor/state1/2.weight"].dtype is torch.float32


@pytest.mark.parametrize(
    ("optimizer", "package", "extra"),
    [
        ("prodigy", "prodigyopt", "prodigy"),
        ("adamw_schedulefree", "schedulefree", "schedulefree"),
        ("bnb-adamw8bit", "bitsandbytes", "8bit"),
    ],
)
def test_a_missing_library_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, package: str, extra: str
) -> None:
    missing = f'raise ModuleNotFoundError("No module named {package}", name="{package}")'
    (tmp_path / f"{package}.py").write_text(missing, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingPackage, match=f"needs the package {package}") as raised:
        Learner(network(), config_of(optimizer=optimizer))
    assert raised.value.hint == f"pip install 'simpletuner-trainer[{extra}]'"


def test_gradients_are_clipped_to_the_norm() -> None:
    for limit, expected in ((0.5, 0.5), (1e9, None), (0, None)):
        net = network()
        learner = Learner(net, config_of(max_grad_norm=limit))
        learner.backward(1000 * loss_of(net, 0))
        before = torch.cat([weights.grad.flatten() for weights in net.parameters() if weights.grad is not None]).norm()
        assert learner.clip() == pytest.approx(float(before), rel=1e-5)
        after = torch.cat([weights.grad.flatten() for weights in net.parameters() if weights.grad is not None]).norm()
        assert float(before) > 1
        assert float(after) == pytest.approx(expected or float(before), rel=1e-4)


def test_gradients_are_clipped_by_value() -> None:
    net = network()
    learner = Learner(net, config_of(max_grad_norm=0.01, grad_clip_method="value"))
    learner.backward(1000 * loss_of(net, 0))
    before = torch.cat([gradient.flatten() for gradient in learner.gradients])
    assert learner.clip() == pytest.approx(float(before.norm()), rel=1e-5)
    after = torch.cat([gradient.flatten() for gradient in learner.gradients])
    assert torch.equal(after, before.clamp(-0.01, 0.01))
    assert not torch.equal(after, before)


SETTINGS = {"amsgrad": "true", "clip_threshold": "0.5", "decay_rate": "-0.7", "d0": "1e-05", "d_coef": "0.5",
            "growth_rate": "1.02", "safeguard_warmup": "true", "use_bias_correction": "false", "r": "1",
            "weight_lr_power": "1", "min_8bit_size": "8192"}  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_setting_reaches_the_optimizer(optimizer: str) -> None:
    """And a state with them goes on bit for bit."""
    for name in KNOWN[optimizer]:
        config = config_of(optimizer=optimizer, optimizer_config=(f"{name}={SETTINGS[name]}",), **OPTIMIZERS[optimizer])
        plain = Learner(network(), config_of(optimizer=optimizer, **OPTIMIZERS[optimizer]))
        made = make_optimizer(list(network().parameters()), config)
        if name == "min_8bit_size":
            assert made.args.min_8bit_size == 8192
        else:
            assert made.param_groups[0][name] == json.loads(SETTINGS[name])
            assert plain._optimizer.param_groups[0][name] != made.param_groups[0][name], name
        net, other = network(), network()
        learner, again = Learner(net, config), Learner(other, config)
        advance(net, learner, 0, 3)
        again.restore(copied(learner))
        assert advance(net, learner, 3, 5) == advance(other, again, 3, 5)


def test_the_average_is_an_exponential_one_with_warm_up() -> None:
    net = network()
    learner = Learner(net, config_of(use_ema=True, ema_decay=0.3))
    expected = net[0].weight.detach().double().clone()
    for step in range(8):
        advance(net, learner, step, step + 1)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * net[0].weight.detach().double()
    trained = net[0].weight.detach().clone()
    with learner.averaged():
        assert torch.allclose(net[0].weight.double(), expected, atol=1e-6)
        assert not torch.allclose(net[0].weight, trained, atol=1e-4)
    assert torch.equal(net[0].weight, trained)


# ------------------------------------------------------------------------------------------------------------ one step


def training_of(job: Job) -> Training:
    """Everything up to the first step, on the real data and base."""
    run = RunSpec.load(job.write())
    config, work = run.train.config, WorkDir(root=run.work_dir)
    work.root.mkdir(parents=True)
    say, stop = Reporter(run.nonce, io.StringIO()), Stop(started_s=0.0, deadline_s=None)
    stock = take_stock(run)
    family = open_family("sd", job.base, device=CPU)
    material = prepare(run.train, stock, family, work, numerics="cpu/1", say=say, stop=stop, team=Team())
    denoiser = load_learning(config, family, CPU)
    return Training(
        run=run, work=work, publisher=Publisher(None, say, stop), say=say, stop=stop, device=CPU, family=family,
        material=material, denoiser=denoiser, learner=Learner(denoiser, config), images=len(stock.pictures),
        fingerprint=Fingerprint(config="", data="", base="", learner="", threads=1, world_size=1), team=Team(), history=History(work.metrics, resumed_from=None),
    )  # fmt: skip


def test_accumulation_is_the_large_batch(job: Jobs) -> None:
    """10 squares in micro-batches of 4, 4 and 2 are one batch of 10, in loss, gradient and weights."""
    config = {"gradient_accumulation_steps": 3, "optimizer": "adafactor", "snr_gamma": 5, "learning_rate": 1e-2}
    training = training_of(job(config=config, dataset={"crop": True}))
    parts = [training.noised(micro) for micro in range(3)]
    assert [len(part.latents) for part in sorted(parts, key=lambda part: len(part.latents))] == [2, 4, 4]
    together = Noised(**{
        field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(Noised)
    })  # fmt: skip
    begun = copied(training.learner)
    loss = training.family.losses(training.denoiser, together, training.config).mean()
    training.learner.backward(loss)
    norm = training.learner.clip()
    training.learner.update(0, 1e-2)
    expected = copied(training.learner)

    training.learner.restore(begun)
    point = training.train_step(0)
    assert (point.images, point.step) == (10, 1)
    assert point.loss == pytest.approx(loss.item(), rel=1e-5)
    assert point.grad_norm == pytest.approx(norm, rel=1e-4)
    found = copied(training.learner)
    weights = [key for key in begun if key.startswith("weight/")]
    assert any(not torch.equal(found[key], begun[key]) for key in weights)
    for key in weights:
        assert torch.allclose(found[key], expected[key], rtol=1e-3, atol=1e-5), key


def test_gradient_checkpointing_changes_memory_alone(job: Jobs) -> None:
    plain = training_of(job("plain", config={"lora_target": "all"}))
    saving = training_of(job("saving", config={"lora_target": "all", "gradient_checkpointing": True}))
    assert saving.denoiser.is_gradient_checkpointing
    assert not plain.denoiser.is_gradient_checkpointing
    for step in range(2):
        expected, found = plain.train_step(step), saving.train_step(step)
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)


def test_an_update_that_overflows_is_not_saved(job: Jobs) -> None:
    """After a gradient that was finite. What is kept is a checkpoint from which the run can go on."""
    training = training_of(job(config={"checkpoint_step_interval": 0}))
    training.train_step(0)
    training.save(1)
    training.train_step(1)
    with torch.no_grad():
        next(weights for weights in training.denoiser.parameters() if weights.requires_grad)[0, 0] = float("inf")
    with pytest.raises(Diverged, match="update is not a finite number at step 2") as raised:
        training.save(2)
    assert "step-00000001 is from before that" in raised.value.hint
    assert [path.name for path in training.work.checkpoints.iterdir()] == ["step-00000001"]


class Zero(torch.nn.Module):
    """A denoiser that says nothing."""

    def forward(self, noisy: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor]:
        return (torch.zeros_like(noisy),)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_is_the_papers_weight_at_every_timestep(micro_base: Path, tmp_path: Path, prediction: str) -> None:
    shutil.copytree(micro_base, tmp_path / "b")
    path = tmp_path / "b" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "prediction_type": prediction}), "utf-8")
    times = torch.arange(0, 990, 9)
    drawn = torch.Generator().manual_seed(0)
    shape = (len(times), 4, 8, 8)
    batch = Noised(
        latents=torch.randn(shape, generator=drawn), noise=torch.randn(shape, generator=drawn), timesteps=times,
        prompts=torch.zeros(len(times), 12, 8), places=torch.zeros(len(times), 6, dtype=torch.int64),
    )  # fmt: skip
    family = open_family("sd", tmp_path / "b", device=CPU)
    weights = family.losses(Zero(), batch, config_of(snr_gamma=5.0)) / family.losses(Zero(), batch, config_of())
    snr = compute_snr(DDPMScheduler.from_pretrained(tmp_path / "b", subfolder="scheduler"), times)
    over = snr + 1 if prediction == "v_prediction" else snr
    expected = torch.minimum(snr, torch.full_like(snr, 5.0)) / over
    assert float(snr.min()) < 0.1
    assert float(snr.max()) > 100
    assert torch.allclose(weights, expected, rtol=1e-3)


@pytest.mark.parametrize(("scheduler", "cycles"), [("linear", 1), ("cosine", 1), ("cosine_with_restarts", 3)])
def test_decays_are_those_of_diffusers(scheduler: str, cycles: int) -> None:
    total, warmup = 50, 8
    config = config_of(lr_scheduler=scheduler, lr_num_cycles=cycles, lr_warmup_steps=warmup, learning_rate=1.0)
    peer = get_scheduler(
        scheduler, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), num_warmup_steps=warmup,
        num_training_steps=total, num_cycles=cycles,
    )  # fmt: skip
    for step in range(warmup, total):
        assert learning_rate(config, step, total) == pytest.approx(peer.lr_lambdas[0](step), abs=1e-9), step
    rates = [learning_rate(config, step, total) for step in range(warmup)]
    assert rates == pytest.approx([(step + 1) / warmup for step in range(warmup)])


def test_a_polynomial_decay_is_that_of_diffusers() -> None:
    total, warmup, end, power = 50, 8, 0.2, 2.5
    config = config_of(lr_scheduler="polynomial", lr_end=end, lr_power=power, lr_warmup_steps=warmup, learning_rate=1.0)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = get_polynomial_decay_schedule_with_warmup(optimizer, warmup, total, lr_end=end, power=power)
    for step in range(warmup, total):
        assert learning_rate(config, step, total) == pytest.approx(peer.lr_lambdas[0](step), abs=1e-9), step


@pytest.mark.parametrize("scheduler", ["linear", "cosine", "cosine_with_restarts", "polynomial"])
def test_what_falls_ends_at_lr_end(scheduler: str) -> None:
    config = config_of(lr_scheduler=scheduler, lr_end=0.25, learning_rate=1.0)
    rates = [learning_rate(config, step, 1000) for step in range(1000)]
    assert rates[0] == 1
    assert rates[-1] == pytest.approx(0.25, abs=1e-3)
    assert min(rates) >= 0.25
