"""The predictor under a real Cog server: one prediction is one attempt, and nothing of it stays."""

from __future__ import annotations

import io
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.replicate_emulator import REDACTED, CogEngine, cog_model, replicate_emulator
from simpletuner_lab.testing.storage_server import StorageServer, storage_server
from simpletuner_trainer.report import Steps, parse_line
from tests import quick_trainer
from tests.disk_kit import mounted
from tests.testing.replicate_kit import ACCOUNTS, client
from tests.trainer.cog_kit import NONCE, TRAINER, Served, model_folder, packed, secrets_of, serving, spec
from tests.trainer.trainer_kit import CONFIG, make_pictures

NUMBERS = itertools.count()
HOSTILE = f"""
import os, sys
out = sys.stdout.buffer
out.write(b"a caption \\xff\\x00\\x1b[31m \\xf0\\x9f\\x90\\x88\\n::st {"0" * 16} {{}}\\r\\n")
out.write(b"long " + b"x" * 2_000_000 + b"\\nkeys: " + ":".join(map(os.environ.get, sorted(n for n in os.environ if "KEY" in n))).encode())
out.write(b"\\nnames: " + " ".join(sorted(os.environ)).encode() + b"\\n::st {NONCE} ")
out.write(b'{{"kind": "error", "code": "bad_data", "message": "picture 3 is torn", "hint": "take it out"}}\\n')
out.write(b"no newline")
out.flush()
sys.exit(3)
"""
GREEDY = f"""
import json, os, sys
spec = json.load(open(sys.argv[1]))
print("it begins", flush=True)
with open(os.path.join(spec["work_dir"], "all"), "wb", buffering=0) as file:
    try:
        while file.write(b"x" * 65536):
            pass
    except OSError as error:
        told = {{"kind": "error", "code": "disk_full", "message": f"no room left: {{error.strerror}}", "hint": "train less"}}
        print("::st {NONCE} " + json.dumps(told), flush=True)
sys.exit(1)
"""
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", sys.argv[1]])
print("deaf", child.pid, flush=True)
time.sleep(300)
"""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageServer]:
    with storage_server(tmp_path_factory.mktemp("storage")) as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, Any]]:
    return packed(make_pictures(tmp_path_factory.mktemp("data") / "pictures", 3))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The quick trainer."""
    folder = tmp_path_factory.mktemp("cog")
    main = Path(quick_trainer.__file__).read_text("utf-8")
    with serving(model_folder(folder / "model", main), folder / "scratch", HF_TOKEN="hf_of_the_machine") as running:
        yield running


def inputs(storage: StorageServer, data: tuple[bytes, dict[str, Any]], how: str, **more: Any) -> dict[str, Any]:
    given = spec(storage, {"tracker_run_name": how, "max_train_steps": 300}, data=data[1], **more)
    return {"data": data[0], "spec": given, "secrets": secrets_of(storage.issue("j-1")), "tag": "j-1/1"}


# ------------------------------------------------------------------------------------------------------------- it ends


def test_it_trains_and_delivers_and_nothing_stays(
    served: Served, storage: StorageServer, data: tuple[bytes, dict[str, Any]]
) -> None:
    given = inputs(storage, data, "quick")
    assert served.put("done", **given).status_code == 202
    end = served.end("done")
    assert (end["status"], json.loads(end["output"])) == ("succeeded", {"exit_code": 0, "ended": "done"})
    assert "unpacked 6 files\n" in end["logs"]
    assert f"::st {NONCE} " in end["logs"]
    assert {key for _, key, _ in storage.stored} >= {"j-1/pytorch_lora_weights.safetensors", "j-1/manifest.json"}
    assert served.nothing_is_left()
    said = served.server_log + "".join(json.dumps(told) for told in served.told("done"))
    assert [name for name, secret in given["secrets"].items() if secret in said] == []


def test_a_failure_is_told_in_its_own_words(
    served: Served, storage: StorageServer, data: tuple[bytes, dict[str, Any]]
) -> None:
    served.put("crash", **inputs(storage, data, "crash"))
    end = served.end("crash")
    assert end["status"] == "failed"
    assert end["error"].endswith("the loss is not a number at step 5 (lower the learning rate)")
    served.put("killed", **inputs(storage, data, "die-once"))
    assert served.end("killed")["error"].endswith("RuntimeError: the trainer was killed by signal 9")
    assert served.nothing_is_left()


def test_what_a_trainer_prints_breaks_nothing_and_tells_no_secret(tmp_path: Path, storage: StorageServer) -> None:
    """Half characters, a line of two megabytes, a forged report, the keys themselves, and no token of the machine."""
    secrets = secrets_of(storage.issue("j-1"))
    with serving(model_folder(tmp_path / "m", HOSTILE), tmp_path / "s", REPLICATE_API_KEYS="of the machine") as served:
        served.put("hostile", spec=spec(storage, {}), secrets=secrets)
        end = served.end("hostile")
        assert end["error"].endswith("picture 3 is torn (take it out)")
        lines = end["logs"].splitlines()
        assert lines[0].startswith("a caption \ufffd\x00\x1b[31m \N{CAT}")
        assert 250_000 < len(lines[2]) < 400_000
        assert lines[3] == "keys: [REDACTED]:[REDACTED]"
        assert "TMPDIR" in lines[4]
        assert "REPLICATE" not in lines[4]
        assert lines[-1] == "no newline"
        assert not any(secret in served.server_log for secret in secrets.values())


# ------------------------------------------------------------------------------------------------------------ its input


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"spec": "{"}, "spec is not JSON"),
        ({"spec": "[]"}, "spec is not a JSON object"),
        ({"destination": None}, "spec.destination"),
        ({"destination": {"kind": "folder", "path": "/tmp"}}, "spec.destination"),
        ({"data": b"PK"}, "data and spec.data go together"),
        ({"secrets": "hf_hidden"}, "secrets is not JSON"),
        ({"secrets": {"PATH": "/hidden"}}, "secrets has PATH"),
        ({"secrets": {"HF_TOKEN": 5}}, "secrets is not a JSON object of texts"),
    ],
    ids=["half", "list", "no-destination", "folder", "data-alone", "no-json", "path", "number"],
)
def test_an_input_that_is_wrong_is_said_to_be(
    served: Served, storage: StorageServer, wrong: dict[str, Any], word: str
) -> None:
    own = {name: value for name, value in wrong.items() if name == "destination"}
    given = {"spec": spec(storage, {}, **own), **{name: one for name, one in wrong.items() if name != "destination"}}
    run = f"wrong{next(NUMBERS)}"
    served.put(run, **given)
    end = served.end(run)
    assert (end["status"], word in end["error"], "hidden" in json.dumps(end)) == ("failed", True, False)
    assert served.nothing_is_left()


def test_cog_refuses_what_the_schema_has_not(served: Served) -> None:
    answer = served.put("refused", tag="j-1/1")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "input", "spec"]
    assert served.put("refused", spec=5).status_code == 422


# ----------------------------------------------------------------------------------------------------- while it runs


def test_lines_arrive_while_it_runs_and_a_cancel_ends_all(
    served: Served, storage: StorageServer, data: tuple[bytes, dict[str, Any]]
) -> None:
    served.put("live", **inputs(storage, data, "wait"))
    eventually(lambda: served.log("live"), lambda log: log.endswith("waiting\n"))
    assert {told["status"] for told in served.told("live")} == {"processing"}
    assert served.processes()
    assert served.cancel("live") == 200
    assert served.end("live")["status"] == "canceled"
    eventually(served.nothing_is_left)
    served.put("after", **inputs(storage, data, "quick"))
    assert served.end("after")["status"] == "succeeded"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_is_gone_leaves_neither_trainer_nor_data(
    tmp_path: Path, storage: StorageServer, data: tuple[bytes, dict[str, Any]], number: signal.Signals
) -> None:
    main = Path(quick_trainer.__file__).read_text("utf-8")
    with serving(model_folder(tmp_path / "model", main), tmp_path / "scratch") as served:
        served.put("gone", **inputs(storage, data, "steady"))
        eventually(lambda: "step 2 of" in served.log("gone"))
        served.coglet.process.send_signal(number)
        eventually(served.nothing_is_left)


@pytest.mark.slow
def test_a_full_disk_is_told_and_cleared_away(
    tmp_path: Path, storage: StorageServer, data: tuple[bytes, dict[str, Any]]
) -> None:
    with (
        mounted(tmp_path / "small", "8m") as place,
        serving(model_folder(tmp_path / "model", GREEDY), place / "scratch") as served,
    ):
        served.put("full", **inputs(storage, data, "quick"))
        end = served.end("full")
        assert (end["status"], "no room left: No space left on device (train less)" in end["error"]) == ("failed", True)
        eventually(served.nothing_is_left)


# --------------------------------------------------------------------------------------------------- through Replicate


def test_a_job_goes_through_the_emulated_replicate(
    tmp_path: Path, storage: StorageServer, data: tuple[bytes, dict[str, Any]]
) -> None:
    """The data by a signed address, the secrets told to nobody, the end as the provider reads it."""
    name = "ann/simpletuner-trainer"
    folder = model_folder(tmp_path / "model", Path(quick_trainer.__file__).read_text("utf-8"))
    model, engine = cog_model(name, TRAINER), CogEngine({name: folder})
    with replicate_emulator(ACCOUNTS, models=[model], engine=engine) as emulator:
        ann = client(emulator)
        file = ann.files.create(io.BytesIO(data[0]), filename="data.zip")
        given = {
            key: json.dumps(one) if isinstance(one, dict) else one
            for key, one in inputs(storage, data, "quick").items()
        }
        run = ann.predictions.create(version=model.versions[0].id, input={**given, "data": file.urls["get"]})

        def look() -> str:
            run.reload()
            return run.status

        eventually(look, lambda status: status in {"succeeded", "failed"}, patience_s=60)
        assert (run.error, json.loads(run.output)) == (None, {"exit_code": 0, "ended": "done"})
        assert "unpacked 6 files\n" in run.logs
        assert (run.input["secrets"], run.input["tag"]) == (REDACTED, "j-1/1")
        assert not list(engine.scratch.rglob("data.zip"))


# ---------------------------------------------------------------------------------------------------------- the keeper


@pytest.mark.parametrize("how", ["closed", "terminated"])
def test_a_trainer_that_does_not_hear_is_killed_with_its_children(tmp_path: Path, how: str) -> None:
    folder = model_folder(tmp_path / "model", STUBBORN)
    run = tmp_path / "tmp" / "run"
    run.mkdir(parents=True)
    (run / "spec.json").write_text("{}")
    keeper = subprocess.Popen(
        [sys.executable, str(TRAINER / "keeper.py"), str(run), "0.2"], env={"PYTHONPATH": str(folder)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    seen = Served(None, tmp_path, None)  # type: ignore[arg-type]
    assert keeper.stdout.readline().startswith(b"deaf")
    assert len(seen.processes()) == 3
    if how == "closed":
        keeper.stdin.close()
    else:
        keeper.terminate()
    assert keeper.wait(20) == (128 + signal.SIGKILL if how == "closed" else 128 + signal.SIGTERM)
    eventually(lambda: not seen.processes())
    assert not run.exists()
    keeper.stdout.close()


# -------------------------------------------------------------------------------------------------------- the real trainer


def steps(log: str) -> list[Steps]:
    """As a reader of the log sees them."""
    return [told for line in log.splitlines() if isinstance(told := parse_line(line, nonce=NONCE), Steps)]


def losses(log: str) -> dict[int, float]:
    return {step: loss for told in steps(log) for step, loss in zip(told.step, told.loss, strict=True)}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_segments_end_as_one_run_does(tmp_path: Path, storage: StorageServer, micro_base: Path) -> None:
    """Each is a prediction that ends at its deadline with a checkpoint, in an empty folder; the next goes on from there."""
    content, named = packed(make_pictures(tmp_path / "pictures"))
    config = {
        **CONFIG,
        "pretrained_model_name_or_path": str(micro_base),
        "max_train_steps": 60,
        "checkpoint_step_interval": 20,
    }

    def run(served: Served, job: str, attempt: int, deadline_s: float | None) -> tuple[dict[str, Any], str]:
        given = spec(storage, config, data=named, job_id=job, attempt=attempt, deadline_s=deadline_s)
        given["destination"]["prefix"] = f"{job}/"
        name = f"{job}-{attempt}"
        served.put(
            name, data=content, spec=given, secrets=secrets_of(storage.issue(job, attempt)), tag=f"{job}/{attempt}"
        )
        end = served.end(name, patience_s=300)
        assert end["status"] == "succeeded", end
        assert served.nothing_is_left()
        return end, json.loads(end["output"])["ended"]

    with serving(TRAINER, tmp_path / "scratch", OMP_NUM_THREADS="1") as served:
        whole, ended = run(served, "whole", 1, None)
        assert ended == "done"
        last = whole
        for job, share in (("parts", 0.25), ("more", 0.2), ("again", 0.15), ("once-more", 0.1)):
            # a machine that has become faster meanwhile, or starts a process sooner, needs fewer: then shorter ones
            trained_s = sum(one.step_s * len(one.step) for one in steps(last["logs"]))
            startup_s = last["metrics"]["predict_time"] - trained_s
            done = len(losses(last["logs"])) / 60
            deadline_s = max(5.0, (startup_s + share * trained_s / done) / 0.9)
            parts: dict[int, float] = {}
            ends = []
            while "done" not in ends:
                last, ended = run(served, job, len(ends) + 1, deadline_s)
                parts |= losses(last["logs"])
                ends.append(ended)
            assert parts == losses(whole["logs"])
            if len(ends) >= 3:
                break
    assert len(parts) == 60
    assert ends == [*["deadline"] * (len(ends) - 1), "done"]
    assert len(ends) >= 3
