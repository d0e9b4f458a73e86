"""One suite for the engines of the emulated Replicate: what scripts play, and what a real Cog server does."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from replicate.exceptions import ReplicateError

from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.replicate_emulator import (
    REDACTED,
    WORKER_LOST,
    CogEngine,
    Job,
    OutputFile,
    ReplicateEmulator,
    Step,
    cog_model,
    replicate_emulator,
)
from tests.testing.replicate_kit import ACCOUNTS, client, fetched, plain, receiving

FOLDER = Path(__file__).parent / "cog_model"
SPEAKER = "ann/speaker"
MODEL = cog_model(SPEAKER, FOLDER, hardware="cpu")
ENDS = ("succeeded", "failed", "canceled")


def play(job: Job) -> Iterator[Step]:
    """What `cog_model/predict.py` does."""
    given = job.input
    if "file" in given:
        assert "/download?" in given["file"]  # to be asked by another thread
        yield Step(log="file words\n")
    if "secret" in given:
        yield Step(log=f"secret of {len(given['secret'])}\n")
    for step in range(1, given["steps"] + 1):
        yield Step(log=f"{given['text']} {step}\n", metrics={"step": step})
        if given["mode"] == "fail" and step == 2:
            raise RuntimeError("boom at step 2")
        if given["mode"] == "wait":
            yield Step(after_s=1000)
    yield Step(output=OutputFile(name="said.txt", content=(given["text"] * given["steps"]).encode()))


@pytest.fixture(scope="module", params=["script", "cog"])
def emulator(request: pytest.FixtureRequest) -> Iterator[ReplicateEmulator]:
    engine = CogEngine({SPEAKER: FOLDER}) if request.param == "cog" else None
    with replicate_emulator(ACCOUNTS, models=[MODEL], plays={SPEAKER: play}, engine=engine) as running:
        yield running


def start(emulator: ReplicateEmulator, **inputs: object):
    return client(emulator).predictions.create(version=MODEL.versions[0].id, input={"text": "la", **inputs})


def ended(emulator: ReplicateEmulator, **inputs: object):
    return at_end(start(emulator, **inputs))


def at_end(run):
    def look():
        run.reload()
        return run

    return eventually(look, lambda one: one.status in ENDS)


def logged(run, text: str):
    """A run that has not ended, once its log has this."""

    def look() -> tuple[str, str]:
        run.reload()
        return run.status, run.logs

    eventually(look, lambda told: told == ("processing", text))


# -------------------------------------------------------------------------------------------------------- both engines


def test_it_succeeds_with_a_file_a_log_and_what_it_counted(emulator: ReplicateEmulator) -> None:
    run = ended(emulator)
    assert (run.status, run.error, run.logs) == ("succeeded", None, "la 1\nla 2\nla 3\n")
    assert run.output.startswith(emulator.url)
    assert fetched(run.output).content == b"lalala"
    assert run.metrics["step"] == 3
    assert 0 <= run.metrics["predict_time"] <= run.metrics["total_time"]
    charge = emulator.charges[-1]
    assert (charge.status, charge.hardware, charge.seconds) == ("succeeded", "cpu", run.metrics["predict_time"])


def test_it_fails_with_what_was_raised(emulator: ReplicateEmulator) -> None:
    run = ended(emulator, mode="fail")
    assert (run.status, run.output, run.logs) == ("failed", None, "la 1\nla 2\n")
    assert run.error.endswith("boom at step 2")
    assert "Prediction failed" not in run.error


def test_lines_are_seen_while_it_runs_and_a_cancel_frees_the_worker(emulator: ReplicateEmulator) -> None:
    run = start(emulator, mode="wait")
    waiting = start(emulator, text="next")
    logged(run, "la 1\n")
    waiting.reload()
    assert (run.metrics["step"], waiting.status) == (1, "starting")
    run.cancel()
    assert run.status == "canceled"
    assert at_end(waiting).logs == "next 1\nnext 2\nnext 3\n"
    run.reload()
    assert (run.status, run.logs) == ("canceled", "la 1\n")


def test_the_input_is_what_the_schema_has(emulator: ReplicateEmulator) -> None:
    """A file without a token, a secret in clear for the model alone, and nothing that it does not know."""
    file = client(emulator).files.create(io.BytesIO(b"words"), filename="words.txt")
    run = ended(emulator, file=file.urls["get"], secret="hidden", steps=1, other=5)
    assert (run.status, run.logs) == ("succeeded", "file words\nsecret of 6\nla 1\n")
    assert (run.input["secret"], run.input["other"]) == (REDACTED, 5)


@pytest.mark.parametrize(
    ("inputs", "word"),
    [({"steps": 0}, "steps"), ({"steps": "three"}, "steps"), ({"mode": "sing"}, "mode"), ({"text": 5}, "text")],
    ids=["too-few", "no-number", "no-choice", "no-text"],
)
def test_a_bad_input_is_refused(emulator: ReplicateEmulator, inputs: dict[str, object], word: str) -> None:
    before = len(emulator.predictions)
    with pytest.raises(ReplicateError) as told:
        start(emulator, **inputs)
    assert (told.value.status, word in told.value.detail) == (422, True)
    assert len(emulator.predictions) == before


def test_webhooks_tell_of_its_start_and_end(emulator: ReplicateEmulator) -> None:
    with receiving() as receiver:
        words = ["start", "output", "logs", "completed"]
        run = client(emulator).predictions.create(
            version=MODEL.versions[0].id, input={"text": "la"}, webhook=receiver.url, webhook_events_filter=words
        )
        eventually(lambda: {"processing", "succeeded"} <= set(receiver.told))  # Replicate keeps no order
        (last,) = (one.told for one in receiver.got if one.status == "succeeded")
        assert last["logs"] == at_end(run).logs


# ----------------------------------------------------------------------------------------------------- Cog, when it breaks


@pytest.fixture(scope="module")
def breaking() -> Iterator[ReplicateEmulator]:
    with replicate_emulator(ACCOUNTS, models=[MODEL], engine=CogEngine({SPEAKER: FOLDER})) as emulator:
        yield emulator


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_a_worker_that_dies_is_a_failed_run_and_the_next_one_gets_another(
    breaking: ReplicateEmulator, number: str
) -> None:
    """Killed, Cog says so; told to end, it does without a word."""
    run = start(breaking, mode="wait")
    logged(run, "la 1\n")
    with plain(breaking, breaking.control_token) as control:
        assert control.post("/_emu/workers", json={"model": SPEAKER, "signal": "SIGHUP"}).status_code == 422
        assert control.post("/_emu/workers", json={"model": "ann/other", "signal": number}).status_code == 422
        assert control.post("/_emu/workers", json={"model": SPEAKER, "signal": number}).status_code == 201
    assert (at_end(run).status, run.error) == ("failed", WORKER_LOST)
    assert ended(breaking).status == "succeeded"


def test_a_model_that_cannot_be_set_up(tmp_path: Path) -> None:
    (tmp_path / "predict.py").write_text("raise ImportError('no such thing')\n")
    with replicate_emulator(ACCOUNTS, models=[MODEL], engine=CogEngine({SPEAKER: tmp_path})) as emulator:
        run = ended(emulator)
        assert (run.status, run.started_at, emulator.charges[0].usd) == ("failed", None, 0.0)
        assert "no such thing" in run.error


def test_a_folder_without_a_schema_is_no_model(tmp_path: Path) -> None:
    (tmp_path / ".cog").mkdir()
    (tmp_path / ".cog" / "openapi_schema.json").write_text("{}")
    with pytest.raises(ValueError, match="no schema"):
        cog_model(SPEAKER, tmp_path)
