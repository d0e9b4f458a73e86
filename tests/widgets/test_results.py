"""What came of a job, with a plain client: arrays, figures, files, and a trained model in diffusers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from simpletuner_lab.core.errors import InvalidRequest, OutputNotFound
from simpletuner_lab.figures import Run, draw_losses, smoothed
from simpletuner_lab.results import DeliveredFiles, Metrics, load_pipeline
from simpletuner_lab.services.front import InProcess
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.views import JobDetail, JobView, MetricsView
from simpletuner_lab.submission import request_of
from simpletuner_lab.testing import eventually
from tests.lab_kit import config, request

STEPS = 1


@pytest.fixture(scope="module")
def lab(home: Home) -> Iterator[InProcess]:
    with Lab.open(home.root) as opened:
        yield InProcess(opened)


def trained(lab: InProcess, asked: object) -> JobView:
    job = lab.submit(asked, approve=lab.plan(asked).digest)
    return eventually(lambda: lab.job(job.job_id), lambda seen: seen.is_terminal, patience_s=120)


def metrics(*loss: float | None) -> Metrics:
    count = len(loss)
    view = MetricsView(
        job_id="j", total=count, step=tuple(range(1, count + 1)), loss=loss, lr=(0.001,) * count, grad_norm=(None,) * count
    )  # fmt: skip
    return Metrics.of(view)


def test_metrics_are_arrays_with_nan_where_nothing_is_known() -> None:
    made = metrics(1.0, None, 0.5)
    assert (made.step.dtype, made.loss.dtype, len(made)) == (np.int64, np.float64, 3)
    np.testing.assert_array_equal(made.loss, [1.0, np.nan, 0.5])
    assert np.isnan(made.grad_norm).all()


def test_a_figure_has_the_measured_and_the_smoothed_loss_and_the_rate() -> None:
    figure = draw_losses([Run(name="a", metrics=metrics(1.0, 0.5, 0.25))], smoothing=0.5, log=True)
    measured, smooth, rate = figure.data
    assert (list(measured.y), smooth.name, rate.yaxis) == ([1.0, 0.5, 0.25], "a", "y2")
    assert smooth.y[0] == 1.0
    assert figure.layout.yaxis.type == "log"
    both = draw_losses([Run(name=name, metrics=metrics(1.0, 0.5)) for name in "ab"], smoothing=0)
    assert [trace.name for trace in both.data] == ["a", "b"]
    assert both.data[0].line.color != both.data[1].line.color
    assert len(draw_losses([Run(name="a", metrics=metrics())]).data) == 2
    with pytest.raises(InvalidRequest):
        draw_losses([], smoothing=1.0)


def test_smoothing_passes_over_what_is_not_known() -> None:
    np.testing.assert_allclose(smoothed(np.array([4.0, np.nan, 4.0, 4.0]), 0.9), [4.0, 4.0, 4.0, 4.0])
    np.testing.assert_allclose(smoothed(np.array([np.nan, 1.0, 0.0]), 0.5), [np.nan, 1.0, 1 / 3])


def test_plotly_is_loaded_for_a_figure_alone() -> None:
    code = "import simpletuner_lab.widgets, sys; print({'plotly', 'torch', 'diffusers', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_without_a_result_there_is_no_pipeline(lab: InProcess, images: Path) -> None:
    job = trained(lab, request(images, "crash"))
    with pytest.raises(OutputNotFound, match="has no result"):
        load_pipeline(lab, job.job_id)
    assert list(DeliveredFiles.of(lab.outputs(job.job_id))) == []


def test_files_are_paths_with_their_checksums_compared(lab: InProcess, images: Path) -> None:
    delivered = DeliveredFiles.of(lab.outputs(trained(lab, request(images)).job_id))
    assert [path.name for path in delivered] == ["manifest.json", "pytorch_lora_weights.safetensors"]
    assert delivered[1].read_bytes() == b"lora"
    assert delivered.verified
    assert "every checksum verified" in repr(delivered)


@pytest.mark.timeout(600)  # two processes that import torch, on a machine that may be busy
@pytest.mark.parametrize("model_type", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_the_trained_model_loads_in_diffusers_and_is_that_of_the_command_line(folder: Path, model_type: str) -> None:
    from simpletuner_trainer.spec import BUILTIN_TINY

    ink = folder / f"ink-{model_type}"
    ink.mkdir()
    for name in ("accordion.png", "accordion.txt", "badger.png", "badger.txt"):
        (ink / name).write_bytes((files("simpletuner_trainer") / "assets/styles/ink/train" / name).read_bytes())
    how = {"max_train_steps": STEPS, "resolution": 64, "resolution_type": "pixel", "model_type": model_type}
    how["torch_num_threads"] = 1
    asked = request_of(config("real", pretrained_model_name_or_path=BUILTIN_TINY, train_batch_size=1) | how, ink)
    with Lab.open(folder / f"real-{model_type}") as opened:
        lab = InProcess(opened)
        job = trained(lab, asked)
        assert job.error is None
        pipeline = load_pipeline(lab, job.job_id)
        delivered = Path(lab.outputs(job.job_id).folder, "manifest.json").read_bytes()
        assert by_command_line(lab.detail(job.job_id), folder) == delivered
    assert pipeline.get_list_adapters() == ({"unet": ["default_0"]} if model_type == "lora" else {})
    picture = pipeline("grinning face", num_inference_steps=1, width=64, height=64).images[0]
    assert picture.size == (64, 64)


def by_command_line(detail: JobDetail, folder: Path) -> bytes:
    """The manifest, with the SHA-256 of every file, that `python -m simpletuner_trainer` makes of what the lab sent."""
    plan, job_id = detail.plan, detail.job.job_id
    spec = {
        "format": "simpletuner-spec/1", "job_id": job_id, "nonce": "0123456789abcdef", "work_dir": f"work-{job_id}",
        "config": plan.config, "dataloader": list(plan.dataloader), "plan_digest": plan.digest,
    }  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec), "utf-8")
    subprocess.run([sys.executable, "-m", "simpletuner_trainer", str(folder / "spec.json")], check=True)
    return (folder / f"work-{job_id}" / "output" / "manifest.json").read_bytes()
