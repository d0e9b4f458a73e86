"""The emulated Replicate, driven by the real client 2.0 (a beta), which lives in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.testing.replicate_emulator import Fault, ManualClock, ReplicateEmulator, Step, replicate_emulator
from tests.testing.replicate_kit import ACCOUNTS, NOW, TRAINER, TRAINER_VERSION, client

PYTHON = Path(__file__).parents[2] / ".venv-replicate2" / "bin" / "python"
SESSION = Path(__file__).with_name("replicate2_session.py")

pytestmark = pytest.mark.skipif(
    not PYTHON.exists() and not os.environ.get("CI_REQUIRE_ALL"),
    reason="no client 2.0 here: make .venv-replicate2/.stamp",
)


@pytest.fixture
def emulator() -> Iterator[ReplicateEmulator]:
    plays = {TRAINER: [Step(after_s=30, log="x\n", output="done")]}
    with replicate_emulator(
        ACCOUNTS, clock=ManualClock(NOW), deployments={"ann/trainer": TRAINER}, plays=plays
    ) as running:
        yield running


def session(emulator: ReplicateEmulator, action: str) -> dict:
    command = [str(PYTHON), "-I", str(SESSION), emulator.url, "r8_ann", action]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("version") == "2.0.0-beta.4"
    return told


def test_a_tour_of_every_route_and_its_errors(emulator: ReplicateEmulator) -> None:
    emulator.conduct.page_size = 3
    assert session(emulator, "tour") == {
        "account": "ann",
        "hardware": ["cpu", "gpu-t4", "gpu-l40s", "gpu-a100-large", "gpu-h100"],
        "versions": [TRAINER_VERSION] * 2,
        "file": [{"job": "1"}, 4, True],
        "files": 1,
        "waited": ["succeeded", "done"],
        "deadline": True,
        "hidden": "hidden",
        "cancelled": ["canceled", "canceled"],
        "training": [True, 1],
        "listed": True,
        "secret": client(emulator).webhooks.default.secret().key,
        "errors": {
            "unknown": ["NotFoundError", 404],
            "invalid": ["UnprocessableEntityError", 422],
            "deadline": ["UnprocessableEntityError", 422],
            "nobody": ["AuthenticationError", 401],
        },
    }
    assert emulator.files("ann") == ()
    assert [seen.route for seen in emulator.seen].count("predictions.list") == 2
    assert len(emulator.predictions) == 5


def test_a_lost_answer_is_paid_twice_unless_it_is_told_not_to_try_again(emulator: ReplicateEmulator) -> None:
    for fault in (Fault(lost=True), Fault(), Fault(lost=True)):
        emulator.fail("predictions.create", fault)
    told = session(emulator, "lost")
    assert told["raised"] == "APIConnectionError"
    assert [one.id for one in emulator.predictions].index(told["id"]) == 1
    emulator.advance(100)
    assert [charge.seconds for charge in emulator.charges] == [1.0] * 3
