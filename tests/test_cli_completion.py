"""Completion in a shell, as argcomplete's script asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simpletuner_lab.client import connect
from simpletuner_lab.submission import request_of
from simpletuner_lab.testing import eventually
from tests.lab_kit import config, dataset, quick_home

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and a home that does not exist yet."""
    monkeypatch.setenv("SIMPLETUNER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(line: str) -> list[str]:
    """What a shell is given for a line with the cursor at its end."""
    out = Path("offered")
    out.unlink(missing_ok=True)
    script = Path(sys.executable).with_name("stcloud")
    asking = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(out.absolute())}
    asking |= {"COMP_LINE": line, "COMP_POINT": str(len(line.encode())), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    done = subprocess.run([script], env=os.environ | asking, capture_output=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == (b"", b""), "completion is silent"
    return sorted(out.read_text().split("\n")) if out.stat().st_size else []


def in_time(line: str) -> list[str]:
    """The same, where the lab is asked: a lookup is given up after three seconds, which a busy machine may need."""
    return eventually(lambda: offered(line), bool, patience_s=60)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("stcloud jo", ["job", "jobs"]),
        ("stcloud jobs --sta", ["--state"]),
        ("stcloud jobs --state=ru", ["--state=running"]),
        ("stcloud jobs --state c", ["cancelled", "completed"]),
        ("stcloud consent ", ["allow", "ask", "never"]),
        ("stcloud submit --name ", []),
        ("stcloud plan ", ["boats/", "c.json"]),
        ("stcloud plan ~/bo", ["~/boats/"]),
        ("stcloud plan c.json --data b", ["boats/"]),
    ],
)
def test_words_files_and_ids(place: Path, line: str, words: list[str]) -> None:
    (place / "boats").mkdir()
    (place / "c.json").touch()
    (place / "notes.md").touch()
    assert offered(line) == words


def test_ids_of_providers(place: Path) -> None:
    quick_home(place)
    connect().lab.close()  # type: ignore[attr-defined]
    found = in_time("stcloud submit --provider ")
    assert ("local" in found, "simpletuner_io" in found) == (True, False), "none that is only announced"


def test_ids_of_jobs_come_from_the_lab_as_it_is(place: Path) -> None:
    assert offered("stcloud logs ") == []
    assert not (place / "home").exists(), "asking for words makes nothing"
    quick_home(place)
    lab = connect()
    asked = request_of(config(), dataset(place / "images"))
    job = lab.submit(asked, approve=lab.plan(asked).digest)
    assert in_time("stcloud logs -f ") == [job.job_id]
    assert in_time(f"stcloud cancel {job.job_id[:3]}") == [job.job_id]
    assert offered("stcloud cancel x") == []


def test_a_lab_that_cannot_be_opened_is_silence(place: Path) -> None:
    (place / "home/cloud").mkdir(parents=True)
    (place / "home/cloud/lab.db").write_text("no database")
    assert offered("stcloud logs ") == []


def test_the_scripts_say_that_they_can() -> None:
    """argcomplete's global completion looks for its mark in the first kilobyte."""
    for name in ("cli.py", "__main__.py"):
        assert "PYTHON_ARGCOMPLETE_OK" in (ROOT / "simpletuner_lab" / name).read_text()[:1024]
    assert "register-python-argcomplete stcloud" in (ROOT / "docs/users.md").read_text()
