"""The command itself: what it says of a wrong spec, of missing packages, and through its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from simpletuner_trainer import report
from simpletuner_trainer.__main__ import main
from simpletuner_trainer.errors import missing_package
from simpletuner_trainer.report import Exit
from tests.trainer.trainer_kit import Job, of_kind, reports

Jobs = Callable[..., Job]


def test_a_wrong_spec_is_told_whole(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(config={"lora_rnak": 4, "seed": "x"})
    assert made.run() == Exit.BAD_SPEC
    said = capsys.readouterr().out
    assert "config.lora_rnak: is not a known key (did you mean 'lora_rank'?)" in said
    assert "config.seed: is 'x', not a number" in said
    (failure,) = of_kind(said, report.Failure)
    assert (failure.code, failure.message) == ("bad_spec", "config.seed: is 'x', not a number (and 1 more)")
    assert reports(said)[-1] == report.End(exit=Exit.BAD_SPEC, step=0)
    assert not made.work.exists()


def test_check_trains_nothing(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job()
    assert main(["check", str(made.write())]) == Exit.DONE
    assert "1 data sets, nothing wrong" in capsys.readouterr().out
    assert not made.work.exists()
    assert main([str(made.folder / "absent.json")]) == Exit.BAD_SPEC
    assert "cannot be read" in capsys.readouterr().out


def test_check_tells_base_lora_and_data_together(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(config={"model_family": "sdxl", "init_lora": "none.safetensors"})
    path = made.write()
    spec = json.loads(path.read_text("utf-8"))
    spec["dataloader"][0]["instance_data_dir"] = "nowhere"
    path.write_text(json.dumps(spec), "utf-8")
    assert main(["check", str(path)]) == Exit.BAD_SPEC
    said = capsys.readouterr().out
    for told in ("config.model_family: is sdxl", "config.init_lora: none.safetensors is not there", "nowhere"):
        assert told in said


def test_explain_into_a_pipe_that_is_closed(job: Jobs) -> None:
    explained = subprocess.Popen(
        [sys.executable, "-m", "simpletuner_trainer", "explain", str(job().write())],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert explained.stdout is not None
    assert explained.stderr is not None
    explained.stdout.close()
    assert explained.stderr.read() == b""
    assert explained.wait(60) != 0


def test_a_warm_up_as_long_as_the_epochs(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the images say how many steps the epochs are: 3."""
    made = job(config={"max_train_steps": 0, "num_train_epochs": 1, "lr_warmup_steps": 3})
    for arguments in ([], ["explain"]):
        assert main([*arguments, str(made.write())]) == Exit.BAD_SPEC
        (failure,) = of_kind(capsys.readouterr().out, report.Failure)
        assert failure.message == "config.lr_warmup_steps: is 3"
        assert failure.hint == "num_train_epochs comes to 3: the full learning rate would never be reached"
    assert not made.output.exists()
    made.config["lr_warmup_steps"] = 2
    assert main(["explain", str(made.write())]) == Exit.DONE


def test_a_signal_before_anything_is_imported_is_no_crash(job: Jobs) -> None:
    """The interpreter says on stderr what it has imported: the signal comes after the second of our modules."""
    command = [sys.executable, "-X", "importtime", "-m", "simpletuner_trainer", str(job().write())]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "simpletuner_trainer.errors" in line)
        process.terminate()
        process.stderr.read()
    assert process.returncode == Exit.INTERRUPTED


def test_without_torch_it_says_what_to_install(job: Jobs, tmp_path: Path) -> None:
    missing = 'raise ModuleNotFoundError("No module named \'torch\'", name="torch")'
    (tmp_path / "torch.py").write_text(missing, "utf-8")
    made = job(
        environment={"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])}
    )
    with made.start() as started:
        assert started.wait() == Exit.CRASHED
    (failure,) = of_kind(started.log(), report.Failure)
    assert failure.message.startswith("torch cannot be imported")
    assert failure.hint == "pip install 'simpletuner-trainer[train]'"
    assert not started.errors, "no traceback"


def test_a_broken_torchvision_is_told_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPI's torchvision beside a CPU torch fails on import, and transformers then with any message."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        'raise RuntimeError("operator torchvision::nms does not exist")'
    )
    monkeypatch.syspath_prepend(tmp_path)
    error = missing_package(RuntimeError("Could not import module 'CLIPTextModel'"))
    assert "torchvision does not fit" in error.message
    assert "pip uninstall torchvision" in error.hint


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"mixed_precision": "fp16"}, "needs a CUDA device"),
        ({"pretrained_model_name_or_path": "./nowhere"}, "is not there"),
        ({"pretrained_model_name_or_path": "pictures"}, "not a diffusers folder"),
    ],
)
def test_what_only_the_base_or_the_device_can_tell(
    job: Jobs, config: dict[str, object], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if config.get("mixed_precision") == "fp16":
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            config = {**config, "pretrained_model_name_or_path": "./nowhere"}
            says = "is not there"
    assert job(config=config).run() == Exit.BAD_SPEC
    assert says in of_kind(capsys.readouterr().out, report.Failure)[0].message


def test_a_base_of_another_family(job: Jobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    assert job(config={"pretrained_model_name_or_path": str(other)}).run() == Exit.BAD_SPEC
    assert "is a FluxPipeline" in of_kind(capsys.readouterr().out, report.Failure)[0].message


def test_the_module_runs_as_a_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "simpletuner_trainer", "--help"], capture_output=True, text=True, check=True
    )
    assert "spec.json" in ran.stdout
