"""A provider elsewhere over REST and in the terminal: set up without a restart, synced, and asked about a lost start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from simpletuner_lab.cli import main
from simpletuner_lab.commands.answers import submitted_answer
from simpletuner_lab.core import errors
from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services.forms import form_of
from simpletuner_lab.spending import spend_figure
from simpletuner_lab.testing import eventually
from tests.lab_kit import dataset, quick_home
from tests.server.server_kit import TOKEN, Server
from tests.services.remote_kit import Elsewhere, Place, elsewhere

ROOT = Path(__file__).resolve().parents[2]

Stcloud: TypeAlias = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that finds the provider as it finds a stranger's: by its entry point."""
    folder = tmp_path_factory.mktemp("elsewhere")
    info = folder / "path" / "elsewhere-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    point = f"elsewhere = {Elsewhere.__module__}:{Elsewhere.__name__}"
    (info / "entry_points.txt").write_text(f"[simpletuner_lab.providers]\n{point}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(info.parent), str(ROOT), os.environ.get("PYTHONPATH", "")]))
        running = Server(
            folder, quick_home(folder).root, "/", "--SimpleTunerLabApp.public_url=https://lab.example"
        ).start()
    yield running
    running.stop()


@pytest.fixture
def place(server: Server) -> Place:
    return Place(server.home / "cloud" / "providers" / "elsewhere")


@pytest.fixture
def stcloud(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stcloud:
    """Runs a command; returns its exit code and what it printed."""
    monkeypatch.setenv("JUPYTER_TOKEN", TOKEN)

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main([*words, "--url", server.url])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def test_settings_and_token(server: Server) -> None:
    setup = server.client().setup
    assert setup.config("elsewhere").config["run_limit_s"] is None
    assert setup.change("elsewhere", {"run_limit_s": 60}).config["run_limit_s"] == 60.0
    (listed,) = [one for one in server.client().providers() if one.id == "elsewhere"]
    assert listed.run_limit_s == 60.0, "without a restart"
    with pytest.raises(errors.InvalidRequest) as refused:
        setup.change("elsewhere", {"colour": 1, "price": "x"})
    assert len(refused.value.problems) == 2
    secret = "e_carol"
    assert Path(setup.set_token("elsewhere", Secret(secret)).file_path).read_text() == secret
    assert (setup.validate("elsewhere").valid, setup.validate("elsewhere").user_info) == (True, "carol")
    with server.http() as http:
        answers = [http.get(f"/providers/elsewhere{path}") for path in ("", "/validate", "/versions", "/billing")]
        assert [answer.status_code for answer in answers] == [200] * 4
        for number in (b"NaN", b"1e999", b"-Infinity"):
            told = http.put("/providers/elsewhere", content=b'{"price": ' + number + b"}")
            assert (told.status_code, told.json()["problems"][0]["path"]) == (400, "body.price"), number
        for body in (b"[1]", b"null", b""):
            assert http.put("/providers/elsewhere", content=body).status_code == 400, body
        refused_token = http.put("/providers/elsewhere/token", json={"api_token": "wrong-and-secret"})
        assert refused_token.status_code == 400
    assert not any("e_carol" in answer.text for answer in answers)
    assert "wrong-and-secret" not in refused_token.text + server.log()
    assert secret not in server.log()
    assert setup.delete_token("elsewhere").deleted
    assert setup.versions("elsewhere").current_version == "1"
    assert setup.billing("elsewhere").balance is None
    with pytest.raises(errors.InvalidRequest, match=r"body\.total\.amount_usd must be a finite number"):
        server.client().money.set_limits({"total": {"amount_usd": float("inf")}})
    with pytest.raises(errors.ProviderNotFound):
        setup.config("nowhere")


def test_a_lost_start_and_a_foreign_run(server: Server, place: Place, tmp_path: Path, stcloud: Stcloud) -> None:
    client = server.client()
    place.fail(start="uncertain", find="uncertain")
    asked = elsewhere(dataset(tmp_path / "images"))
    job_id = client.submit(asked, approve=client.plan(asked).digest).job_id
    eventually(lambda: client.job(job_id), lambda seen: seen.uncertain)
    place.fail()
    with pytest.raises(SystemExit):
        stcloud("resolve", job_id)  # one of two decisions
    assert stcloud("resolve", job_id, "--resend")[0] == 0
    eventually(lambda: client.job(job_id), lambda seen: seen.attempt == 2 and seen.status is JobState.RUNNING)
    with pytest.raises(errors.Conflict):
        client.resolve(job_id, Decision.GIVE_UP)
    charges = client.detail(job_id).charges
    assert [(one.attempt, one.cost_usd) for one in charges] == [(1, None), (2, None)], "the first may be there too"
    place.add(log="hello\n")
    told = json.loads(stcloud("sync", "--provider", "elsewhere", "--json")[1])
    assert (told["synced"], told["updated"]) == (1, 1)
    assert [one.attempt for one in client.detail(job_id).charges] == [2], "it is not"
    (foreign,) = told["jobs"]
    assert client.log(foreign["job_id"]).logs == "hello\n"
    assert client.sync().synced == 0
    for one in (job_id, foreign["job_id"]):
        client.cancel(one)
        eventually(lambda one=one: client.job(one), lambda seen: seen.status is JobState.CANCELLED)


def test_a_provider_in_the_terminal(server: Server, stcloud: Stcloud) -> None:
    token = "e_dan"
    command = [sys.executable, "-m", "simpletuner_lab.cli", "provider", "elsewhere", "--token", "--url", server.url]
    done = subprocess.run(
        command,
        env=os.environ | {"JUPYTER_TOKEN": TOKEN},
        input=f"{token}\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "elsewhere: ready dan" in done.stdout
    assert "token: ELSEWHERE_TOKEN is there" in done.stdout
    assert token not in done.stdout + done.stderr
    code, told = stcloud("provider", "elsewhere", "--set", "price=2.5", "--set", 'hosts=["a"]', "--forget-token")
    assert (code, "ELSEWHERE_TOKEN is missing" in told, "price = 2.5" in told) == (0, True, True)
    assert stcloud("provider", "replicate")[0] == 1, "without a token it cannot be used"
    assert stcloud("provider", "replicate", "--set", "timeout_s=20")[0] == 0, "one thing after the other"
    code, told = stcloud("provider", "replicate", "--set", "timeout_s=soon")
    assert (code, told.count("'soon'"), "must be a number, such as 1.5, not a text" in told) == (1, 1, True), told
    code, told = stcloud("provider", "elsewhere", "--set", "price")
    assert (code, "--set KEY=VALUE" in told) == (1, True)


def test_money_over_rest(server: Server, place: Place, tmp_path: Path) -> None:
    images, client = dataset(tmp_path / "images"), server.client()
    with server.http() as http:
        limit = {"cost_limit_enabled": True, "cost_limit_amount": 0.05, "price": 3.6, "run_limit_s": 60}
        saved = http.put("/providers/elsewhere", json=limit)
        assert (saved.status_code, saved.json()["config"]["cost_limit_amount"]) == (200, 0.05)
        assert http.put("/providers/elsewhere", json={"cost_limit_amount": -1}).status_code == 400
        body = form_of(elsewhere(images))
        plan = http.post("/jobs/plan", json=body).json()
        assert plan["spend"]["allowed"]
        answer = http.post("/jobs/submit", json=body | {"approve": plan["digest"]}, params={"provider": "elsewhere"})
        assert answer.status_code == 202
        warning = answer.json()["cost_limit_warning"]
        assert warning.startswith("the monthly spend limit of $0.05 for elsewhere")
        job_id = answer.json()["job_id"]
        assert http.get(f"/jobs/{job_id}/cost-limit").json() == {"job_id": job_id, "warning": warning}
        told = submitted_answer(client.job(job_id), client.money.warning(job_id).warning)
        assert told.text.endswith(f"\n  warning: {warning}")
        assert http.get("/jobs/nothing/cost-limit").status_code == 404
        http.put("/providers/elsewhere", json={"cost_limit_action": "block", "cost_limit_amount": 0.0001})
        refused = http.post("/jobs/submit", json=body | {"approve": plan["digest"]})
        assert (refused.status_code, refused.json()["code"]) == (403, "spend_limit")
        status = http.get("/cost-limit/status", params={"provider": "elsewhere"})
        assert status.status_code == 200
        assert {"enabled", "limit_amount", "period", "action", "current_spend", "percent_used", "is_exceeded",
                "is_warning", "message"} <= set(status.json())  # fmt: skip
        assert http.get("/cost-limit/status?provider=nobody").status_code == 404
        estimate = http.post("/cost-estimate", json=body["dataloader_config"], params={"provider": "elsewhere"}).json()
        assert (estimate["has_estimate"], estimate["hardware_cost_per_hour"]) == (False, 3.6)
        assert estimate["data_size_mb"] > 0
        assert "message" in http.post("/cost-estimate", json=body).json()
        assert [http.post("/cost-estimate", json=wrong).status_code for wrong in ([1], {"a": 1}, 3)] == [400] * 3
        hardware = http.get("/hardware-options").json()
        assert (hardware["provider"], hardware["default_hardware"]) == ("elsewhere", "gpu"), "where things cost money"
        assert hardware["hardware"][0]["cost_per_second"] == pytest.approx(0.001)
        assert {row["label"] for row in hardware["cards"]} == {"L40S", "A100 80 GB"}
        assert [http.get(f"/{path}").status_code for path in ("spend?days=0", "metrics?days=366")] == [400, 400]
        assert http.post("/billing/refresh").json()["credit_balance"] is None
        assert http.put("/cost-limit", json=[]).status_code == 400
        http.put("/providers/elsewhere", json={"cost_limit_enabled": False})
    money = client.money
    assert money.dashboard(7).period_days == 7
    assert money.estimate(elsewhere(images)).hardware_cost_per_hour == 3.6
    assert (money.hardware("elsewhere").default_hardware, money.refresh().credit_balance) == ("gpu", None)
    eventually(lambda: money.spend(1).runs, lambda runs: runs > 0)
    assert money.warning(job_id).warning == warning
    assert money.status().message == "no spend limit is set"


def test_money_in_the_terminal(server: Server, stcloud: Stcloud) -> None:
    code, said = stcloud("limit")
    assert (code, said.splitlines()[0]) == (0, "no limit on what may be spent: stcloud limit AMOUNT --action block")
    code, said = stcloud("limit", "25", "--period", "weekly", "--action", "block", "--job", "5", "--zone", "Asia/Tokyo")
    assert code == 0
    for part in ("all providers: [", "of $25.00 weekly, then block", "a job: $5.00, then block", "Asia/Tokyo"):
        assert part in said
    assert stcloud("limit", "9", "--provider", "elsewhere")[0] == 0
    (shown,) = [json.loads(line) for line in stcloud("limit", "--json")[1].splitlines()]
    assert shown["limits"]["providers"]["elsewhere"]["amount_usd"] == 9.0
    code, said = stcloud("spend", "--days", "3")
    assert code == 0
    assert "in 3 days since" in said
    assert "provider elsewhere" in said
    (shown,) = [json.loads(line) for line in stcloud("spend", "--json")[1].splitlines()]
    assert len(shown["by_day"]) == 30
    figure = spend_figure(3, client=server.client())
    assert [trace.name for trace in figure.data] == [
        "a day", "spent, weekly", "spent of the monthly limit of elsewhere", "limit of elsewhere, monthly", "limit, weekly",
    ]  # fmt: skip
    for number in ("nan", "1e999"):
        code, said = stcloud("limit", number)
        assert (code, "body.total.amount_usd must be a finite number" in said) == (1, True), said
    code, said = stcloud("provider", "elsewhere", "--set", "price=NaN")
    assert (code, "body.price must be a finite number" in said) == (1, True), said
    for wrong in (
        ("limit", "9", "--off"),
        ("limit", "--provider", "elsewhere"),
        ("limit", "--job", "x"),
        ("limit", "-1"),
    ):
        assert stcloud(*wrong)[0] == 1, wrong
    for zone in ("Mars/Olympus", ""):
        assert stcloud("limit", "--zone", zone)[0] == 1, zone
    for words in (("--off", "--job", "none", "--zone", "UTC"), ("--off", "--provider", "elsewhere")):
        assert stcloud("limit", *words)[0] == 0
    assert stcloud("limit")[1].startswith("no limit")
