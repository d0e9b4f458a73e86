"""A cost that is said by hand, whatever becomes of the process that books it: once, whole, or not at all."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from simpletuner_lab import cli
from simpletuner_lab.commands import verbs  # noqa: F401 - a fork has it then, and need not import it
from simpletuner_lab.core.errors import DiskFull, JobNotFound
from simpletuner_lab.services.front import Front
from tests.disk_kit import fill, mounted
from tests.services.remote_kit import Away, away_lab
from tests.services.test_money import limit
from tests.services.test_queue_table import forked

SAID = 1.25
KNOWN = 0.4
"""What the one run cost whose provider did tell."""


def ended(away: Away, images: Path, *states: str, cost: float | None = None) -> str:
    """A job whose runs end like that, without a word of their cost but for the first one's, if any; its id."""
    job = away.started(images)
    for number, state in enumerate(states, 1):
        ref = f"run-{number}"
        away.place.step(ref, number)
        told = {} if cost is None or number > 1 else {"cost_usd": cost, "metered_s": 400.0}
        away.place.change(ref, state=state, **told)
        job = away.on(job, 2)
        while not job.terminal and not job.run.ref:
            job = away.on(job)
    assert job.terminal
    return away.on(job, 2).id


def lost_half_way(away: Away, images: Path) -> str:
    """A job whose only run is gone, and has told a part of what it cost."""
    job = away.started(images, target="plain")
    away.place.change("run-1", cost_usd=0.3, metered_s=300.0)
    job = away.on(job)
    (away.lab.home.provider_state("elsewhere") / "run-1.json").unlink()
    job = away.on(job, 2)
    assert job.terminal
    return away.on(job, 2).id


CASES: dict[str, tuple[Callable[[Away, Path], str], float]] = {
    "a first word": (lambda away, images: ended(away, images, "failed"), 0.0),
    "a correction": (lost_half_way, 0.0),
    "of two runs": (lambda away, images: ended(away, images, "interrupted", "failed"), 0.0),
    "beside a known one": (
        lambda away, images: ended(away, images, "interrupted", "interrupted", "failed", cost=KNOWN),
        KNOWN,
    ),
}


def money(away: Away, job_id: str) -> tuple[object, ...]:
    """What every view says of it: the ledger, the spend view, the limit, the job."""
    (state,) = away.lab.money.limits().states
    spent = away.lab.money.spend(1)
    try:
        job = Front(away.lab).job(job_id).cost_usd
    except JobNotFound:
        job = "deleted"
    booked = tuple((one.ref, one.cost_usd, one.final) for one in away.lab.store.charges.of_job(job_id))
    return booked, spent.total_usd, spent.unpriced, state.spent_usd, job


def require_stated(found: tuple[object, ...], total: float) -> None:
    booked, spent, unpriced, limited, job = found
    assert sum(cost for _, cost, _ in booked) == pytest.approx(total)
    assert all(final for _, _, final in booked)
    assert (spent, unpriced, limited) == (pytest.approx(total), 0, pytest.approx(total))
    assert job in ("deleted", pytest.approx(total))


def says(home: Path, job_id: str, left: int) -> Callable[[], None]:
    """`stcloud cost`, killed before so many more writes or commits, or right after the last."""

    def run() -> None:
        os.environ["SIMPLETUNER_HOME"] = str(home)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        before = [left]

        def step() -> None:
            before[0] -= 1
            if before[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def wrote(*at: object) -> None:
            if str(at[2]).startswith(("INSERT", "UPDATE", "DELETE")):
                step()

        event.listen(Engine, "before_cursor_execute", wrote)
        event.listen(Engine, "commit", lambda _: step())
        code = cli.main(["cost", job_id, str(SAID)])
        os._exit(code)

    return run


def points() -> list:
    """Some of them in `make test`: one of each kind of ledger."""
    quick = {("a first word", True), ("a correction", False), ("of two runs", False)}
    return [
        pytest.param(case, deleted, marks=() if (case, deleted) in quick else pytest.mark.slow)
        for case in CASES
        for deleted in (False, True)
    ]


@pytest.mark.parametrize(("case", "deleted"), points())
def test_a_process_killed_at_any_write_of_it_loses_and_doubles_nothing(
    tmp_path: Path, images: Path, case: str, deleted: bool
) -> None:
    make, known = CASES[case]
    with away_lab(tmp_path / "first", run_limit_s=1800.0) as away:
        limit(away, 1000.0)
        job_id = make(away, images)
        if deleted:
            away.lab.delete(job_id)
        before = money(away, job_id)
        now = away.clock
    seen = set()
    for kill in range(1, 100):
        folder = tmp_path / f"killed-{kill}"
        shutil.copytree(tmp_path / "first", folder)
        _, status = os.waitpid(forked(says(folder / "home", job_id, kill)), 0)
        with away_lab(folder, now, run_limit_s=1800.0) as away:
            found = money(away, job_id)
            if found != before:
                require_stated(found, SAID + known)
            seen.add(found)
        if over := os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            assert found != before
        else:
            assert os.WTERMSIG(status) == signal.SIGKILL
        _, status = os.waitpid(forked(says(folder / "home", job_id, 0)), 0)
        assert os.WEXITSTATUS(status) == 0, "it may be said anew"
        with away_lab(folder, now, run_limit_s=1800.0) as away:
            require_stated(money(away, job_id), SAID + known)
        if over:
            break
    assert kill > (2 if deleted else 5), "it was killed at several points"
    assert before in seen


def test_a_full_disk_refuses_it_in_a_line_and_changes_nothing(tmp_path: Path, images: Path, capfd) -> None:
    with mounted(tmp_path / "small", "24m") as place:
        with away_lab(place, run_limit_s=1800.0) as away:
            limit(away, 1000.0)
            job_id = ended(away, images, "interrupted", "failed")
            before, now = money(away, job_id), away.clock
            fill(place / "filler")
            with pytest.raises(DiskFull) as refused:
                away.lab.money.state_cost(job_id, SAID)
            assert refused.value.hint
            assert money(away, job_id) == before
        capfd.readouterr()
        _, status = os.waitpid(forked(says(place / "home", job_id, 0)), 0)
        out, err = capfd.readouterr()
        assert (os.WEXITSTATUS(status), out) == (1, "")
        assert err.startswith("stcloud: no room left for ")
        assert len(err.splitlines()) <= 2, "and what to do"
        (place / "filler").unlink()
        with away_lab(place, now, run_limit_s=1800.0) as away:
            assert money(away, job_id) == before
        _, status = os.waitpid(forked(says(place / "home", job_id, 0)), 0)
        assert os.WEXITSTATUS(status) == 0
        with away_lab(place, now, run_limit_s=1800.0) as away:
            require_stated(money(away, job_id), SAID)
