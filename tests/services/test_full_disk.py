"""A disk that is full: what is asked for is refused in words, what was there stays, what runs goes on when there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from simpletuner_lab.core.errors import DiskFull, StoreUnusable
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services.files import write_atomically
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.testing import eventually
from tests.disk_kit import fill, mounted
from tests.lab_kit import quick_home, settled, submitted
from tests.services.remote_kit import away_lab
from tests.services.test_money import of_job

FIRST, SECOND = "r8_" + "a" * 37, "r8_" + "b" * 37


def test_settings_tokens_and_jobs(tmp_path: Path, images: Path) -> None:
    with mounted(tmp_path / "small", "24m") as place, Lab.open(quick_home(place).root) as lab:
        lab.setup.set_token("replicate", Secret(FIRST))
        lab.setup.change("replicate", {"timeout_s": 11.0})
        lab.watcher.start()
        running = submitted(lab, images, "steady", max_train_steps=25)
        eventually(lambda: lab.store.jobs.get(running.id).progress.step)
        before = {path: path.read_bytes() for path in lab.home.provider_settings.iterdir()}
        fill(place / "filler")
        with pytest.raises(DiskFull, match=r"no room for .*REPLICATE_API_TOKEN"):
            lab.setup.set_token("replicate", Secret(SECOND))
        with pytest.raises(DiskFull, match=r"no room for .*replicate\.json"):
            lab.setup.change("replicate", {"timeout_s": 12.0})
        with pytest.raises(DiskFull) as refused:
            submitted(lab, images, "quick", learning_rate=0.5)
        assert refused.value.hint
        assert {path: path.read_bytes() for path in lab.home.provider_settings.iterdir()} == before
        (place / "filler").unlink()
        assert settled(lab, running).state is JobState.COMPLETED
        assert settled(lab, submitted(lab, images, "quick", learning_rate=0.5)).state is JobState.COMPLETED


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="cannot be written"):
        write_atomically(tmp_path / "gone" / "file", b"x")


def test_a_run_past_its_money_is_ended_though_it_cannot_be_looked_at_nor_that_recorded(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    with mounted(tmp_path / "small", "24m") as place, away_lab(place / "lab", run_limit_s=1800.0) as away:
        of_job(away, 1.0)
        job = away.started(images)
        away.place.change("run-1", metered_s=100.0, cost_usd=0.1)
        away.on(job)
        monkeypatch.setattr(away.lab.registry.get("elsewhere"), "cancel", told.append)
        away.place.fail(poll="away")
        fill(place / "filler")
        away.clock.now += 1300
        with pytest.raises(DiskFull):
            away.lab.runner.advance(away.lab.store.jobs.get(job.id))
        assert told == ["run-1"]


def test_a_cancel_reaches_the_run_though_there_is_no_room_to_record_it(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what is asked now, and by a look at a run whose cancel was on record before."""
    told: list[str] = []
    with mounted(tmp_path / "small", "24m") as place, away_lab(place / "lab") as away:
        first, second = away.started(images), away.started(images)
        waits = away.submit(images)
        monkeypatch.setattr(away.lab.registry.get("elsewhere"), "cancel", told.append)
        away.lab.cancel(second.id)
        away.place.change("run-2", log="a line\n")
        fill(place / "filler")
        with pytest.raises(DiskFull, match="its run was told to end; cancel again when there is room"):
            away.lab.cancel(first.id)
        assert told == ["run-1"]
        with pytest.raises(DiskFull):
            away.on(second)
        assert told == ["run-1", "run-2"]
        with pytest.raises(DiskFull, match="nothing was cancelled"):
            away.lab.cancel(waits.id)
        (place / "filler").unlink()
        assert away.lab.cancel(first.id).cancel_requested_at is not None
        assert away.lab.cancel(waits.id).state is JobState.CANCELLED
