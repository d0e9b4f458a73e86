"""`explain`: what it says of options, buckets and steps is what training then does; nothing of it needs torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from simpletuner_trainer.__main__ import main
from simpletuner_trainer.base import PIPELINES, edges_of, look_at
from simpletuner_trainer.config import DatasetConfig, TrainConfig
from simpletuner_trainer.fields import options_of
from simpletuner_trainer.report import Exit, Steps
from tests.trainer.trainer_kit import Job, of_kind, tree

Jobs = Callable[..., Job]
PICTURES = {"repeats": 1}
CONFIG = {
    "num_train_epochs": 2,
    "max_train_steps": 0,
    "gradient_accumulation_steps": 2,
    "validation_prompts": ["circle 1", "ring 2"],
    "validation_steps": 3,
    "validation_num_inference_steps": 1,
}


def explained(job: Job, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main([str(job.write()), "--explain", "--json"]) == Exit.DONE
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def sources(settings: list[Mapping[str, Any]]) -> dict[str, tuple[Any, str]]:
    return {line["name"]: (line["value"], line["source"]) for line in settings}


def test_it_counts_as_training_does(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(config=CONFIG, dataset=PICTURES)
    told = explained(made, capsys)
    assert not made.work.exists()
    assert made.run() == Exit.DONE
    lines = of_kind(capsys.readouterr().out, Steps)
    assert told["steps"]["total"] == lines[-1].total == len(made.metrics())
    assert told["steps"]["epochs"] == made.metrics()[-1]["epoch"]
    assert sum(one["images"] for one in told["datasets"][0]["buckets"]) == told["datasets"][0]["images"] == 10
    assert len(told["datasets"][0]["buckets"]) == 2
    left = set(tree(made.output))
    named = [one["name"] for one in told["written"] if not one["name"].startswith("..")]
    assert {name for name in named if not name.endswith("/")} <= left
    assert {f"{name.split('/')[0]}/" if "/" in name else name for name in left} == set(named)
    (samples,) = (one["what"] for one in told["written"] if one["name"] == "samples/")
    assert samples == f"{sum(name.startswith('samples/') for name in left)} images"


def test_every_option_is_told_with_its_source(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(config={"--lora_dropout": 0, "lora_rank": 8, "validation_steps": 3}, dataset={"--repeats": 0})
    told = explained(made, capsys)
    config, dataset = sources(told["config"]), sources(told["datasets"][0]["settings"])
    assert list(config) == list(options_of(TrainConfig))
    assert list(dataset) == list(options_of(DatasetConfig))
    assert (config["lora_rank"], config["lora_dropout"]) == ((8, "given"), (0.0, "given"))
    assert config["validation_step_interval"] == (3, "given")
    assert config["lora_alpha"] == (8.0, "lora_rank")
    assert config["validation_seed"] == (7, "seed")
    assert config["optimizer"] == ("adamw", "default")
    assert config["resolution"] == (32, "the base's")
    assert config["validation_resolution"] == ([32, 32], "most images")
    assert dataset["repeats"] == (0, "given")
    assert dataset["resolution"] == (32, "the base's")
    assert told["base"]["predicts"] == "v_prediction, zero terminal SNR"


def test_people_read_columns(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(config={"lora_rank": 8})
    assert main(["explain", str(made.write())]) == Exit.DONE
    lines = capsys.readouterr().out.splitlines()
    rows = lines[lines.index("config") + 1 : lines.index("base") - 1]
    assert len(rows) == len(options_of(TrainConfig))
    starts = {len(row) - len(row[2:].lstrip()) for row in rows}
    assert starts == {2}
    column = rows[0].index("given")
    assert all(row[column - 2 : column] == "  " and row[column] != " " for row in rows)
    assert any(line.split() == ["lora_rank", "given", "8"] for line in rows)
    assert "  an epoch  3 batches, 3 steps" in lines


def test_a_base_of_the_hub_is_explained_by_its_family(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    told = explained(job(config={"pretrained_model_name_or_path": "stabilityai/stable-diffusion-2-1"}), capsys)
    assert (told["base"]["folder"], told["base"]["measured"]) == (None, False)
    assert sources(told["config"])["resolution"] == (512, "usual for the family")


def test_images_in_an_archive_are_counted_once_it_is_unpacked(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(more={"data": {"archive": "data.zip", "sha256": "0" * 64, "files": 1, "bytes": 1}})
    told = explained(made, capsys)
    assert told["steps"] is None
    assert told["datasets"][0]["buckets"] == []
    assert main(["explain", str(made.write())]) == Exit.DONE
    assert "known once the images and the base are on this disk" in capsys.readouterr().out


def test_what_is_wrong_is_told_before(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(config={"lora_rnak": 8})
    assert main(["explain", str(made.write())]) == Exit.BAD_SPEC
    assert "config.lora_rnak: is not a known key" in capsys.readouterr().out
    made = job("empty", dataset={"instance_data_dir": "nowhere"})
    assert main(["explain", str(made.write())]) == Exit.BAD_DATA
    assert "data set 'pictures' is absent" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "explain"])
def test_the_family_must_fit_the_base(
    job: Jobs, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = job(config={"model_family": "sdxl"})
    assert main([command, str(made.write())]) == Exit.BAD_SPEC
    said = capsys.readouterr().out
    assert "config.model_family: is sdxl and the base is a StableDiffusionPipeline (set model_family to sd)" in said
    (tmp_path / "empty").mkdir()
    made.config = {"pretrained_model_name_or_path": "../empty"}
    assert main([command, str(made.write())]) == Exit.BAD_SPEC
    assert "is a folder without a pipeline" in capsys.readouterr().out


def test_the_command_is_whole_without_torch(job: Jobs, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')", "utf-8")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    ran = subprocess.run(
        [sys.executable, "-m", "simpletuner_trainer", str(job().write()), "--explain"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (Exit.DONE, "")
    assert "10 images, 20 captions" in ran.stdout


def test_json_goes_with_explain_alone(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(job().write()), "--json"])
    assert ended.value.code == Exit.BAD_SPEC
    assert "--json goes with explain" in capsys.readouterr().err


def test_edges_without_torch_are_those_of_the_family(micro_base: Path, xl_base: Path) -> None:
    import torch

    from simpletuner_trainer.models import FAMILIES, open_family

    assert set(PIPELINES) == set(FAMILIES)
    for name, base in (("sd", micro_base), ("sdxl", xl_base)):
        family = open_family(name, base, device=torch.device("cpu"))
        edges = look_at(TrainConfig(model_family=name, pretrained_model_name_or_path=str(base)), base).edges
        assert edges is not None
        assert (edges.multiple, edges.native) == (family.edge_multiple, family.native_edge)
    assert edges_of({"block_out_channels": [1] * 4, "sample_size": 64}, {"block_out_channels": [1] * 4}).multiple == 64
