"""Whole runs: what they leave behind, and that what is delivered is what was trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from simpletuner_trainer import report
from simpletuner_trainer.files import Manifest
from simpletuner_trainer.report import Exit
from tests.trainer.trainer_kit import Job, of_kind, reports, sha256, tree

Jobs = Callable[..., Job]
VALIDATION = {
    "validation_prompt": ["circle 1", "ring 2"],
    "validation_step_interval": 4,
    "validation_num_inference_steps": 3,
    "validation_guidance": 2.5,
    "validation_seed": 5,
}


def test_a_lora_is_trained_and_delivered(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(
        config={**VALIDATION, "lora_rank": 4, "lora_alpha": 8, "lora_target": "all"},
        more={"destination": {"kind": "folder", "path": "delivered"}},
    )
    assert made.run() == Exit.DONE
    said = capsys.readouterr().out

    delivered = made.folder / "delivered"
    assert set(tree(delivered)) == {
        *(f"checkpoints/step-0000000{step}/{name}" for step in (2, 4, 6) for name in
          ("manifest.json", "metrics.jsonl", "pytorch_lora_weights.safetensors", "state.json", "train_state.safetensors")),
        *(f"samples/step-0000000{step}-{index}.png" for step in (0, 4, 6) for index in (0, 1)),
        "README.md", "config.json", "kohya_lora.safetensors", "manifest.json", "metrics.jsonl",
        "pytorch_lora_weights.safetensors",
    }  # fmt: skip
    manifest = Manifest.verified(delivered)
    assert (manifest.kind, manifest.step, manifest.plan_digest) == ("result", 6, "d" * 64)
    for step in (2, 4, 6):
        assert Manifest.verified(delivered / f"checkpoints/step-0000000{step}").step == step

    (result,) = of_kind(said, report.Result)
    assert result.sha256 == sha256(delivered / "manifest.json")
    assert result.files == len(manifest.files) + 1
    assert {image.key: image.sha256 for image in of_kind(said, report.Image)} == {
        entry.path: entry.sha256 for entry in manifest.files if entry.path.startswith("samples/")
    }
    checkpoints = of_kind(said, report.Checkpoint)
    assert {one.step for one in checkpoints if one.delivered} == {2, 4, 6}
    assert [one.step for one in checkpoints if not one.delivered] == [2, 4, 6]
    steps = of_kind(said, report.Steps)
    assert [step for line in steps for step in line.step] == [1, 2, 3, 4, 5, 6]
    assert steps[0].step == (1,)
    assert [loss for line in steps for loss in line.loss] == [line["loss"] for line in made.metrics()]
    assert reports(said)[-1] == report.End(exit=Exit.DONE, step=6)

    card = (delivered / "README.md").read_text("utf-8")
    assert str(made.base) not in card
    assert "samples/step-00000006-1.png" in card


def test_the_loaded_lora_paints_the_picture_that_training_painted(job: Jobs) -> None:
    made = job(config={**VALIDATION, "lora_alpha": 8, "use_ema": True, "ema_decay": 0.5, "mixed_precision": "no"})
    assert made.run() == Exit.DONE
    pipeline = StableDiffusionPipeline.from_pretrained(made.base, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)

    def paint() -> np.ndarray:
        image = pipeline(
            "ring 2", num_inference_steps=3, guidance_scale=2.5, width=32, height=32, generator=torch.manual_seed(5)
        ).images[0]
        return np.asarray(image)

    def trained(step: int) -> np.ndarray:
        return np.asarray(Image.open(made.output / f"samples/step-0000000{step}-1.png"))

    assert np.array_equal(paint(), trained(0))
    pipeline.load_lora_weights(made.output, weight_name="pytorch_lora_weights.safetensors")
    assert np.array_equal(paint(), trained(6))
    assert not np.array_equal(trained(0), trained(6))
    with safe_open(made.output / "pytorch_lora_weights.safetensors", "pt") as opened:
        header = opened.metadata()
    assert json.loads(header["lora_adapter_metadata"])["unet.lora_alpha"] == 8
    assert header["ss_network_alpha"] == "8"
    assert header["modelspec.prediction_type"] == "v"


def test_a_full_fine_tune_is_a_whole_pipeline(job: Jobs) -> None:
    made = job(config={"model_type": "full", "max_train_steps": 2, "learning_rate": 1e-3, "snr_gamma": 5})
    assert made.run() == Exit.DONE
    before = load_file(made.base / "unet" / "diffusion_pytorch_model.safetensors")
    after = StableDiffusionPipeline.from_pretrained(made.output, safety_checker=None).unet.state_dict()
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    assert len(changed) > 0.9 * len(before)


def test_epochs_and_accumulation_say_how_many_steps(job: Jobs) -> None:
    # 10 pictures in two buckets (4 and 6) make 1 + 2 batches of 4 an epoch; with repeats 2 + 3.
    config = {"max_train_steps": 0, "num_train_epochs": 3, "gradient_accumulation_steps": 2}
    made = job(config=config, dataset={"repeats": 1})
    assert made.run() == Exit.DONE
    assert made.metrics()[-1]["step"] == 8  # ceil(3 * 5 / 2)
    assert made.metrics()[-1]["epoch"] == pytest.approx(3.2)


@pytest.mark.parametrize(
    "options",
    [{"mixed_precision": "bf16"}, {"gradient_checkpointing": True}, {"lora_dropout": 0.3, "dynamo_mode": "default"}],
)
def test_options_of_the_step(job: Jobs, options: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    made = job(config={**VALIDATION, **options, "max_train_steps": 2, "lora_target": "all"})
    assert made.run() == Exit.DONE
    assert all(line["loss"] > 0 for line in made.metrics())
    assert ("dynamo_mode is left aside" in capsys.readouterr().out) == ("dynamo_mode" in options)


def test_clipping_really_clips(job: Jobs) -> None:
    """AdamW undoes a constant scale of the gradient, so clipping shows where its second moment does not see it: epsilon."""
    norms = {}
    for name, limit in (("loose", 1e9), ("tight", 1e-9)):
        made = job(name, config={"max_grad_norm": limit, "max_train_steps": 3, "adam_weight_decay": 0})
        assert made.run() == Exit.DONE
        weights = load_file(made.output / "pytorch_lora_weights.safetensors")
        norms[name] = sum(float(tensor.norm()) for key, tensor in weights.items() if "lora_B" in key)
    assert norms["tight"] < 0.2 * norms["loose"]


def test_nothing_is_trained_twice(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(more={"destination": {"kind": "folder", "path": "delivered"}})
    assert made.run() == Exit.DONE
    first = sha256(made.folder / "delivered" / "manifest.json")
    (made.folder / "delivered" / "manifest.json").unlink()
    capsys.readouterr()
    assert made.run() == Exit.DONE
    said = capsys.readouterr().out
    assert not of_kind(said, report.Steps)
    assert sha256(made.folder / "delivered" / "manifest.json") == first


def test_the_builtin_base_learns_a_shipped_style(job: Jobs) -> None:
    """The base and a style set that ship with the package, through the real entry: the loss falls."""
    import simpletuner_trainer

    styles = Path(simpletuner_trainer.__file__).parent / "assets" / "styles"
    made = job(
        config={
            "pretrained_model_name_or_path": "builtin:tiny", "max_train_steps": 16, "train_batch_size": 8,
            "learning_rate": 2e-3,
            "lora_target": "all", "lora_rank": 16, "checkpoint_step_interval": 0, "caption_dropout_probability": 0,
        },
        dataset={"instance_data_dir": str(styles / "neon" / "train")},
    )  # fmt: skip
    assert made.run() == Exit.DONE
    losses = [line["loss"] for line in made.metrics()]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
