"""A server with the extension starts like one without, and lets nobody in too early."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from simpletuner_lab.testing import eventually
from tests.lab_kit import quick_home
from tests.server.server_kit import Server

HEAVY = {
    "sqlalchemy",
    "alembic",
    "boto3",
    "botocore",
    "PIL",
    "numpy",
    "cattrs",
    "httpx",
    "torch",
    "plotly",
    "replicate",
}


def test_the_extension_brings_nothing_heavy() -> None:
    code = "import sys, json, simpletuner_lab.server.app; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
    assert "simpletuner_lab.server.handlers" not in loaded


def test_whoever_comes_first_waits_for_the_lab(tmp_path: Path) -> None:
    """From the first connection that the port takes, every answer is the lab's own: never a 404 of routes to come."""
    server = Server(tmp_path, quick_home(tmp_path).root, "/user/ann/")
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        with server.http() as http:
            first = eventually(lambda: _answer(http), patience_s=60)
        assert (first.status_code, first.json()) == (200, {"jobs": [], "total": 0})
    finally:
        starting.join()
        server.stop()


def test_a_store_that_could_not_be_opened_is_tried_again(tmp_path: Path) -> None:
    """A database that is away at the start comes back, and nobody has to start the server again."""
    home = quick_home(tmp_path)
    home.database.write_bytes(b"not a database" * 100)
    server = Server(tmp_path, home.root)
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        with server.http() as http:
            refused = eventually(lambda: _answer(http), patience_s=60)
            assert (refused.status_code, refused.json()["code"]) == (500, "store_unusable")
            assert http.get("/health/ready").status_code == 503
            home.database.unlink()
            answer = eventually(lambda: _answer(http), lambda found: found and found.status_code == 200, patience_s=30)
        assert answer.json() == {"jobs": [], "total": 0}
        assert server.log().count("cannot open its store") == 1
    finally:
        starting.join()
        server.stop()


def test_a_stranger_does_not_open_the_door(tmp_path: Path) -> None:
    """The first request of all, without a token: refused like any other."""
    server = Server(tmp_path, quick_home(tmp_path).root)
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        with server.http(token="") as http:
            first = eventually(lambda: _answer(http), patience_s=60)
        assert first.status_code == 403
    finally:
        starting.join()
        server.stop()


def _answer(http: httpx.Client) -> httpx.Response | None:
    try:
        return http.get("/jobs")
    except httpx.ConnectError:
        return None
