"""The emulated Replicate, driven by the real client 1.0: what is there, and the life of a prediction on its clock."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime

import pytest
from replicate.exceptions import ModelError, ReplicateError

from simpletuner_lab.testing.replicate_emulator import (
    REDACTED,
    TIMED_OUT,
    Job,
    ManualClock,
    OutputFile,
    ReplicateEmulator,
    Report,
    ScaledClock,
    SetupFailed,
    Status,
    Step,
    replicate_emulator,
)
from tests.testing.replicate_kit import ACCOUNTS, HELLO, NOW, TRAINER, TRAINER_VERSION, client, fetched, plain, statuses

LONG = (Step(after_s=10, log="begun\n"), Step(after_s=100_000, log="never\n"))


@pytest.fixture
def emulator() -> Iterator[ReplicateEmulator]:
    clock = ManualClock(NOW)
    with replicate_emulator(ACCOUNTS, clock=clock, deployments={"ann/trainer": TRAINER}) as running:
        yield running


def start(emulator: ReplicateEmulator, **more):
    return client(emulator).predictions.create(version=TRAINER_VERSION, input={"max_train_steps": 3}, **more)


# -------------------------------------------------------------------------------------------------- what is there


def test_account_hardware_and_models(emulator: ReplicateEmulator) -> None:
    ann = client(emulator)
    assert (ann.accounts.current().username, client(emulator, "r8_bob").accounts.current().type) == (
        "ann",
        "organization",
    )
    assert {"cpu", "gpu-t4", "gpu-l40s", "gpu-a100-large", "gpu-h100"} == {one.sku for one in ann.hardware.list()}
    model = ann.models.get(TRAINER)
    assert model.latest_version is not None
    assert model.latest_version.id == TRAINER_VERSION
    inputs = model.latest_version.openapi_schema["components"]["schemas"]["Input"]["properties"]
    assert {"images", "config_json", "dataloader_json", "max_train_steps", "hub_model_id", "hf_token"} <= set(inputs)
    assert [version.id for version in model.versions.list()] == [TRAINER_VERSION]
    assert model.versions.get(TRAINER_VERSION).cog_version
    with pytest.raises(ReplicateError) as told:
        ann.models.get("simpletuner/nothing")
    assert told.value.status == 404


# --------------------------------------------------------------------------------------------- a run and its end


def test_a_run_from_start_to_end(emulator: ReplicateEmulator) -> None:
    steps = [
        Step(after_s=60, log="  50%|#####     | 1/2\n", metrics={"step": 1}),
        Step(
            after_s=60,
            log=" 100%|##########| 2/2\n",
            metrics={"step": 2},
            output=OutputFile(name="w.bin", content=b"w"),
        ),
    ]
    emulator.play(TRAINER, steps)
    run = start(emulator)
    assert (run.status, run.logs, run.output, run.started_at) == ("starting", "", None, None)
    emulator.advance(60)
    run.reload()
    assert (run.status, run.metrics, run.completed_at) == ("processing", {"step": 1}, None)
    assert run.progress is not None
    assert run.progress.current == 1
    emulator.advance(1000)
    run.reload()
    assert (run.status, run.error) == ("succeeded", None)
    assert run.metrics == {"step": 2, "predict_time": 120.0, "total_time": 120.0}
    assert fetched(run.output).content == b"w"
    began, ended = (datetime.fromisoformat(text) for text in (run.started_at, run.completed_at))
    assert (began.timestamp(), ended.timestamp()) == (NOW, NOW + 120)
    (charge,) = emulator.charges
    assert (charge.seconds, charge.hardware, charge.usd) == (120.0, "gpu-l40s", pytest.approx(120 * 0.000975))


def test_a_play_in_python_gets_the_input(emulator: ReplicateEmulator) -> None:
    """Files without a token, defaults filled in, secrets in clear, and what the version does not know left out."""
    given: list[Job] = []

    def play(job: Job) -> Iterator[Step]:
        given.append(job)
        yield Step(after_s=1, log="thinking\n")
        raise ValueError("boom at step 2")

    emulator.play(TRAINER, play)
    ann = client(emulator)
    file = ann.files.create(io.BytesIO(b"data"), filename="ds.zip")
    inputs = {"images": file.urls["get"], "hf_token": "hf_x", "other": 5}
    run = ann.predictions.create(version=f"{TRAINER}:{TRAINER_VERSION}", input=inputs)
    assert run.input == {**inputs, "hf_token": REDACTED}
    emulator.advance(5)
    run.reload()
    assert (run.status, run.error, run.logs) == ("failed", "boom at step 2", "thinking\n")
    (job,) = given
    assert (job.id, job.input["hf_token"], job.input["return_logs"], "other" in job.input) == (
        run.id,
        "hf_x",
        True,
        False,
    )
    assert fetched(job.input["images"]).content == b"data"


def test_run_by_name_waits_on_the_clock(emulator: ReplicateEmulator) -> None:
    """`Prefer: wait` moves a clock that stands; the real client's `run` raises what the model raised."""
    emulator.play(HELLO, lambda job: [Step(after_s=20, output=f"hello {job.input['text']}")])
    ann = client(emulator)
    assert ann.run(HELLO, input={"text": "Alice"}, wait=30) == "hello Alice"
    emulator.play(HELLO, [Step(error="out of memory")])
    with pytest.raises(ModelError, match="out of memory"):
        ann.run(HELLO, input={"text": "Bob"}, wait=30)
    assert ann.predictions.list().results[0].version == "hidden"


def test_a_client_that_polls_moves_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATE_POLL_INTERVAL", "0")
    with replicate_emulator(ACCOUNTS, clock=ManualClock(NOW, tick_s=7)) as emulator:
        emulator.play(TRAINER, [Step(after_s=60, output="done")])
        run = start(emulator)
        run.wait()
        assert (run.output, emulator.now() > NOW + 60) == ("done", True)


def test_a_clock_that_runs_by_itself() -> None:
    with replicate_emulator(ACCOUNTS, clock=ScaledClock(600.0)) as emulator:
        emulator.play(HELLO, [Step(after_s=30, log="a\n"), Step(after_s=30, output="b")])
        told = plain(emulator).post(
            f"/v1/models/{HELLO}/predictions", json={"input": {"text": "x"}}, headers={"Prefer": "wait=60"}
        )
        assert told.json()["status"] in {"processing", "succeeded"}
        run = client(emulator).predictions.get(told.json()["id"])
        run.wait()
        assert run.output == "b"
        assert run.metrics["predict_time"] >= 60
        with pytest.raises(ValueError, match="by itself"):
            emulator.advance(1)


def test_official_models_deployments_and_trainings(emulator: ReplicateEmulator) -> None:
    ann = client(emulator)
    official = ann.models.predictions.create(HELLO, input={"text": "x"})
    deployed = ann.predictions.create(deployment="ann/trainer", input={})
    training = ann.trainings.create(model=TRAINER, version=TRAINER_VERSION, input={}, destination=HELLO)
    with pytest.raises(ReplicateError) as told:
        ann.trainings.create(model=TRAINER, version=TRAINER_VERSION, input={}, destination="ann/nothing")
    assert (told.value.status, told.value.detail) == (404, "The specified training destination does not exist")
    emulator.advance(10)
    assert [ann.predictions.get(one.id).status for one in (official, deployed)] == ["succeeded", "succeeded"]
    assert [one.id for one in ann.trainings.list()] == [training.id]
    assert ann.trainings.get(training.id).status == "succeeded"
    assert ann.trainings.cancel(training.id).status == "succeeded"
    assert len(ann.predictions.list()) == 2


# ------------------------------------------------------------------------------------------------ cancels and limits


def test_cancel_before_and_while_it_runs(emulator: ReplicateEmulator) -> None:
    emulator.play(TRAINER, LONG)
    early = start(emulator)
    early.cancel()
    late = start(emulator)
    emulator.advance(40)
    late.cancel()
    assert (early.status, late.status, late.logs) == ("canceled", "canceled", "begun\n")
    emulator.advance(3000)
    late.cancel()
    assert (late.status, late.metrics["predict_time"]) == ("canceled", 40.0)
    assert [(charge.status, charge.seconds) for charge in emulator.charges] == [("canceled", 0.0), ("canceled", 40.0)]


def test_a_cancel_that_takes_its_time_races_with_the_end(emulator: ReplicateEmulator) -> None:
    emulator.conduct.cancel_s = 30
    emulator.play(TRAINER, [Step(after_s=50)])
    ends = []
    for cancelled_at in (10, 40):
        run = start(emulator)
        emulator.advance(cancelled_at)
        run.cancel()
        assert run.status == "processing"
        emulator.advance(100)
        run.reload()
        ends.append((run.status, run.metrics["predict_time"]))
    assert ends == [("canceled", 40.0), ("succeeded", 50.0)]


def test_cancel_after(emulator: ReplicateEmulator) -> None:
    """A deadline while it waits aborts it at no cost; one while it runs cancels it, and the time is charged."""
    emulator.play(TRAINER, LONG)
    body = {"version": TRAINER_VERSION, "input": {}}
    with plain(emulator) as http:
        made = [http.post("/v1/predictions", json=body, headers={"Cancel-After": "2m30s"}).json() for _ in range(2)]
    assert {datetime.fromisoformat(one["deadline"]).timestamp() for one in made} == {NOW + 150}
    emulator.advance(149)
    assert statuses(emulator) == ["processing", "starting"]
    emulator.advance(1)
    assert statuses(emulator) == ["canceled", "aborted"]
    assert [charge.seconds for charge in emulator.charges] == [150.0, 0.0]
    with pytest.raises(ValueError, match="status"):  # client 1.0 does not know the word
        client(emulator).predictions.get(made[1]["id"])


def test_replicate_gives_up_what_has_not_begun(emulator: ReplicateEmulator) -> None:
    emulator.play(TRAINER, LONG)
    first, second = start(emulator), start(emulator)
    emulator.advance(1)
    emulator.abort(second.id)
    with pytest.raises(ValueError, match="starting"):
        emulator.abort(first.id)
    assert statuses(emulator) == ["processing", "aborted"]


def test_thirty_minutes_are_the_limit(emulator: ReplicateEmulator) -> None:
    emulator.play(TRAINER, LONG)
    run = start(emulator)
    emulator.advance(1799)
    assert statuses(emulator) == ["processing"]
    emulator.advance(1)
    run.reload()
    assert (run.status, run.error, run.metrics["predict_time"]) == ("failed", TIMED_OUT, 1800.0)


def test_queue_boot_and_one_worker_a_version(emulator: ReplicateEmulator) -> None:
    emulator.conduct.queue_s, emulator.conduct.boot_s, emulator.conduct.idle_s = 5, 100, 60
    emulator.play(TRAINER, [Step(after_s=30)])
    start(emulator)
    start(emulator)
    other = client(emulator).predictions.create(model=HELLO, input={"text": "x"})
    emulator.advance(104)
    assert statuses(emulator) == ["starting"] * 3
    emulator.advance(2)
    assert statuses(emulator) == ["processing", "starting", "succeeded"]
    emulator.advance(30)
    assert statuses(emulator) == ["succeeded", "processing", "succeeded"]
    emulator.advance(30 + 61)
    start(emulator)
    emulator.advance(104)
    assert emulator.predictions[-1].status is Status.STARTING
    emulator.advance(100)
    times = [(one.started_at or 0) - one.created_at for one in emulator.predictions]
    assert times == [105.0, 135.0, 105.0, 105.0]
    assert sum(charge.seconds for charge in emulator.charges) == 30 + 30 + 1 + 30
    assert other.id == emulator.predictions[2].id


def test_a_set_up_that_fails(emulator: ReplicateEmulator) -> None:
    def play(job: Job) -> Iterator[Step]:
        raise SetupFailed("no weights")
        yield Step()

    emulator.play(TRAINER, play)
    start(emulator)
    run = start(emulator)
    emulator.advance(1)
    run.reload()
    assert (run.status, run.error, run.started_at) == ("failed", "no weights", None)
    assert [charge.usd for charge in emulator.charges] == [0.0, 0.0]


def test_after_an_hour_the_data_are_gone(emulator: ReplicateEmulator) -> None:
    emulator.play(TRAINER, [Step(after_s=10, log="x\n", output=[OutputFile(name="w.bin", content=b"w"), "text"])])
    run = start(emulator)
    emulator.advance(10)
    run.reload()
    address, text = run.output
    assert text == "text"
    emulator.advance(3599)
    assert fetched(address).status_code == 200
    emulator.advance(1)
    told = plain(emulator).get(f"/v1/predictions/{run.id}").json()
    assert (told["data_removed"], told["output"], told["logs"], told["input"]) == (True, None, "", {})
    assert (told["status"], told["metrics"]["predict_time"]) == ("succeeded", 10.0)
    assert fetched(address).status_code == 404


def test_without_credit_nothing_begins(emulator: ReplicateEmulator) -> None:
    emulator.conduct.credit_usd = 0.05
    emulator.play(TRAINER, [Step(after_s=60)])
    start(emulator)
    emulator.advance(100)
    with pytest.raises(ReplicateError) as told:
        start(emulator)
    assert (told.value.status, len(emulator.predictions)) == (402, 1)
    client(emulator, "r8_bob").predictions.create(version=TRAINER_VERSION, input={})


# ------------------------------------------------------------------------------------------------- lists and accounts


def test_lists_are_paged_newest_first(emulator: ReplicateEmulator) -> None:
    emulator.conduct.page_size = 2
    made = []
    for _ in range(5):
        made.append(start(emulator).id)
        emulator.advance(10)
    ann = client(emulator)
    first = ann.predictions.list()
    second = ann.predictions.list(first.next)
    third = ann.predictions.list(second.next)
    pages = [[one.id for one in page] for page in (first, second, third)]
    assert pages == [made[4:2:-1], made[2:0:-1], made[:1]]
    assert (first.previous, third.next) == (None, None)
    assert [one.id for one in ann.predictions.list(third.previous)] == pages[1]
    between = {"created_after": "2026-05-28T20:26:50Z", "created_before": "2026-05-28T20:27:10Z"}
    with plain(emulator) as http:
        found = http.get("/v1/predictions", params=between).json()["results"]
    assert [one["id"] for one in found] == made[2:0:-1]
    assert client(emulator, "r8_bob").predictions.list().results == []


def test_another_account_has_none_of_it(emulator: ReplicateEmulator) -> None:
    run = start(emulator)
    file = client(emulator).files.create(io.BytesIO(b"x"))
    with plain(emulator, "r8_bob") as bob:
        asked = (
            bob.get(f"/v1/predictions/{run.id}"), bob.post(f"/v1/predictions/{run.id}/cancel"),
            bob.get(f"/v1/files/{file.id}"), bob.delete(f"/v1/files/{file.id}"), bob.get(f"/v1/trainings/{run.id}"),
        )  # fmt: skip
    assert [one.status_code for one in asked] == [404] * 5
    assert (statuses(emulator), len(emulator.files("ann"))) == (["starting"], 1)


# ---------------------------------------------------------------------------------------------------- another engine


class Patient:
    """An engine that does nothing by itself: the test holds its reports."""

    def __init__(self) -> None:
        self.reports: dict[str, Report] = {}
        self.cancelled: list[str] = []

    def start(self, job: Job, report: Report) -> None:
        report.begin()
        report.log("ready\n")
        self.reports[job.id] = report

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)

    def close(self) -> None:
        self.cancelled.append("all")


def test_an_engine_of_ones_own() -> None:
    engine = Patient()
    with replicate_emulator(ACCOUNTS, clock=ManualClock(NOW), engine=engine) as emulator:
        done, cancelled = (
            start(emulator),
            client(emulator, "r8_bob").predictions.create(model=HELLO, input={"text": "x"}),
        )
        emulator.advance(3)
        engine.reports[done.id].output("w")
        engine.reports[done.id].succeed()
        engine.reports[done.id].fail("too late")
        engine.reports[done.id].log("too late\n")
        done.reload()
        assert (done.status, done.output, done.logs) == ("succeeded", "w", "ready\n")
        cancelled.cancel()
        assert cancelled.id in engine.cancelled
    assert engine.cancelled[-1] == "all"
