"""A model brought to a folder of one's own: by a widget's job, in process, and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab import cli
from simpletuner_lab.core.destination import HOME, HubDestination, S3Destination, Sender
from simpletuner_lab.core.errors import InvalidRequest, OutputChanged
from simpletuner_lab.downloading import download
from simpletuner_lab.services.front import InProcess
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.views import OutputView
from simpletuner_lab.submission import where
from simpletuner_lab.widgets import job
from tests.lab_kit import dataset, quick_home, settled, submitted

LORA = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloading")


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[Lab]:
    with Lab.open(quick_home(folder).root) as opened:
        opened.watcher.start()
        yield opened


@pytest.fixture(scope="module")
def job_id(lab: Lab, folder: Path) -> str:
    return settled(lab, submitted(lab, dataset(folder / "images"))).id


def test_a_job_brings_its_files(lab: Lab, job_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got = job(job_id, client=InProcess(lab)).download(tmp_path / "here")
    assert got.verified
    assert {path.name for path in got} == {LORA, "manifest.json"}
    assert (tmp_path / "here" / LORA).read_bytes() == b"lora"
    assert "2 files" in capsys.readouterr().out


def test_a_file_that_is_written_meanwhile_is_an_error(lab: Lab, job_id: str, tmp_path: Path) -> None:
    own = Path(InProcess(lab).outputs(job_id).folder, "extra.bin")
    own.write_bytes(bytes(3 << 20))

    def spoil(_: OutputView, done: int) -> None:
        if done == 1 << 20:
            own.write_bytes(b"x" * (3 << 20))

    with pytest.raises(OutputChanged):
        list(download(InProcess(lab), job_id, tmp_path, paths=["extra.bin"], told=spoil))
    assert not (tmp_path / "extra.bin").exists()
    own.unlink()


def test_on_the_command_line(
    lab: Lab, job_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIMPLETUNER_HOME", str(lab.home.root))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    words = ("download", job_id, LORA, "--to", str(tmp_path / "there"), "--json")
    for kept in (False, True):
        assert cli.main(words) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["verified"], told["bytes"], Path(told["path"]).read_bytes()) == (True, 4, b"lora"), kept
    assert cli.main(("download", job_id, "nothing")) == 1
    assert "no output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (None, None),
        ("home", HOME),
        ("hub:ann/neon", HubDestination(repo_id="ann/neon")),
        ("s3://models/loras", S3Destination(bucket="models", prefix="loras/")),
        ({"kind": "hub", "repo_id": "a/b", "sender": "trainer"}, HubDestination(repo_id="a/b", sender=Sender.TRAINER)),
    ],
)
def test_a_destination_in_short_or_in_full(told: object, meant: object) -> None:
    assert where(told) == meant  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "told", ["mars", {"kind": "mars"}, {"kind": "hub"}, {"kind": "hub", "repo_id": "a/b", "token": "x"}]
)
def test_what_is_no_destination_is_refused(told: object) -> None:
    with pytest.raises(InvalidRequest):
        where(told)  # type: ignore[arg-type]
