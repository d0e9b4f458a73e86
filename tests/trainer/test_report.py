"""Report lines: what is written is read, and nothing else is."""

from __future__ import annotations

import io
import json
import math

import pytest

from simpletuner_trainer.errors import BadData, Stopped
from simpletuner_trainer.report import (
    MAX_LINE_BYTES,
    Checkpoint,
    End,
    Exit,
    Failure,
    Image,
    Report,
    Result,
    Resume,
    Stage,
    StageName,
    Steps,
    format_line,
    parse_line,
)
from simpletuner_trainer.reporter import Point, Progress, Reporter
from tests.trainer.trainer_kit import NONCE, reports

STEPS = Steps(step=(1, 2), loss=(0.5, 0.25), lr=(1e-4, 1e-4), grad_norm=(1.0, 2.0), total=10, epoch=0.2, step_s=0.1,
              images_per_s=40.0, eta_s=0.8)  # fmt: skip
EVERY: list[Report] = [
    Stage(stage=StageName.CACHE, label="encoding images", done=3, total=9),
    Resume(step=7),
    STEPS,
    Checkpoint(step=2, key="checkpoints/step-00000002/", bytes=10, sha256="a" * 64, delivered=True),
    Image(step=2, index=0, prompt='a "cat"\n::st forged', key="samples/x.png", sha256="b" * 64),
    Result(key="manifest.json", files=3, bytes=99, sha256="c" * 64),
    Failure(code="bad_data", message="broken: café ❤", hint="", step=None),
    Failure(code="diverged", message="x", step=3),
    End(exit=Exit.UNDELIVERED, step=9),
]


@pytest.mark.parametrize("report", EVERY, ids=lambda report: type(report).__name__)
def test_round_trip(report: Report) -> None:
    line = format_line(report, nonce=NONCE)
    assert "\n" not in line
    assert parse_line(line, nonce=NONCE) == report


@pytest.mark.parametrize(
    "line",
    [
        format_line(Resume(step=1), nonce="another0nonce"),
        f"::st {NONCE}",
        f"::st {NONCE} ",
        f"::st {NONCE} {{}}",
        f"::st {NONCE} []",
        f"::st {NONCE} null",
        f'::st {NONCE} {{"kind":"resume"}}',
        f'::st {NONCE} {{"kind":"resume","step":"1"}}',
        f'::st {NONCE} {{"kind":"resume","step":true}}',
        f'::st {NONCE} {{"kind":"nothing","step":1}}',
        f'::st {NONCE} {{"kind":"end","exit":5,"step":1}}',
        f'::st {NONCE} {{"kind":"stage","stage":"lunch","label":""}}',
        f" ::st {NONCE} " + '{"kind":"resume","step":1}',
        f"::st  {NONCE} " + '{"kind":"resume","step":1}',
        f"::st {NONCE} " + '{"kind":"resume","step":1' + " " * MAX_LINE_BYTES + "}",
        f"::st {NONCE} " + "[" * 100_000,
        format_line(STEPS, nonce=NONCE).replace("[1,2]", "[1]"),
    ],
    ids=range(17),
)
def test_what_is_no_report_is_text(line: str) -> None:
    assert parse_line(line, nonce=NONCE) is None


def test_an_empty_nonce_reads_nothing() -> None:
    assert parse_line('::st  {"kind":"resume","step":1}', nonce="") is None


def test_members_of_a_newer_trainer_are_let_through() -> None:
    line = format_line(Resume(step=1), nonce=NONCE).replace('"step":1', '"step":1,"mood":"good"')
    assert parse_line(line, nonce=NONCE) == Resume(step=1)


def test_numbers_that_are_not_finite_are_null() -> None:
    line = format_line(Steps(step=(1,), loss=(math.nan,), lr=(0.0,), grad_norm=(math.inf,), total=1, epoch=0, step_s=0,
                             images_per_s=0, eta_s=0), nonce=NONCE)  # fmt: skip
    assert json.loads(line.split(" ", 2)[2])["loss"] == [None]
    read = parse_line(line, nonce=NONCE)
    assert isinstance(read, Steps)
    assert math.isnan(read.loss[0])
    assert math.isnan(read.grad_norm[0])


def point(step: int) -> Point:
    return Point(step=step, loss=1.0, lr=0.1, grad_norm=0.5, epoch=0.1 * step, images=4)


def test_steps_are_said_once_a_second_the_first_at_once_and_the_rest_in_the_end() -> None:
    out = io.StringIO()
    progress = Progress(Reporter(NONCE, out), total=2500, memory_mb=lambda: 100.0)
    for step in range(1, 2501):
        progress.add(point(step))
    progress.flush()
    lines = [one for one in reports(out.getvalue()) if isinstance(one, Steps)]
    assert [step for line in lines for step in line.step] == list(range(1, 2501))
    assert lines[0].step == (1,)
    assert len(lines) <= 5, "no line has more than 1000 points, no second more than one line"
    assert all(len(line) < MAX_LINE_BYTES for line in out.getvalue().splitlines())
    assert lines[-1].eta_s == 0


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (BadData("no images", "add some"), Exit.BAD_DATA, "bad_data"),
        (Stopped(Exit.INTERRUPTED), Exit.INTERRUPTED, None),
        (ZeroDivisionError("oh"), Exit.CRASHED, "crashed"),
    ],
)
def test_how_a_run_ends_is_the_last_line(error: Exception, exit_code: Exit, code: str | None) -> None:
    out = io.StringIO()
    reporter = Reporter(NONCE, out)
    known = not isinstance(error, ZeroDivisionError)
    try:
        with reporter:
            raise error
    except ZeroDivisionError:
        assert not known
    said = reports(out.getvalue())
    assert said[-1] == End(exit=exit_code, step=0)
    assert [one.code for one in said if isinstance(one, Failure)] == ([code] if code else [])
    assert reporter.exit == exit_code


def test_a_reader_that_is_gone_does_not_end_a_run() -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    Reporter(NONCE, Gone()).text("hello")
