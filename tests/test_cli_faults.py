"""What `stcloud` says where its answer cannot go anywhere, where a server does not know it, and where a snapshot waits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simpletuner_lab.services.home import Home
from tests.server.server_kit import TOKEN, Server
from tests.test_cli import config_file, home, run

__all__ = ["config_file", "home"]  # the fixtures

STCLOUD = f"exec {sys.executable} -m simpletuner_lab"


@pytest.mark.parametrize("words", ["spend", "jobs --json", "openapi"])
@pytest.mark.parametrize(
    ("where", "told"),
    [
        (">/dev/full", "standard output cannot be written: No space left on device"),
        (">&-", "standard output is closed"),
    ],
)
def test_an_answer_that_goes_nowhere_is_a_line(home: Home, words: str, where: str, told: str) -> None:
    ended = subprocess.run(["sh", "-c", f"{STCLOUD} {words} {where}"], capture_output=True, text=True, timeout=60)
    said = (
        json.loads(ended.stderr)["detail"] if "--json" in words else ended.stderr.removeprefix("stcloud: ").rstrip("\n")
    )
    assert (ended.returncode, said, ended.stderr.count("\n")) == (1, told, 1)


def test_nothing_is_done_of_which_nobody_would_hear(
    config_file: Path, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"{STCLOUD} submit {config_file} --yes >&-"
    assert subprocess.run(["sh", "-c", command], capture_output=True, timeout=60).returncode == 1
    assert json.loads(run(capsys, "jobs", "--json")[1])["total"] == 0


def test_a_server_that_does_not_know_us_is_told_with_the_way_in(
    tmp_path: Path, home: Home, config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(tmp_path, home.root, "/").start()
    try:
        monkeypatch.delenv("JUPYTER_TOKEN", raising=False)
        for words in (["jobs"], ["plan", str(config_file)], ["consent", "allow"]):
            code, _, err = run(capsys, *words, "--url", server.url)
            assert (code, "set JUPYTER_TOKEN to the server's token" in err) == (1, True), err
        monkeypatch.setenv("JUPYTER_TOKEN", "wrong")
        code, _, err = run(capsys, "jobs", "--url", server.url)
        assert (code, "is JUPYTER_TOKEN the token of this very server?" in err) == (1, True), err
        monkeypatch.setenv("JUPYTER_TOKEN", TOKEN)
        code, _, err = run(capsys, "job", "none", "--url", server.url)
        assert (code, "JUPYTER_TOKEN" in err) == (1, False), err
    finally:
        server.stop()


def test_deny_is_never(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "consent", "deny")[:2] == (0, "never\n")
    assert json.loads(run(capsys, "consent", "--json")[1]) == {"consent": "never"}


def test_a_job_says_why_its_snapshot_waits(config_file: Path, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    first = json.loads(run(capsys, "submit", str(config_file), "--yes", "--wait", "--json")[1].splitlines()[-1])[
        "job_id"
    ]
    assert "snapshot" not in run(capsys, "job", first)[1]
    branch = home.snapshots / "refs" / "heads" / "main"
    good = branch.read_bytes()
    branch.chmod(0o600)
    branch.write_bytes(b"no commit\n")
    second = json.loads(run(capsys, "submit", str(config_file), "--yes", "--wait", "--json")[1].splitlines()[-1])[
        "job_id"
    ]
    code, out, _ = run(capsys, "job", second)
    assert (code, "  its snapshot waits: " in out.splitlines()[-1], "cannot be used" in out) == (0, True, True)
    branch.write_bytes(good)
    assert "snapshot waits" not in run(capsys, "job", second)[1]
