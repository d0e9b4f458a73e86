"""`stcloud` before a person, on a real pseudo-terminal, and in a pipe."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, FunctionType

import pytest
from rich.console import Console
from sqlalchemy.engine.base import RootTransaction

from simpletuner_lab import cli
from simpletuner_lab.client import connect
from simpletuner_lab.commands.answers import Answer, ended_answer, fault_text, jobs_answer
from simpletuner_lab.commands.colour import ColourScreen
from simpletuner_lab.commands.screen import JsonScreen, PipeScreen, Screen
from simpletuner_lab.commands.snapshots import diff_answer
from simpletuner_lab.core.comparison import Difference, Kind
from simpletuner_lab.core.errors import InvalidRequest, Problem
from simpletuner_lab.core.job import Failure, Job, JobState, Progress
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.snapshot_views import JobDiff
from simpletuner_lab.services.views import JobPage, JobView, LogChunk
from simpletuner_lab.terminal import trouble_text
from tests.lab_kit import quick_home
from tests.terminal_kit import ESCAPE, Terminal
from tests.test_cli import run, written

HOSTILE = "[red]x[/red] \x1b[2J\x1b]0;owned\x07 [link=http://evil.example]y"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = quick_home(tmp_path)
    monkeypatch.setenv("SIMPLETUNER_HOME", str(made.root))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return made


def finished(*words: str, **how: object) -> Terminal:
    terminal = Terminal(*words, **how)  # type: ignore[arg-type]
    terminal.code = terminal.end()  # type: ignore[attr-defined]
    return terminal


def piped(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simpletuner_lab", *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_person_agrees_at_the_terminal_and_watches_it_train(tmp_path: Path) -> None:
    terminal = Terminal("submit", str(written(tmp_path)), "--name", "[red]boat[/red]", "--wait")
    terminal.until("Type yes to agree: ")
    terminal.type("yes\n")
    assert terminal.end() == 0
    assert "unpacked 6 files" in terminal.plain
    assert "━" in terminal.plain, "the line that moves"
    assert "[red]boat[/red]" in terminal.plain.splitlines()[-1], "a name is no markup"
    assert "completed" in terminal.plain.splitlines()[-1]

    listed = finished("jobs")
    assert ESCAPE.search(listed.text)
    assert re.search(r"id +state +provider +name", listed.plain)
    assert "[red]boat[/red]" in listed.plain
    assert "\x1b[32mcompleted" in listed.text
    assert "\x1b[3" not in finished("jobs", NO_COLOR="1").text, "no colour where none is wanted"
    narrow = finished("jobs", columns=40).plain
    assert re.search(r"^\d{6}-[0-9a-f]{10}  completed  local ", narrow, re.MULTILINE), "ids are never cut"
    assert "\x1b" not in finished("jobs", TERM="dumb").text


def test_a_person_who_does_not_agree(tmp_path: Path) -> None:
    terminal = Terminal("submit", str(written(tmp_path)))
    terminal.until("Type yes to agree: ")
    terminal.type("no\n")
    assert terminal.end() == 3
    assert "no jobs yet" in piped("jobs").stdout


@pytest.mark.parametrize(
    ("key", "code", "told"), [("\x04", 3, "needs your consent"), ("\x03", 130, "interrupted; a job that was submitted")]
)
def test_leaving_the_question_is_no_yes(tmp_path: Path, key: str, code: int, told: str) -> None:
    terminal = Terminal("submit", str(written(tmp_path)))
    terminal.until("Type yes to agree: ")
    if key == "\x03":
        assert terminal.interrupt() == code
    else:
        terminal.type(key)
        assert terminal.end() == code
    assert told in terminal.plain
    assert "Traceback" not in terminal.plain
    assert connect().jobs().total == 0


def test_watching_ends_with_an_interrupt_and_the_job_goes_on(tmp_path: Path) -> None:
    submitted = Terminal("submit", str(written(tmp_path, "wait")), "--yes")
    job_id = submitted.until(r"submitted: job (\S+)")[1]
    submitted.end()
    for words in (("job", job_id, "--watch"), ("logs", job_id, "-f")):
        watching = Terminal(*words)
        watching.until(r"running .*5/12  loss 0.2000  100.00 steps/s  0 s left")
        watching.type("\x03")
        assert watching.end() == 130, watching.plain
        assert "the job goes on" in watching.plain
    assert json.loads(piped("job", job_id, "--json").stdout)["job"]["status"] == "running"
    assert piped("cancel", job_id, "--json").returncode == 0
    watched = piped("job", job_id, "--watch")
    assert (watched.returncode, "cancelled" in watched.stdout.splitlines()[-1]) == (4, True)
    watched = piped("job", job_id, "--watch", "--json")
    assert json.loads(watched.stdout.splitlines()[-1])["status"] == "cancelled"


@pytest.mark.parametrize(
    "at", [threading.Condition._acquire_restore, RootTransaction._connection_rollback_impl], ids=["thread", "database"]
)
def test_an_interrupt_ends_the_looking_wherever_it_arrives(
    at: FunctionType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both clean-ups fail when cut in half: what leaves them is a RuntimeError and an AssertionError."""
    _, out, _ = run(capsys, "submit", str(written(tmp_path, "wait")), "--yes")
    job_id = re.search(r"submitted: job (\S+)", out)[1]  # type: ignore[index]
    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(cli, "_screen", lambda *, as_json: contextlib.closing(ColourScreen(terminal)))
    with interrupted_in(at):
        code, _, err = run(capsys, "logs", job_id, "-f")
    assert (code, err.strip()) == (130, "stopped looking; the job goes on")
    assert run(capsys, "cancel", job_id)[0] == 0
    assert run(capsys, "job", job_id, "--watch")[0] == 4


@contextlib.contextmanager
def interrupted_in(function: FunctionType) -> Iterator[None]:
    """Ctrl-C as Python gives it: once, in this thread, before the first line of a function."""
    arrived = []

    def enter(frame: FrameType, _event: str, _value: object) -> object:
        return line if frame.f_code is function.__code__ and not arrived else None

    def line(_frame: FrameType, event: str, _value: object) -> object:
        if event == "line" and not arrived:
            arrived.append(event)
            raise KeyboardInterrupt
        return line

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)
    assert arrived


def test_a_pipe_gets_plain_lines_and_json_gets_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "submit", str(written(tmp_path)), "--yes", "--wait")
    assert (code, "\x1b" in out) == (0, False)
    job_id = re.search(r"submitted: job (\S+)", out)[1]  # type: ignore[index]
    said = {}
    for words in (("jobs",), ("job", job_id), ("logs", job_id), ("logs", "-f", job_id), ("outputs", job_id),
                  ("providers",), ("consent",)):  # fmt: skip
        assert "\x1b" not in run(capsys, *words)[1]
        said[words] = [json.loads(line) for line in run(capsys, *words, "--json")[1].splitlines()]
        assert said[words], words
    assert "".join(chunk["logs"] for chunk in said["logs", job_id]).startswith("unpacked 6 files")
    assert said["logs", "-f", job_id][-1]["status"] == "completed"
    assert said[("providers",)][0]["id"] == "local"


# ------------------------------------------------------------------------------------------------------ text of others


def job(**more: object) -> JobView:
    made = {"id": "261122-0123456789", "owner": "me", "name": HOSTILE, "provider": "local", "target": "trainer"}
    made |= {"hardware": "cpu", "remote": False, "state": JobState.RUNNING, "created_at": 1.0, "updated_at": 2.0}
    made |= {
        "digest": "0" * 64,
        "nonce": "n",
        "waiting": HOSTILE,
        "failure": Failure(code="x", message=HOSTILE, hint=HOSTILE),
    }
    return JobView.of(Job(**(made | more)))  # type: ignore[arg-type]


def screens() -> list[tuple[io.StringIO, Screen]]:
    """Each screen for people, and what it wrote: the terminal's is one without colours, so that no escape is its own."""
    pipe, terminal = io.StringIO(), io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=400, color_system=None, highlight=False)
    return [(pipe, PipeScreen(pipe)), (terminal, ColourScreen(console))]


def test_nothing_that_others_wrote_acts_on_a_terminal() -> None:
    chunk = LogChunk(job_id="x", logs=f"{HOSTILE}\n::st abc {{}}\nlast\n", offset=0, next_offset=9, ended=True)
    for out, screen in screens():
        screen.show(jobs_answer(JobPage(jobs=(job(),), total=1), before=0, filtered=False))
        screen.log(chunk, raw=False)
        screen.show(Answer(value={}, text=HOSTILE))
        text = out.getvalue()
        assert "\x1b" not in text
        assert text.count("[red]x[/red]") >= 4, "shown as it was written"
        assert "::st" not in text


def test_what_is_wrong_is_told_with_what_to_do() -> None:
    """In a list, in a job's line, and once above the line that moves."""
    failure = Failure(code="uncertain", message="cannot be told", hint="look at the provider")
    doubtful = job(uncertain=True, failure=failure, waiting="", state=JobState.QUEUED)
    told = f"cannot be told (uncertain): look at the provider: stcloud resolve {doubtful.job_id} --resend or --give-up"
    assert trouble_text(doubtful) == told
    assert trouble_text(job(failure=failure)) == "cannot be told (uncertain): look at the provider"
    assert trouble_text(job(failure=None)) == ""
    for out, screen in screens():
        screen.show(jobs_answer(JobPage(jobs=(doubtful,), total=1), before=0, filtered=False))
        screen.show(ended_answer(doubtful))
        assert out.getvalue().count(told) == 2
    (out, screen) = screens()[1]
    for _ in range(3):
        screen.progress(doubtful)
    screen.close()
    assert out.getvalue().count(told) == 1


def test_a_problem_is_told_once() -> None:
    problems = [Problem(path="a", message="is wrong", hint="mend it"), Problem(path="b", message="is wrong too")]
    error = InvalidRequest("a: is wrong", problems=problems, hint="mend it")
    assert fault_text(error, "stcloud").splitlines() == ["stcloud: a: is wrong", "  b: is wrong too", "  mend it"]
    told = InvalidRequest("a is wrong", problems=problems[:1], hint="mend it")
    assert fault_text(told, "stcloud").splitlines() == ["stcloud: a is wrong", "  mend it"]


def test_one_difference_is_one() -> None:
    one = Difference(path="seed", kind=Kind.CHANGED, before=1, after=2)
    for count, words in ((0, "a and b: another"), (1, "1 difference, another"), (2, "2 differences, another")):
        found = JobDiff(a="a", b="b", same_digest=False, differences=(one,) * count, data=())
        assert f"{words} digest" in diff_answer(found).text


def test_the_moving_line_takes_no_markup() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200, color_system=None)
    screen = ColourScreen(console)
    screen.progress(job())
    screen.progress(job(progress=Progress(step=3, total_steps=12, loss=0.25, step_s=2.0, eta_s=18.0)))
    screen.close()
    plain = ESCAPE.sub("", out.getvalue())
    assert "[red]x[/red]" in plain
    assert "3/12  loss 0.2500  2.0 s/step  18 s left" in plain
    assert "owned" not in plain


def test_a_pipe_says_a_state_at_once_and_the_rest_now_and_then() -> None:
    out, now = io.StringIO(), iter([0.0, 1.0, 2.0, 11.0, 12.0])
    screen = PipeScreen(out, lambda: next(now))
    for step in (1, 2, 3, 4):
        screen.progress(job(name="boat", failure=None, waiting="", progress=Progress(step=step, total_steps=9)))
    screen.progress(job(name="boat", failure=None, waiting="", state=JobState.COMPLETED))
    assert [re.findall(r"step \d|completed", line) for line in out.getvalue().splitlines()] == [
        ["step 1"],
        ["step 4"],
        ["completed"],
    ]


def test_programs_hear_of_each_change_once() -> None:
    out = io.StringIO()
    screen = JsonScreen(out)
    for step in (1, 1, 2):
        screen.progress(job(progress=Progress(step=step)))
    assert [json.loads(line)["progress"]["step"] for line in out.getvalue().splitlines()] == [1, 2]


def test_a_terminal_of_few_letters_gets_escapes_for_the_rest() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    PipeScreen(stream).show(Answer(value={}, text="née"))
    assert stream.buffer.getvalue() == b"n\\xe9e\n"  # type: ignore[attr-defined]
