"""`stcloud` in this process: without a server, with one that is found, and with one that is named."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from simpletuner_lab import cli
from simpletuner_lab.client import LabClient, connect
from simpletuner_lab.core.errors import ServerUnreachable
from simpletuner_lab.services.front import InProcess
from simpletuner_lab.services.home import Home
from tests.lab_kit import config, dataset, quick_home
from tests.server.server_kit import TOKEN, Server, free_port


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = quick_home(tmp_path)
    monkeypatch.setenv("SIMPLETUNER_HOME", str(made.root))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return made


@pytest.fixture
def config_file(tmp_path: Path, home: Home) -> Path:
    return written(tmp_path)


def written(folder: Path, how: str = "quick") -> Path:
    """config.json beside dataloader.json beside the images, as a user keeps them."""
    dataset(folder / "images")
    (folder / "dataloader.json").write_text(
        json.dumps([{"id": "set", "type": "local", "instance_data_dir": "images", "caption_strategy": "textfile"}])
    )
    path = folder / "config.json"
    path.write_text(json.dumps(config(how, data_backend_config="dataloader.json")))
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_submit_asks_for_consent_and_takes_a_digest(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "plan", str(config_file))
    assert code == 0
    digest = next(line.split()[1] for line in out.splitlines() if line.strip().startswith("digest"))
    code, _, err = run(capsys, "submit", str(config_file))
    assert (code, "--approve DIGEST" in err, digest[:12] in err) == (3, True, True)
    assert run(capsys, "submit", str(config_file), "--approve", "0" * 64)[0] == 1
    code, out, _ = run(capsys, "submit", str(config_file), "--approve", digest, "--wait")
    assert code == 0
    assert "completed" in out.splitlines()[-1]


def test_the_verbs_of_a_finished_job(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "submit", str(config_file), "--yes", "--wait", "--json")
    assert code == 0
    job_id = json.loads(out.splitlines()[-1])["job_id"]
    assert json.loads(run(capsys, "jobs", "--json")[1])["total"] == 1
    assert job_id in run(capsys, "jobs")[1]
    assert "discarded" in run(capsys, "job", job_id)[1]
    assert "unpacked 6 files" in run(capsys, "logs", job_id)[1]
    assert "pytorch_lora_weights.safetensors" in run(capsys, "outputs", job_id)[1]
    code, _, err = run(capsys, "cancel", job_id)
    assert (code, "already completed" in err) == (1, True)
    assert run(capsys, "delete", job_id)[0] == 0
    assert run(capsys, "job", job_id, "--json")[0] == 1
    assert run(capsys, "providers")[1].startswith("local")
    assert run(capsys, "consent", "never")[1] == "never\n"


def test_a_job_that_fails_has_its_own_exit_code(tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "submit", str(written(tmp_path, "crash")), "--yes", "--wait")
    assert (code, "not a number" in out) == (4, True)


def test_a_job_that_fails_at_once_is_not_called_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk with room for the database and none for the archive."""
    place = tmp_path / "home"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], check=True)
    try:
        monkeypatch.setenv("SIMPLETUNER_HOME", str(quick_home(tmp_path).root))
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
        code, out, _ = run(capsys, "submit", str(written(tmp_path)), "--yes")
        assert (code, "submitted:" in out, "failed" in out) == (4, False, True)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_cancel_without_a_server_reaches_the_trainer(
    tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "submit", str(written(tmp_path, "wait")), "--yes", "--json")
    job_id = json.loads(out.splitlines()[-1])["job_id"]
    assert run(capsys, "cancel", job_id)[0] == 0
    assert run(capsys, "logs", "-f", job_id)[0] == 4
    assert json.loads(run(capsys, "job", job_id, "--json")[1])["job"]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "config.json").unlink(), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "JSON object"),
        (lambda folder: (folder / "dataloader.json").write_text("{}"), "JSON list"),
        (lambda folder: (folder / "config.json").write_text(json.dumps(config())), "no dataloader"),
        (
            lambda folder: (folder / "config.json").write_text(
                json.dumps(config(lora_rnak=1, data_backend_config="dataloader.json"))
            ),
            "lora_rank",
        ),
        (lambda folder: [path.unlink() for path in (folder / "images").iterdir()], "image"),
    ],
)
def test_bad_input(config_file: Path, capsys: pytest.CaptureFixture[str], spoil, told: str) -> None:
    spoil(config_file.parent)
    code, out, err = run(capsys, "submit", str(config_file), "--yes")
    assert (code, out) == (1, "")
    assert told in err
    assert "Traceback" not in err


def test_a_running_server_of_this_home_is_found(
    tmp_path: Path, home: Home, config_file: Path, monkeypatch, capsys
) -> None:
    server = Server(tmp_path, home.root, "/user/ann/").start()
    try:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter/runtime"))
        client = connect()
        assert isinstance(client, LabClient)
        client.close()
        code, out, _ = run(capsys, "submit", str(config_file), "--yes", "--wait")
        assert (code, "completed" in out) == (0, True)
        monkeypatch.setenv("SIMPLETUNER_HOME", str(tmp_path / "another"))
        assert isinstance(connect(), InProcess)  # it serves another home
        monkeypatch.setenv("JUPYTER_TOKEN", TOKEN)
        assert run(capsys, "jobs", "--url", server.url)[0] == 0
        monkeypatch.setenv("JUPYTER_TOKEN", "wrong")
        code, _, err = run(capsys, "jobs", "--url", server.url)
        assert (code, "Forbidden" in err) == (1, True)
    finally:
        server.stop()


def test_what_a_run_cost_is_said_by_hand(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """One of the original's, whose history does not tell it."""
    began = {"provider": "replicate", "status": "completed", "job_type": "cloud", "started_at": "2026-01-01T10:00:00Z"}
    home.job_history.write_text(json.dumps({"jobs": [{"job_id": "abc1"} | began]}))
    code, out, _ = run(capsys, "cost", "abc1", "2.5")
    assert (code, out) == (0, "job abc1 has cost $2.50: 1 run booked as you say\n")
    code, out, _ = run(capsys, "cost", "abc1", "3")
    assert (code, out) == (0, "job abc1 has cost $3.00: 1 run booked as you say\n"), "said anew"
    code, _, err = run(capsys, "cost", "abc1", "nan")
    assert (code, "nan is no amount of US dollars" in err) == (1, True)


def test_a_named_server_that_is_not_there(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ServerUnreachable):
        connect(f"http://127.0.0.1:{free_port()}/")
    assert run(capsys, "jobs", "--url", f"http://127.0.0.1:{free_port()}/")[0] == 1
