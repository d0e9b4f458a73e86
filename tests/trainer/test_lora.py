"""LoRAs: what they adapt, how they scale, what they begin from, and that diffusers paints with them what training did."""

from __future__ import annotations

import functools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft.tuners.lora import LoraLayer
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from simpletuner_trainer import lora, report
from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.models import open_family
from simpletuner_trainer.report import Exit
from simpletuner_trainer.spec import TrainConfig
from simpletuner_trainer.weights import write_safetensors
from tests.trainer.trainer_kit import Job, of_kind, sha256

Jobs = Callable[..., Job]
FILE = "pytorch_lora_weights.safetensors"
VALIDATION = {
    "validation_prompt": "ring 2",
    "validation_step_interval": 0,
    "validation_num_inference_steps": 3,
    "validation_guidance": 2.5,
    "validation_seed": 5,
    "max_train_steps": 3,
    "learning_rate": 5e-2,
}


def adapted(base: Path, **config: Any) -> torch.nn.Module:
    family = open_family("sd", base, device=torch.device("cpu"))
    made = TrainConfig(pretrained_model_name_or_path="x", **config)
    denoiser = family.load_denoiser(torch.float32)
    lora.attach(denoiser, made, family.lora_targets(made.lora_target))
    return denoiser


def layers(denoiser: torch.nn.Module) -> dict[str, LoraLayer]:
    return {name: module for name, module in denoiser.named_modules() if isinstance(module, LoraLayer)}


def sample(job: Job, step: int) -> np.ndarray:
    return np.asarray(Image.open(job.output / f"samples/step-0000000{step}-0.png"))


def painted(job: Job) -> np.ndarray:
    """What diffusers paints with the delivered file."""
    pipeline = StableDiffusionPipeline.from_pretrained(job.base, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(job.output, weight_name=FILE)
    image = pipeline(
        "ring 2", num_inference_steps=3, guidance_scale=2.5, width=32, height=32, generator=torch.manual_seed(5)
    ).images[0]
    return np.asarray(image)


# ------------------------------------------------------------------------------------------------------------- targets


def test_a_list_adapts_the_ends_of_names(micro_base: Path) -> None:
    names = set(layers(adapted(micro_base, peft_lora_target_modules=("attn2.to_k", "conv_in"))))
    assert "conv_in" in names
    assert all(name.endswith(("attn2.to_k", "conv_in")) for name in names)
    assert len(names) > 2


def test_a_regular_expression_adapts_the_linears_and_convolutions_that_it_names_whole(micro_base: Path) -> None:
    plain = open_family("sd", micro_base, device=torch.device("cpu")).load_denoiser(torch.float32)
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    wanted = {name for name, module in plain.named_modules() if "mid_block" in name and isinstance(module, kinds)}
    assert len(wanted) > 5
    assert set(layers(adapted(micro_base, peft_lora_target_modules="mid_block.*"))) == wanted


@pytest.mark.parametrize(
    ("chosen", "message", "hint"),
    [
        (("to_k", "attn2.to_kk"), "'attn2.to_kk' ends the name of no linear", "did you mean 'attn2.to_k'?"),
        (("mid_block",), "'mid_block' ends the name of no linear", ""),
        ("to_k", "'to_k' names no linear", "it must match whole names, such as conv_in"),
        ("all-linear", "'all-linear' names no linear", "whole names"),
    ],
)
def test_targets_that_fit_nothing(micro_base: Path, chosen: Any, message: str, hint: str) -> None:
    with pytest.raises(BadSpec, match=message) as raised:
        adapted(micro_base, peft_lora_target_modules=chosen)
    assert hint in raised.value.hint


# --------------------------------------------------------------------------------------------------------------- kinds


@pytest.mark.parametrize(("use_rslora", "scale"), [(False, 8 / 4), (True, 8 / math.sqrt(4))])
def test_the_scale_of_the_update(micro_base: Path, scale: float, *, use_rslora: bool) -> None:
    for layer in layers(adapted(micro_base, lora_rank=4, lora_alpha=8.0, use_rslora=use_rslora)).values():
        assert layer.scaling["default"] == scale


def test_doras_magnitude_is_the_norm_of_the_base(micro_base: Path) -> None:
    for name, layer in layers(adapted(micro_base, use_dora=True)).items():
        expected = layer.get_base_layer().weight.detach().norm(dim=1)
        assert torch.allclose(layer.lora_magnitude_vector["default"].weight, expected), name


KINDS = {
    "lora": {"lora_alpha": 8},
    "rslora": {"use_rslora": True, "lora_alpha": 8, "peft_lora_target_modules": "(down|mid)_.*", "lora_dropout": 0.3},
    "dora": {"use_dora": True, "lora_target": "all"},
    "schedulefree": {"optimizer": "adamw_schedulefree"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, micro_base: Path) -> Callable[[str], Job]:
    """A finished run of a kind, one for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("trained")

    @functools.cache
    def run(kind: str) -> Job:
        made = Job(folder=folder / kind, base=micro_base, config={**VALIDATION, **KINDS[kind]})
        assert made.run() == Exit.DONE
        return made

    return run


@pytest.mark.parametrize("kind", ["rslora", "dora", "schedulefree"])
def test_diffusers_paints_what_training_painted(trained: Callable[[str], Job], kind: str) -> None:
    made = trained(kind)
    assert np.array_equal(painted(made), sample(made, 3))
    assert not np.array_equal(sample(made, 0), sample(made, 3))


# --------------------------------------------------------------------------------------------------------- begun from


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_training_begins_from_a_lora(job: Jobs, trained: Callable[[str], Job], kind: str) -> None:
    first, second = trained(kind), job("second")
    shutil.copytree(first.output, second.folder.parent / "first")
    second.config = {**VALIDATION, **KINDS[kind], "init_lora": f"../first/{FILE}", "seed": 8}
    assert second.run() == Exit.DONE
    assert np.array_equal(sample(second, 0), sample(first, 3))
    assert not np.array_equal(sample(second, 3), sample(second, 0))
    card = (second.output / "README.md").read_text("utf-8")
    assert "../first" not in card
    assert f"| begun from | `{FILE}` |" in card


def test_a_resumed_run_does_not_read_the_lora_again(
    job: Jobs, tmp_path: Path, lora_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = Path(shutil.copy(lora_file, tmp_path / "begun.safetensors"))
    second = job("second", config={"lora_alpha": 8, "max_train_steps": 4, "init_lora": str(begun)})
    assert second.run() == Exit.DONE
    expected = load_file(second.output / FILE)
    (second.output / "manifest.json").unlink()
    (second.work / "checkpoints" / "step-00000004" / "manifest.json").unlink()
    begun.unlink()
    capsys.readouterr()
    assert second.run() == Exit.DONE
    assert of_kind(capsys.readouterr().out, report.Resume) == [report.Resume(step=2)]
    again = load_file(second.output / FILE)
    assert all(torch.equal(again[key], tensor) for key, tensor in expected.items())


def test_a_result_of_other_files_is_not_delivered_again(
    job: Jobs, tmp_path: Path, micro_base: Path, lora_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A caption, the base, and the LoRA to begin from: each is changed by itself and put back."""
    begun = Path(shutil.copy(lora_file, tmp_path / "begun.safetensors"))
    made = job("second", config={"lora_alpha": 8, "max_train_steps": 1, "init_lora": str(begun)})
    made.base = Path(shutil.copytree(micro_base, tmp_path / "own"))
    assert made.run() == Exit.DONE
    first = sha256(made.output / "manifest.json")
    for path, names, says in (
        (made.folder / "pictures" / "p1.txt", "data", "with another data set"),
        (made.base / "scheduler" / "scheduler_config.json", "base", "with another base"),
        (begun, "init_lora", "from another init_lora"),
    ):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"ring", b"disc") + b" ")
        capsys.readouterr()
        assert made.run() == Exit.BAD_SPEC
        said = capsys.readouterr().out
        assert f"was trained from another {names}\n" in said
        (failure,) = of_kind(said, report.Failure)
        assert failure.message.endswith(says)
        assert "empty work_dir" in failure.hint
        path.write_bytes(content)
        assert made.run() == Exit.DONE
        assert not of_kind(capsys.readouterr().out, report.Steps)
        assert sha256(made.output / "manifest.json") == first


@pytest.fixture(scope="module")
def lora_file(trained: Callable[[str], Job]) -> Path:
    """A LoRA of rank 4, alpha 8."""
    return trained("lora").output / FILE


CORRUPT = {
    "absent": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "no safetensors": lambda path: path.write_bytes(b"PK\x03\x04" * 100),
}


@pytest.mark.parametrize("damage", CORRUPT)
def test_a_file_that_cannot_be_read(micro_base: Path, tmp_path: Path, lora_file: Path, damage: str) -> None:
    path = tmp_path / "begin.safetensors"
    path.write_bytes(lora_file.read_bytes())
    CORRUPT[damage](path)
    denoiser = adapted(micro_base, lora_rank=4, lora_alpha=8.0)
    config = TrainConfig(pretrained_model_name_or_path="x", lora_rank=4, lora_alpha=8.0)
    with pytest.raises(BadSpec, match=r"begin\.safetensors cannot be read"):
        lora.begin_from(denoiser, path, config)


def altered(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], source: Path, path: Path) -> Path:
    with safe_open(source, "pt") as opened:
        header = opened.metadata()
    write_safetensors(path, change(load_file(source)), header)
    return path


def kohya(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"lora_unet_{key.replace('.', '_')}": tensor for key, tensor in weights.items()}


def with_nan(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensor * float("nan") for key, tensor in weights.items()}


@pytest.mark.parametrize(
    ("change", "config", "says"),
    [
        (dict, {"lora_rank": 8}, r"to_k\.lora_A\.weight is 4 x 8 in begin and 8 x 8 here|is 4 x \d+ in .* and 8 x"),
        (dict, {"lora_alpha": 4.0}, "made with alpha 8, lora_alpha is 4"),
        (dict, {"lora_target": "all"}, "does not adapt"),
        (dict, {"peft_lora_target_modules": ("to_k",)}, "adapts"),
        (dict, {"use_dora": True}, "does not adapt .*magnitude"),
        (dict, {"use_rslora": True}, "was made without rsLoRA"),
        (kohya, {}, "holds 'lora_unet_"),
        (with_nan, {}, "not finite"),
        (lambda _: {}, {}, "holds no weights"),
    ],
)
def test_a_file_that_does_not_fit(
    micro_base: Path, tmp_path: Path, lora_file: Path, change: Any, config: dict[str, Any], says: str
) -> None:
    path = altered(change, lora_file, tmp_path / "begin.safetensors")
    whole = {"lora_rank": 4, "lora_alpha": 8.0, **config}
    denoiser = adapted(micro_base, **whole)
    before = {key: tensor.clone() for key, tensor in lora.state_of(denoiser).items()}
    with pytest.raises(BadSpec, match=says) as raised:
        lora.begin_from(denoiser, path, TrainConfig(pretrained_model_name_or_path="x", **whole))
    assert raised.value.message.startswith("init_lora: ")
    assert "\n" not in raised.value.message
    assert all(torch.equal(tensor, before[key]) for key, tensor in lora.state_of(denoiser).items())


def test_metadata_that_is_no_json(micro_base: Path, tmp_path: Path, lora_file: Path) -> None:
    config = {"lora_rank": 4, "lora_alpha": 8.0}
    path = tmp_path / "begin.safetensors"
    for header, says in ((json.dumps([1]), "cannot be read"), ("{", "cannot be read"), ("{}", "made with alpha 4")):
        write_safetensors(path, load_file(lora_file), {"lora_adapter_metadata": header})
        with pytest.raises(BadSpec, match=says):
            lora.begin_from(
                adapted(micro_base, **config), path, TrainConfig(pretrained_model_name_or_path="x", **config)
            )


def test_a_bad_file_ends_the_run_before_its_first_step(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(config={"init_lora": "begin.safetensors"})
    made.folder.mkdir()
    (made.folder / "begin.safetensors").write_bytes(b"not a LoRA")
    assert made.run() == Exit.BAD_SPEC
    (failure,) = of_kind(capsys.readouterr().out, report.Failure)
    assert "begin.safetensors cannot be read" in failure.message
