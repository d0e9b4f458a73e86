"""The rest of what is looked at, and the whole of it as the command shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from simpletuner_lab.doctor.access import interpreters, provider_findings, proxy_findings, registry_of, token_findings
from simpletuner_lab.doctor.finding import Finding, Status
from simpletuner_lab.doctor.parts import part_findings
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.registry import Registry
from tests.doctor.interpreter_kit import interpreter
from tests.lab_kit import quick_home
from tests.test_cli import run


def parts(folder: Path) -> dict[str, Finding]:
    places = {"config": [str(folder / "user"), str(folder / "system")], "data": [str(folder / "data")]}
    return {found.name: found for found in part_findings(package=folder / "package", **places)}  # type: ignore[arg-type]


def switch(folder: Path, *, on: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {"ServerApp": {"jpserver_extensions": {"simpletuner_lab": on}}}
    (folder / "simpletuner_lab.json").write_text(json.dumps(state))


def test_parts_that_are_not_installed(tmp_path: Path) -> None:
    found = parts(tmp_path)
    assert {name: finding.status for name, finding in found.items()} == {
        "extension": Status.PROBLEM,
        "side panel": Status.WARNING,
        "widget": Status.WARNING,
        "anywidget": Status.WARNING,
    }
    assert found["extension"].fix == "jupyter server extension enable simpletuner_lab"


def test_parts_that_are(tmp_path: Path) -> None:
    switch(tmp_path / "system/jupyter_server_config.d", on=True)
    for name in ("simpletuner-lab", "anywidget", "@jupyter-widgets/jupyterlab-manager"):
        folder = tmp_path / "data/labextensions" / name
        folder.mkdir(parents=True)
        (folder / "package.json").touch()
    (tmp_path / "package/static").mkdir(parents=True)
    for name in ("submit", "jobs"):
        (tmp_path / f"package/static/{name}.js").touch()
    assert {finding.status for finding in parts(tmp_path).values()} == {Status.OK}
    switch(tmp_path / "user/jupyter_server_config.d", on=False)
    assert parts(tmp_path)["extension"].status is Status.PROBLEM, "what a user switched off is off"


@pytest.mark.parametrize(
    ("environment", "status"),
    [
        ({}, Status.OK),
        ({"https_proxy": "http://proxy:3128"}, Status.OK),
        ({"http_proxy": "http://proxy:3128"}, Status.WARNING),
        ({"ALL_PROXY": "socks5://proxy:1080"}, Status.WARNING),
        ({"HTTP_PROXY": "http://proxy:3128", "no_proxy": "10.0.0.1, 127.0.0.1"}, Status.OK),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, Status.OK),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "localhost"}, Status.WARNING),
    ],
)
def test_proxies(environment: dict[str, str], status: Status) -> None:
    assert [finding.status for finding in proxy_findings(environment)] == [status]


def test_a_token_is_there_or_not_and_never_shown(tmp_path: Path) -> None:
    (found,) = token_findings({"HF_TOKEN": "hf_secret", "HF_HOME": str(tmp_path)})
    assert (found.message, "secret" in repr(found)) == ("is set", False)
    assert "not set; only" in next(token_findings({"HF_HOME": str(tmp_path)})).message
    (tmp_path / "token").write_text("hf_secret")
    (found,) = token_findings({"HF_HOME": str(tmp_path)})
    assert ("a stored login" in found.message, "secret" in repr(found)) == (True, False)


def of_this_machine(registry: Registry) -> list[Finding]:
    return [found for found in provider_findings(registry) if found.name == "provider local"]


def test_providers_say_what_they_lack(tmp_path: Path) -> None:
    home = quick_home(tmp_path)
    registry = registry_of(home, {})
    (found,) = of_this_machine(registry)
    assert (found.name, found.status) == ("provider local", Status.OK)
    assert {finding.status for finding in provider_findings(registry)} == {Status.OK}, (
        "one that nobody uses is no fault"
    )
    assert interpreters(home, registry) == [str(tmp_path / "quick/python")]
    (home.provider_settings / "local.json").write_text('{"python": "/no/such/python"}')
    (found,) = of_this_machine(registry_of(home, {}))
    assert (found.status, "does not run" in found.message, bool(found.fix)) == (Status.WARNING, True, True)
    (home.provider_settings / "local.json").write_text('{"pyhton": "x"}')
    registry = registry_of(home, {})
    (found,) = of_this_machine(registry)
    assert (found.status, "pyhton" in found.message) == (Status.WARNING, True)
    assert interpreters(home, registry) == [""]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that works with a trainer that does, and nothing else of this machine."""
    made = Home(tmp_path / "home").prepare()
    (made.provider_settings / "local.json").write_text(json.dumps({"python": interpreter(tmp_path)}))
    monkeypatch.setenv("SIMPLETUNER_HOME", str(made.root))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return made


def test_the_command_works_where_no_lab_opens(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.database.write_text("no database")
    assert run(capsys, "jobs")[0] == 1
    code, out, _ = run(capsys, "doctor")
    assert code == 1
    assert "problem  database" in out
    assert "\ndatabase: put it aside" in out
    code, out, _ = run(capsys, "doctor", "--json")
    documents = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert {document["name"] for document in documents if document["status"] == "problem"} == {"database"}
    assert {"python", "torch", "trainer", "home", "disk", "server", "extension", "widget", "proxy"} <= {
        document["name"] for document in documents
    }


def test_the_magic_does_too(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.database.write_text("no database")
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "simpletuner_lab")
    ran = shell.run_cell("%stcloud doctor")
    assert ran.success
    assert any(found.name == "database" and found.status is Status.PROBLEM for found in ran.result.value)
    assert "put it aside" in ran.result._repr_html_()
    nobody = shell.run_cell("%stcloud doctor --url http://127.0.0.1:9 --json").result
    assert {found["name"]: found["status"] for found in nobody}["server"] == "problem"
    shell.run_line_magic("unload_ext", "simpletuner_lab")
    shell.history_manager.end_session()  # type: ignore[union-attr]
