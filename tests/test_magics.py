"""`%stcloud` in a real IPython shell: objects for answers, lines for errors, and words for the tab key."""

from __future__ import annotations

import _thread
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

from simpletuner_lab.client import LabClient, connect
from simpletuner_lab.core.job import JobState
from simpletuner_lab.services.front import InProcess
from simpletuner_lab.testing import eventually
from simpletuner_lab.widgets import JobsWidget, JobWidget, SubmitWidget
from tests.lab_kit import config, quick_home
from tests.server.server_kit import Server
from tests.test_cli import written

pytestmark = pytest.mark.filterwarnings("ignore:`Completer.complete` is pending:PendingDeprecationWarning")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("SIMPLETUNER_HOME", str(quick_home(tmp_path).root))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path)
    made = InteractiveShell()
    made.run_line_magic("load_ext", "simpletuner_lab")
    yield made
    made.run_line_magic("unload_ext", "simpletuner_lab")
    made.history_manager.end_session()  # type: ignore[union-attr]


@pytest.fixture
def files(tmp_path: Path, shell: InteractiveShell) -> Path:
    """config.json, dataloader.json and images in the working directory."""
    return written(tmp_path).parent


def value(shell: InteractiveShell, code: str) -> Any:
    ran = shell.run_cell(code)
    assert ran.success, ran.error_in_exec
    return ran.result


def refused(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], code: str) -> str:
    """What is shown of a cell that ends badly."""
    capsys.readouterr()
    ran: ExecutionResult = shell.run_cell(code)
    said = capsys.readouterr()
    assert type(ran.error_in_exec).__name__ == "CommandRefused", "the cells after it do not run"
    assert "Traceback" not in said.out + said.err
    return said.out + said.err


def submitted(shell: InteractiveShell, how: str = "quick", *options: str) -> str:
    """A job's id, submitted as JSON in a cell."""
    words = " ".join(options)
    body = json.dumps(config(how))
    return value(shell, f"%%stcloud submit --data images --yes --json {words}\n{body}")["job_id"]


# -------------------------------------------------------------------------------------------------------------- answers


def test_values_show_themselves_and_json_is_plain_data(shell: InteractiveShell, files: Path) -> None:
    plan = value(shell, "%stcloud plan config.json")
    assert repr(plan).startswith("config: Train here")
    assert f"digest        {plan.value.digest}" in plan._repr_html_()
    data = value(shell, "%stcloud plan config.json --json")
    assert (type(data), data["digest"]) == (dict, plan.value.digest)
    assert value(shell, "found = %stcloud providers --json\nfound")[0]["id"] == "local"
    assert value(shell, "%stcloud consent never --json") == {"consent": "never"}
    assert repr(value(shell, "%stcloud consent")) == "never"
    listed = value(shell, "%stcloud jobs --state failed")
    assert (repr(listed), listed.value.total) == ("no job is like that", 0)


def test_the_whole_life_of_a_job(shell: InteractiveShell, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = submitted(shell, "quick", "--wait", "--name first")
    assert "unpacked 6 files" in repr(value(shell, f"%stcloud logs {job_id}"))
    assert "".join(chunk["logs"] for chunk in value(shell, f"%stcloud logs {job_id} --json")).startswith("unpacked")
    capsys.readouterr()
    ended = value(shell, f"%stcloud logs {job_id} -f")
    assert capsys.readouterr().out.startswith("unpacked 6 files\n"), "followed logs stream into the cell"
    assert ended.value.status is JobState.COMPLETED
    assert "pytorch_lora_weights.safetensors" in value(shell, f"%stcloud outputs {job_id}")._repr_html_()
    assert value(shell, "%stcloud jobs --text first")._repr_html_().count(job_id) == 1
    assert value(shell, "%stcloud jobs --json")["jobs"][0]["config_name"] == "first"
    assert "already completed" in refused(shell, capsys, f"%stcloud cancel {job_id}")
    assert repr(value(shell, f"%stcloud delete {job_id}")) == f"job {job_id} is deleted"


def test_what_others_wrote_is_no_markup_in_a_page(shell: InteractiveShell, files: Path) -> None:
    submitted(shell, "quick", "--wait", '--name "<script>alert(1)</script>"')
    page = value(shell, "%stcloud jobs --state completed")._repr_html_()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page


def test_an_interrupt_ends_the_looking_and_not_the_job(shell: InteractiveShell, files: Path, capfd) -> None:
    job_id = submitted(shell, "wait")
    other = connect()

    def interrupt() -> None:
        eventually(lambda: "waiting" in other.log(job_id).logs, patience_s=30)
        eventually(lambda: "pauses" in getattr(signal.getsignal(signal.SIGINT), "__qualname__", ""))  # it looks by now
        _thread.interrupt_main()

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    ran = shell.run_cell(f"%stcloud logs {job_id} -f")
    waiting.join()
    assert ran.success
    assert "the job goes on" in capfd.readouterr().out
    assert value(shell, f"%stcloud logs {job_id} --json"), "the next command works"
    assert value(shell, f"%stcloud cancel {job_id}").value.job_id == job_id
    assert value(shell, f"%stcloud logs {job_id} -f").value.status is JobState.CANCELLED


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("%stcloud nope", "invalid choice: 'nope'"),
        ("%stcloud", "the following arguments are required: COMMAND"),
        ("%stcloud jobs --state odd", "invalid choice: 'odd'"),
        ("%stcloud plan 'config.json", "No closing quotation"),
        ("%%stcloud jobs\n{}", "invalid choice: 'jobs'"),
        ("%stcloud plan gone.json", "gone.json cannot be read"),
        ("%stcloud logs gone", "there is no job gone"),
        ("%stcloud job gone", "there is no job gone"),
        ("%stcloud logs gone --json", "there is no job gone"),
        ("%stcloud submit config.json --wait", "--wait and --key go with --yes"),
        ("%%stcloud plan --data images\n{\n  'a': 1\n}", "line 3, column 3"),
        ("%%stcloud plan --data images\n[]", "must hold a JSON object"),
        ("%%stcloud plan --data images\n{", "line 3, column 1"),
        ("%%stcloud plan --data images\n" + "[" * 100_000, "nested too deeply"),
        ("%%stcloud plan\n{}", "names no data sets"),
        ("%%stcloud plan --data gone\n{}", "gone does not exist"),
        ("%stcloud jobs --url http://127.0.0.1:9", "does not answer"),
        ("%stcloud delete ../../etc", "there is no job"),
    ],
)
def test_errors_are_lines(shell: InteractiveShell, files: Path, capsys, code: str, told: str) -> None:
    assert told in refused(shell, capsys, code)
    assert value(shell, "%stcloud consent").value == {"consent": "ask"}, "the next cell works"


def test_every_problem_of_a_config_has_its_path(shell: InteractiveShell, files: Path, capsys) -> None:
    body = json.dumps(config(lora_rnak=1, learning_rate="fast"))
    said = refused(shell, capsys, f"%%stcloud plan --data images\n{body}")
    assert "config.lora_rnak" in said
    assert "lora_rank" in said
    assert "config.learning_rate" in said


def test_help_is_no_error(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    assert value(shell, "%stcloud submit --help") is None
    assert "--approve DIGEST" in capsys.readouterr().out
    shell.run_cell("%stcloud?")
    told = capsys.readouterr().out
    assert "%%stcloud submit --name first" in told
    assert "show what a submit would send" in told


# -------------------------------------------------------------------------------------------------------------- widgets


def test_commands_that_live_give_widgets(shell: InteractiveShell, files: Path, capsys) -> None:
    form = value(shell, "%stcloud submit config.json")
    assert isinstance(form, SubmitWidget)
    in_cell = value(shell, f"%%stcloud submit --data images --name first\n{json.dumps(config())}")
    assert isinstance(in_cell, SubmitWidget)
    assert value(shell, "%stcloud jobs --json")["total"] == 0, "nothing is submitted by showing a form"
    capsys.readouterr()
    job = value(shell, "%stcloud submit config.json --yes")
    assert "digest" in capsys.readouterr().out, "the plan that was agreed to is shown"
    job_id = value(shell, "%stcloud jobs --json")["jobs"][0]["job_id"]
    assert isinstance(job, JobWidget)
    assert isinstance(value(shell, f"%stcloud job {job_id}"), JobWidget)
    assert isinstance(value(shell, "%stcloud jobs"), JobsWidget)
    events = connect().events(0, job_id=job_id)
    assert next(event.data["entry"] for event in events if event.kind == "consented") == "magic"


# ----------------------------------------------------------------------------------------------------------- completion


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%stcloud jo", ["job", "jobs"]),
        ("stcloud jo", ["job", "jobs"]),
        ("x = %stcloud jo", ["job", "jobs"]),
        ("%stcloud jobs --sta", ["--state"]),
        ("%stcloud jobs --state c", ["cancelled", "completed"]),
        ("%stcloud jobs --state=ru", ["running"]),
        ("%stcloud consent ", ["allow", "ask", "never"]),
        ("%stcloud submit x --provider lo", ["local"]),
        ("%stcloud plan c", ["config.json"]),
        ("%stcloud plan config.json --data im", ["images/"]),
        ("%stcloud plan --data 'my p", ["pictures/"]),
        ("%stcloud plan --data my", ["my\\ pictures/"]),
        ("%stcloud plan --data my\\ p", ["pictures/"]),
        ("%%stcloud ", ["plan", "submit"]),
        ("%%stcloud submit --na", ["--name"]),
    ],
)
def test_the_tab_key(shell: InteractiveShell, files: Path, line: str, words: list[str]) -> None:
    (files / "my pictures").mkdir()
    _, found = shell.complete(None, line, len(line))[:2]
    assert found == words
    with provisionalcompleter():  # what the kernel asks
        offered = list(shell.Completer.completions(line, len(line)))
    assert all((line[: one.start] + one.text).startswith(line) for one in offered)
    assert len(offered) == len(words)


def test_ids_come_from_the_lab(shell: InteractiveShell, files: Path) -> None:
    job_id = submitted(shell, "quick", "--wait")
    for line in ("%stcloud logs ", f"%stcloud cancel {job_id[:4]}", "%stcloud outputs "):
        assert shell.complete(None, line, len(line))[1] == [job_id]


def test_other_lines_are_left_alone(shell: InteractiveShell) -> None:
    shell.run_cell("stcloudy = 1")
    with provisionalcompleter():
        assert "stcloudy" in {one.text for one in shell.Completer.completions("print(stcl", 10)}
    assert shell.complete(None, "%stcl", 5)[1] == ["%stcloud", "%%stcloud"]


# --------------------------------------------------------------------------------------------------------- the lab's end


def test_a_server_that_goes_is_missed_once(tmp_path: Path, shell: InteractiveShell, monkeypatch, capsys) -> None:
    server = Server(tmp_path, tmp_path / "home").start()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter/runtime"))
    try:
        assert value(shell, "%stcloud consent").value == {"consent": "ask"}
        magics = shell.magics_manager.registry["LabMagics"]
        assert isinstance(magics._client, LabClient)
    finally:
        server.kill()
    assert "does not answer" in refused(shell, capsys, "%stcloud consent")
    assert value(shell, "%stcloud consent").value == {"consent": "ask"}
    assert isinstance(magics._client, InProcess)


def test_it_can_be_loaded_again_and_taken_away(shell: InteractiveShell, capsys) -> None:
    shell.run_line_magic("reload_ext", "simpletuner_lab")
    assert len(shell.Completer.custom_matchers) == 1
    shell.run_line_magic("unload_ext", "simpletuner_lab")
    assert shell.Completer.custom_matchers == []
    shell.run_cell("%stcloud jobs")
    assert "not found" in capsys.readouterr().err
    shell.run_line_magic("load_ext", "simpletuner_lab")
