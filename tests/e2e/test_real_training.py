"""The real trainer on the base that ships, through a real server: killed twice, and as if nothing had happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

import simpletuner_trainer
from simpletuner_lab.client import LabClient
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.views import JobView
from simpletuner_lab.testing import eventually
from tests.server.server_kit import Server

ASSETS = Path(simpletuner_trainer.__file__).parent / "assets"

REQUEST = SubmitRequest(
    name="killed",
    config={
        "model_family": "sd",
        "pretrained_model_name_or_path": "builtin:tiny",
        "lora_rank": 4,
        "lora_target": "attention",
        "max_train_steps": 60,
        "train_batch_size": 4,
        "learning_rate": 1e-3,
        "resolution": 64,
        "resolution_type": "pixel",
        "use_ema": True,
        "snr_gamma": 5.0,
        "checkpoint_step_interval": 10,
        "torch_num_threads": 1,
        "seed": 3,
    },
    dataloader=(
        {
            "id": "neon",
            "type": "local",
            "instance_data_dir": str(ASSETS / "styles/neon/train"),
            "caption_strategy": "textfile",
        },
    ),
)


@pytest.mark.slow  # tests/trainer/test_resume.py has the same of the trainer alone
def test_two_kills_change_nothing(tmp_path: Path) -> None:
    """kill -9 of the trainer, then of the server: the same curve and weights, bit for bit, and every checksum right."""
    server = Server(tmp_path, Home(tmp_path / "home").prepare().root, "/user/ann/").start()
    try:
        client = server.client()
        calm = finished(client, submitted(client))
        job = submitted(client)
        reaches(client, job, 15)
        kill_trainer(server.home)
        reaches(client, job, 35, attempt=2)
        server.kill()
        server.start()
        client = server.client()
        job = finished(client, job)
        assert (calm.attempt, job.attempt) == (1, 2)
        first, second = client.metrics(calm.job_id), client.metrics(job.job_id)
        assert first.step == second.step == tuple(range(1, 61))
        assert first.loss == second.loss
        assert first.grad_norm == second.grad_norm
        weights = [
            load_file(Path(client.outputs(j.job_id).folder, "pytorch_lora_weights.safetensors")) for j in (calm, job)
        ]
        assert weights[0].keys() == weights[1].keys()
        for name, tensor in weights[0].items():
            assert np.array_equal(tensor, weights[1][name]), name
        resumed = [event.data["step"] for event in client.detail(job.job_id).events if event.kind == "resumed"]
        arrived = [event.data for event in client.detail(calm.job_id).events if event.kind == "checkpoint"]
        assert [data["step"] for data in arrived if data["delivered"]] == [10, 20, 30, 40, 50, 60]
        assert all(data["verified"] for data in arrived if data["delivered"])
        assert len(resumed) == 1
        assert resumed[0] % 10 == 0
    finally:
        server.stop()


def submitted(client: LabClient) -> JobView:
    return client.submit(REQUEST, approve=client.plan(REQUEST).digest)


def finished(client: LabClient, job: JobView) -> JobView:
    job = eventually(lambda: client.job(job.job_id), lambda seen: seen.is_terminal, patience_s=200)
    assert job.status is JobState.COMPLETED, client.log(job.job_id).logs[-2000:]
    assert client.outputs(job.job_id).verified
    return job


def reaches(client: LabClient, job: JobView, step: int, *, attempt: int = 1) -> None:
    seen = eventually(
        lambda: client.job(job.job_id),
        lambda seen: seen.is_terminal or (seen.attempt >= attempt and seen.progress.step >= step),
        patience_s=200,
    )
    assert not seen.is_terminal, "it was too fast to be killed"


def kill_trainer(home: Path) -> None:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "simpletuner_trainer" in words and words[-1].startswith(str(home)):
            os.kill(process.pid, signal.SIGKILL)
            return
    raise AssertionError("no trainer runs")
