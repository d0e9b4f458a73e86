"""The spec that a local trainer is given is one that the trainer reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from simpletuner_lab.core.destination import S3Delivery
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers._child import child_environment, spec_document
from simpletuner_trainer.spec import FolderDestination, RunSpec, S3Destination
from tests.providers.local_kit import JOB, order

CONFIG = {
    "model_family": "sd",
    "pretrained_model_name_or_path": "some/base",
    "max_train_steps": 2,
    "learning_rate": 1e-4,
    "output_dir": "output",
}
DATALOADER = [{"id": "set", "type": "local", "instance_data_dir": "set", "caption_strategy": "textfile"}]


def test_the_trainer_reads_the_spec(tmp_path: Path) -> None:
    plain = dataclasses.replace(order(tmp_path, ""), config=CONFIG, dataloader=DATALOADER, deadline_s=60.0)
    spec = RunSpec.parse(spec_document(plain, tmp_path / JOB), tmp_path)
    assert (spec.job_id, spec.attempt, spec.nonce) == (JOB, 1, plain.nonce)
    assert spec.work_dir == tmp_path / JOB / "work"
    assert spec.deadline_s == 60.0
    assert spec.data is not None
    assert Path(spec.data.archive) == tmp_path / JOB / "data.zip"
    assert spec.data.sha256 == plain.archive.sha256
    assert spec.destination == FolderDestination(path=str(tmp_path / "delivered"))


def test_the_spec_names_where_the_keys_are_and_no_key(tmp_path: Path) -> None:
    delivery = S3Delivery(endpoint_url="http://127.0.0.1:1/api/cloud/storage", bucket="outputs", prefix=f"{JOB}/")
    secrets = {"SIMPLETUNER_S3_ACCESS_KEY": Secret("AK"), "SIMPLETUNER_S3_SECRET_KEY": Secret("SK-hidden")}
    order_ = dataclasses.replace(
        order(tmp_path, ""), config=CONFIG, dataloader=DATALOADER, delivery=delivery, secrets=secrets
    )
    document = spec_document(order_, tmp_path / JOB)
    assert "SK-hidden" not in repr(document)
    spec = RunSpec.parse(document, tmp_path)
    assert isinstance(spec.destination, S3Destination)
    environment = child_environment({}, secrets)
    assert environment[spec.destination.access_key_env] == "AK"
    assert environment[spec.destination.secret_key_env] == "SK-hidden"
