"""A played training of our trainer, as its lab sees it: the lines of a training, and a result that is really delivered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import replicate

from simpletuner_lab.core.destination import ACCESS_KEY, SECRET_KEY
from simpletuner_lab.services.outputs import Outputs
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.replicate_emulator import cog_model
from simpletuner_lab.testing.replicate_emulator.training_play import TRAINER, trainer_model
from simpletuner_lab.testing.replicate_stand import Stand, replicate_stand
from simpletuner_lab.testing.storage_server import StorageServer, storage_server
from simpletuner_trainer import report as rp

NONCE = "0123456789abcdef"
STEPS = 300


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with replicate_stand(speed=20.0, lasts_s=4.0) as running:
        yield running


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[StorageServer]:
    with storage_server(tmp_path) as server:
        yield server


def spec(endpoint_url: str, **more: Any) -> dict[str, Any]:
    """As a provider sends it: without paths."""
    config = {"model_family": "sd", "pretrained_model_name_or_path": "builtin:tiny", "max_train_steps": STEPS}
    destination = {"kind": "s3", "endpoint_url": endpoint_url, "bucket": "outputs", "prefix": "job-1/"}
    return {
        "format": "simpletuner-spec/1", "job_id": "job-1", "attempt": 1, "nonce": NONCE, "config": config,
        "dataloader": [{"id": "set", "type": "local", "instance_data_dir": "set"}], "destination": destination,
        "plan_digest": "d", **more,
    }  # fmt: skip


def ended(stand: Stand, document: object, secrets: dict[str, str]) -> Any:
    """The prediction with this spec, once it is over."""
    client = replicate.Client(api_token=stand.token, base_url=stand.emulator.url)
    version = client.models.get(TRAINER).latest_version
    given = {"spec": json.dumps(document), "secrets": json.dumps(secrets), "tag": "job-1/1"}
    made = client.predictions.create(version=version.id, input=given)
    return eventually(lambda: client.predictions.get(made.id), lambda run: run.completed_at, patience_s=30)


def keys(storage: StorageServer) -> dict[str, str]:
    found = storage.issue("job-1")
    return {ACCESS_KEY: found.access_key, SECRET_KEY: found.secret_key.reveal()}


def test_it_looks_like_a_training_and_delivers_for_good(stand: Stand, storage: StorageServer, tmp_path: Path) -> None:
    run = ended(stand, spec(storage.endpoint_url), keys(storage))
    assert (run.status, json.loads(run.output)) == ("succeeded", {"exit_code": 0, "ended": "done"}), run.error
    read = {line: rp.parse_line(line, nonce=NONCE) for line in run.logs.splitlines()}
    told = [one for one in read.values() if one is not None]
    plain = [line for line, one in read.items() if one is None]
    assert plain[-1].startswith(f"step {STEPS} of {STEPS}  loss ")
    assert all(line.startswith("step ") for line in plain)
    assert [one.stage for one in told if isinstance(one, rp.Stage)] == [
        one for one in rp.StageName if one is not rp.StageName.VALIDATE
    ]
    curve = [one for one in told if isinstance(one, rp.Steps)]
    assert [step for one in curve for step in one.step] == list(range(1, STEPS + 1))
    losses = [loss for one in curve for loss in one.loss]
    assert sum(losses[-25:]) < sum(losses[:25]) / 2
    assert min(losses) > 0
    delivered = Outputs(tmp_path / "objects").verify("job-1")
    (result,) = (one for one in told if isinstance(one, rp.Result))
    assert (delivered.problem, delivered.sha256, delivered.bytes > 0) == ("", result.sha256, True)
    card = (tmp_path / "objects/outputs/job-1/README.md").read_text()
    assert "rehearsal" in card
    assert isinstance(told[-1], rp.End)
    assert run.metrics["predict_time"] >= 4


def test_a_run_with_a_deadline_leaves_a_checkpoint_and_the_next_goes_on(stand: Stand, storage: StorageServer) -> None:
    granted = keys(storage)
    runs = [
        ended(stand, spec(storage.endpoint_url, attempt=1, deadline_s=3.0), granted),
        ended(stand, spec(storage.endpoint_url, attempt=2, deadline_s=2.5), granted),
        ended(stand, spec(storage.endpoint_url, attempt=3), granted),
    ]
    assert [json.loads(run.output)["exit_code"] for run in runs] == [rp.Exit.DEADLINE, rp.Exit.DEADLINE, rp.Exit.DONE]
    told = [[found for line in run.logs.splitlines() if (found := rp.parse_line(line, nonce=NONCE))] for run in runs]
    saved = [one.step for run in told for one in run if isinstance(one, rp.Checkpoint)]
    assert [one.step for run in told for one in run if isinstance(one, rp.Resume)] == saved
    assert 0 < saved[0] < saved[1] < STEPS
    curve = [one for run in told for one in run if isinstance(one, rp.Steps)]
    assert [step for one in curve for step in one.step] == list(range(1, STEPS + 1))


def test_a_second_attempt_without_a_checkpoint_begins_its_curve_again(stand: Stand, storage: StorageServer) -> None:
    run = ended(stand, spec(storage.endpoint_url, attempt=2), keys(storage))
    assert rp.parse_line(run.logs.splitlines()[0], nonce=NONCE) == rp.Resume(step=0)


def test_a_destination_that_says_no_is_told(stand: Stand, storage: StorageServer) -> None:
    run = ended(stand, spec(storage.endpoint_url), {**keys(storage), SECRET_KEY: "another-one"})
    assert (run.status, json.loads(run.output)["exit_code"]) == ("succeeded", rp.Exit.UNDELIVERED)
    told = [rp.parse_line(line, nonce=NONCE) for line in run.logs.splitlines()]
    assert [one.code for one in told if isinstance(one, rp.Failure)] == ["undelivered"]
    assert storage.stored == []


@pytest.mark.parametrize(
    ("document", "told"), [("no spec", "no JSON object"), (spec("http://127.0.0.1:9", nonce="x"), "spec.nonce")]
)
def test_a_spec_that_is_none_fails_the_run(stand: Stand, document: object, told: str) -> None:
    run = ended(stand, document, {})
    assert run.status == "failed"
    assert told in run.error


def test_the_model_takes_what_the_real_one_takes() -> None:
    """The schema that Cog made of `trainer/predict.py`, without its words."""
    folder = Path(__file__).resolve().parents[2] / "trainer"
    (real,), (played,) = cog_model(TRAINER, folder).versions, trainer_model().versions
    without_words = {
        name: {key: value for key, value in schema.items() if key != "description"}
        for name, schema in real.inputs.items()
    }
    assert without_words == {name: dict(schema) for name, schema in played.inputs.items()}
    assert (real.required, real.output) == (played.required, played.output)
