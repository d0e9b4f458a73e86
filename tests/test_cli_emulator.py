"""`stcloud emulator`: a process that says what a lab has to be told, and leaves nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import replicate

from simpletuner_lab import cli
from simpletuner_lab.commands.tree import build_parser
from simpletuner_lab.testing.listening import HOST
from simpletuner_lab.testing.replicate_emulator.training_play import TRAINER


@contextmanager
def emulator(folder: Path, *words: str, ended_by: signal.Signals) -> Iterator[str]:
    """What it printed once it was ready; over after the block, without a word, and with nothing left behind."""
    command = [sys.executable, "-m", "simpletuner_lab", "emulator", "--port", "0", *words]
    environment = os.environ | {"HOME": str(folder), "TMPDIR": str(folder)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            lines = [process.stdout.readline()]
            while "--json" not in words and "--forget-token" not in lines[-1]:
                lines.append(process.stdout.readline())
                assert process.poll() is None
            yield "".join(lines)
            process.send_signal(ended_by)
            assert process.wait(10) == 0
            rest = {"stdout": process.stdout.read(), "stderr": process.stderr.read()}
            assert rest == {"stdout": "", "stderr": ""}
        finally:
            process.kill()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_the_address_and_the_token_are_those_of_an_account(tmp_path: Path, ended_by: signal.Signals) -> None:
    with emulator(tmp_path, "--json", ended_by=ended_by) as said:
        told = json.loads(said)
        assert told["settings"] == {"base_url": told["url"], "image": TRAINER}
        client = replicate.Client(api_token=told["token"], base_url=told["url"])
        assert client.accounts.current().username == told["account"]
        assert client.models.get(TRAINER).latest_version is not None
        billing = httpx.get(f"{told['url']}/_emu/billing", headers={"Authorization": f"Bearer {told['control_token']}"})
        assert billing.json()["total_usd"] == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(told["url"])


def test_a_person_is_told_every_step(tmp_path: Path) -> None:
    with emulator(tmp_path, "--token", "r8_mine", ended_by=signal.SIGINT) as said:
        url = re.search(rf"at (http://{re.escape(HOST)}:\d+) until Ctrl-C", said)
        assert url
        assert f"stcloud provider replicate --set base_url={url[1]} --set image={TRAINER}" in said
        assert "echo r8_mine | stcloud provider replicate --token" in said
        assert "public_url" in said
        commands = [shlex.split(line.rpartition("| ")[2])[1:] for line in said.splitlines() if " stcloud " in line]
        assert [build_parser().parse_args(words).command for words in commands] == [
            "provider",
            "provider",
            "submit",
            "jobs",
            "provider",
        ]
        answer = httpx.get(f"{url[1]}/v1/account", headers={"Authorization": "Bearer r8_mine"})
        assert answer.json()["username"] == "ann"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--port", "65536"), "--port is from 0 to 65535"),
        (("--token", "mine"), "a token is r8_"),
        (("--token", "r8_a b c"), "a token is r8_"),
        (("--speed", "0"), "--speed is a number above 0"),
        (("--speed", "nan"), "--speed is a number above 0"),
        (("--lasts", "0"), "--lasts is a number of seconds above 0"),
        (("--engine", "cog", "--speed", "2"), "--speed is for the scripted engine"),
    ],
)
def test_what_is_not_served(words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(("emulator", *words)) == cli.FAULT
    assert told in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with emulator(tmp_path, "--json", ended_by=signal.SIGTERM) as said:
        port = json.loads(said)["url"].rpartition(":")[2]
        assert cli.main(("emulator", "--port", port)) == cli.FAULT
    assert f"port {port}" in capsys.readouterr().err
