"""A model brought to a folder of one's own: by a widget's job, in process, and on the command line."""

from __future__ import annotations

import hashlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab import cli
from simpletuner_lab.core.destination import HOME, HubDestination, S3Destination, Sender
from simpletuner_lab.core.errors import Conflict, DiskFull, InvalidRequest, OutputChanged
from simpletuner_lab.downloading import download
from simpletuner_lab.services.front import InProcess
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.views import OutputView
from simpletuner_lab.submission import where
from simpletuner_lab.widgets import job
from tests.lab_kit import dataset, quick_home, settled, submitted

LORA = "pytorch_lora_weights.safetensors"
PART = f".{LORA}.{hashlib.sha256(b'lora').hexdigest()[:12]}.part"


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


def test_of_two_at_once_into_one_folder_the_second_is_told_so(lab: Lab, job_id: str, tmp_path: Path) -> None:
    refused = []

    def again(_: OutputView, _done: int) -> None:
        with pytest.raises(Conflict, match="another download is writing"):
            list(download(InProcess(lab), job_id, tmp_path, paths=[LORA]))
        refused.append(True)

    (got,) = download(InProcess(lab), job_id, tmp_path, paths=[LORA], told=again)
    assert refused
    assert (got.verified, got.path.read_bytes()) == (True, b"lora")
    assert [path.name for path in tmp_path.iterdir()] == [LORA]


def test_no_room_is_told_and_the_next_download_goes_through(lab: Lab, job_id: str, tmp_path: Path) -> None:
    own = Path(InProcess(lab).outputs(job_id).folder, "extra.bin")
    own.write_bytes(bytes(3 << 20))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, hard))
    try:
        with pytest.raises(DiskFull, match=r"no room for .*extra\.bin") as told:
            list(download(InProcess(lab), job_id, tmp_path, paths=["extra.bin"]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free some space" in told.value.hint
    (got,) = download(InProcess(lab), job_id, tmp_path, paths=["extra.bin"])
    assert got.path.read_bytes() == own.read_bytes()
    own.unlink()


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("file", "should be a folder"),
        ("file/below", "should be a folder"),
        ("taken", "is a folder"),
        ("/proc/x", "cannot"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(lab: Lab, job_id: str, tmp_path: Path, to: str, says: str) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "taken" / LORA).mkdir(parents=True)
    with pytest.raises(InvalidRequest, match=says) as told:
        list(download(InProcess(lab), job_id, tmp_path / to, paths=[LORA]))
    assert str(tmp_path / to) in told.value.message
    assert told.value.hint
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("part", [b"lo", b"xx", b"xxxx", b"longer than the file"])
def test_a_part_is_gone_on_with_or_begun_anew_once(lab: Lab, job_id: str, tmp_path: Path, part: bytes) -> None:
    (tmp_path / PART).write_bytes(part)
    heard: list[int] = []
    (got,) = download(InProcess(lab), job_id, tmp_path, paths=[LORA], told=lambda _, done: heard.append(done))
    assert (got.verified, got.path.read_bytes()) == (True, b"lora")
    assert len(heard) == (2 if part == b"xx" else 1)
    assert not (tmp_path / PART).exists()


def test_nobody_elses_file_is_taken_for_a_part(lab: Lab, job_id: str, tmp_path: Path) -> None:
    own = tmp_path / f"{LORA}.part"
    own.write_bytes(b"mine")
    (got,) = download(InProcess(lab), job_id, tmp_path, paths=[LORA])
    assert (got.path.read_bytes(), own.read_bytes()) == (b"lora", b"mine")


@pytest.mark.parametrize("hard", [False, True])
def test_a_part_that_is_a_link_is_not_followed(lab: Lab, job_id: str, tmp_path: Path, *, hard: bool) -> None:
    own = tmp_path / "own"
    own.write_bytes(b"lo")
    (tmp_path / PART).hardlink_to(own) if hard else (tmp_path / PART).symlink_to(own)
    with pytest.raises(InvalidRequest) as told:
        list(download(InProcess(lab), job_id, tmp_path, paths=[LORA]))
    assert PART in told.value.message
    assert own.read_bytes() == b"lo"


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
