"""Snapshots over REST and on the command line: a real server, two jobs side by side, and one again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

from simpletuner_lab import cli
from simpletuner_lab.core.errors import JobNotFound
from simpletuner_lab.services.snapshot_views import SnapshotView
from tests.lab_kit import dataset, request
from tests.server.server_kit import TOKEN, Server


def asked(server: Server, method: str, path: str, **how: object) -> httpx.Response:
    headers = {"Authorization": f"token {TOKEN}"}
    return httpx.request(method, f"{server.url}api/cloud{path}", headers=headers, timeout=60, **how)  # type: ignore[arg-type]


def test_over_rest(server: Server, tmp_path: Path) -> None:
    client = server.client()
    images = dataset(tmp_path / "images")
    jobs = []
    for rate in (1e-3, 5e-4):
        wanted = request(images, learning_rate=rate)
        jobs.append(client.submit(wanted, approve=client.plan(wanted).digest).job_id)
    first, second = jobs
    found = client.snapshots.of_job(first)
    assert isinstance(found.snapshot, SnapshotView)
    assert client.detail(first).metadata.snapshot == found.snapshot
    assert [one.job_id for one in client.snapshots.listed(limit=2).snapshots] == [second, first]
    (difference,) = client.snapshots.diff(first, second).differences
    assert (difference.path, difference.before, difference.after) == ("config.learning_rate", 1e-3, 5e-4)
    assert client.plan(client.snapshots.draft(first).request.request()).digest == client.job(first).digest
    check = client.snapshots.check()
    assert (check.config_name, check.snapshots.repo_present) == ("quick", True)
    assert client.snapshots.configs().active_config == "quick"
    with pytest.raises(JobNotFound):
        client.snapshots.draft("nobody")


def test_a_rerun_over_rest(server: Server, tmp_path: Path) -> None:
    client = server.client()
    images = dataset(tmp_path / "images")
    wanted = request(images)
    job_id = client.submit(wanted, approve=client.plan(wanted).digest).job_id
    body = {"snapshot_name": "again", "idempotency_key": "again-1"}
    answer = asked(server, "POST", f"/jobs/{job_id}/rerun", json=body)
    told = answer.json()
    assert (answer.status_code, told["rerun_of"], told["same_digest"]) == (202, job_id, True)
    again = client.snapshots.of_job(told["job_id"]).snapshot
    assert again is not None
    assert again.name == "again"
    assert asked(server, "POST", f"/jobs/{job_id}/rerun", json=body).json()["job_id"] == told["job_id"]
    (images / "0.txt").write_text("changed\n")
    assert asked(server, "POST", f"/jobs/{job_id}/rerun", json={}).json()["code"] == "consent_required"
    assert asked(server, "GET", "/jobs/diff?a=1").status_code == 400
    assert asked(server, "PUT", "/snapshots/setting", json={"enabled": "no"}).status_code == 400
    for path in ("/snapshots", "/pre-submit-check", "/available-configs", f"/jobs/{job_id}/draft"):
        assert httpx.get(f"{server.url}api/cloud{path}").status_code == 403


def test_on_the_command_line(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", TOKEN)

    def run(*words: str) -> tuple[int, str]:
        code = cli.main([*words, "--url", server.url])
        return code, capsys.readouterr().out

    images = dataset(tmp_path / "images")
    config = tmp_path / "first.json"
    config.write_text(json.dumps({**request(images).config, "data_backend_config": str(images)}))
    words = ("--snapshot-name", "baseline", "--yes", "--json")
    job = json.loads(run("submit", str(config), *words)[1])["job_id"]
    restored = tmp_path / "restored.json"
    code, out = run("restore", job, "-o", str(restored))
    assert (code, f"stcloud plan {restored} --provider local" in out) == (0, True)
    assert run("restore", job, "-o", str(restored))[0] == 1, "a file is never written over"
    digest = json.loads(run("plan", str(restored), "--json")[1])["digest"]
    assert digest == server.client().job(job).digest
    (images / "0.txt").write_text("changed\n")
    assert cli.main(["rerun", job, "--url", server.url]) == 3
    assert f"stcloud rerun {job} --approve DIGEST" in capsys.readouterr().err
    code, out = run("rerun", job, "--yes")
    assert (code, "~ files of images: 0 added, 0 removed, 1 changed, 5 the same" in out) == (0, True)
    (again,) = set(re.findall(r"\d{6}-[0-9a-f]{10}", out)) - {job}
    code, out = run("diff", job, again)
    assert (code, "another digest" in out) == (0, True)
    code, out = run("snapshots", "-n", "2")
    assert (code, [line.split()[2] for line in out.splitlines()[:2]]) == (0, [again, job])
    assert "baseline" in out
    assert run("snapshots", "off")[1].splitlines()[0].startswith("snapshots are off")
    assert json.loads(run("snapshots", "on", "--json")[1])["enabled"] is True
