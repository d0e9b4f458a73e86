"""A real server whose surroundings are full of secrets answers none of them by any route, and logs none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simpletuner_lab.core.job import JobState
from simpletuner_lab.server.handlers import api_rules
from simpletuner_lab.services.home import Home
from simpletuner_lab.testing import eventually
from tests.lab_kit import quick_home, request
from tests.server.server_kit import Server
from tests.services.test_planted_secrets import KNOWABLE, Found, clothed, plant

UNSET = frozenset(("env:PATH", "env:HTTPS_PROXY", "env:HF_TOKEN", "env:REPLICATE_API_TOKEN"))
"""With these set, somebody outside would be asked."""


HELD = [one for one in KNOWABLE if one.where.startswith(("env:", "secret:")) and one.where not in UNSET]
"""Those that the lab has. Another token that its own sender gets back cut short has no shape to know it by."""


def routes(job_id: str) -> list[str]:
    """A path for every rule of the table, the streams and the rest included."""
    found = []
    for pattern, _ in api_rules(""):
        path = pattern.replace(r"/jobs/([A-Za-z0-9._-]{1,128})", f"/jobs/{job_id}")
        path = path.replace(r"/providers/([A-Za-z0-9._-]{1,128})", "/providers/local")
        path = path.replace(r"(?:/(live|ready))?", "/ready").replace(r"/(?!storage(?:/|$)).*", "/nowhere")
        found.append(re.sub(r"\([^()]*\)", "x", path.replace("\\", "")))
    return found


@pytest.mark.slow
def test_no_route_answers_one_and_no_line_of_the_server_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = quick_home(tmp_path)
    environment = plant(tmp_path / "images", Home(home.root))
    for name, value in environment.items():
        if f"env:{name}" not in UNSET:
            monkeypatch.setenv(name, value)
    found = Found()
    server = Server(tmp_path, home.root).start()
    try:
        client = server.client()
        asked = request(tmp_path / "images", "crash")
        asked = type(asked)(
            config=dict(asked.config),
            dataloader=tuple({**entry, "instance_prompt": "a cat"} for entry in asked.dataloader),
        )
        plan = client.plan(asked)
        job = client.submit(asked, approve=plan.digest)
        eventually(lambda: client.job(job.job_id), lambda seen: seen.status is JobState.FAILED, patience_s=60)
        with server.http() as http:
            for path in routes(job.job_id):
                answer = http.get(path)
                found.look(f"GET {path}", answer.content)
                found.look(f"headers of GET {path}", str(answer.headers))
            for one in HELD:
                for text in clothed(one.secret):
                    name = {"config_name": text, "config": {"lr": text}, "dataloader_config": [{"id": text}]}
                    answer = http.post("/jobs/plan", json=name)
                    assert answer.status_code >= 400
                    found.look("an error about a plan", answer.content)
            log = home.root / "cloud" / "logs" / f"{job.job_id}.log"
            log.unlink()
            log.mkdir()
            crash = http.get(f"/jobs/{job.job_id}/logs")
            assert crash.status_code == 500
            found.look("a crash", crash.content)
    finally:
        server.stop()
    said = (tmp_path / "server.log").read_bytes()
    assert b"Traceback" in said
    found.look("the server's log", said)
    found.look_below(home.root, but=home.secrets)
    assert sorted(set(found.leaks)) == []
