"""How far the data have come is on the job while they are packed and sent, and a cancel ends that (SPEC K6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.core.errors import StaleRecord
from simpletuner_lab.core.job import Job, JobState, Progress
from simpletuner_lab.core.provider import ProgressCallback
from simpletuner_lab.services.telling import Telling
from tests.services.remote_kit import Away, away_lab

MB = 1_000_000


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    with away_lab(tmp_path) as opened:
        yield opened


def told(away: Away, job: Job) -> tuple[str, str, int, int]:
    seen = away.lab.store.jobs.get(job.id).progress
    return seen.stage, seen.stage_label, seen.stage_done, seen.stage_total


def test_an_upload_tells_bytes_and_rate_once_a_second(away: Away, images: Path) -> None:
    job, seen = away.submit(images), []

    def uploading(progress: ProgressCallback) -> None:
        for quarters in range(1, 14):
            away.clock.now += 0.25
            progress(quarters * 2 * MB, 30 * MB)
            seen.append((away.lab.store.jobs.get(job.id).version, *told(away, job)))

    away.lab.registry.get("elsewhere").uploading = uploading
    after = away.on(job, 3)
    assert len({version for version, *_ in seen}) == 4, "the beginning, and three words"
    assert seen[-1][1:] == ("send", "sending: 24.0 of 30.0 MB, 8.0 MB/s", 24 * MB, 30 * MB)
    assert (after.state, after.upload_ref, after.progress) == (JobState.QUEUED, "upload-1", Progress())


def test_a_cancel_ends_an_upload_that_is_under_way(away: Away, images: Path) -> None:
    job, pieces = away.submit(images), []

    def uploading(progress: ProgressCallback) -> None:
        for number in range(1, 30):
            away.clock.now += 2
            if number == 3:
                away.lab.cancel(job.id)
            progress(number * MB, 30 * MB)
            pieces.append(number)

    away.lab.registry.get("elsewhere").uploading = uploading
    with pytest.raises(StaleRecord):  # whoever advances jobs looks again
        away.on(job, 3)
    job = away.on(job)
    assert (job.state, pieces) == (JobState.CANCELLED, [1, 2])
    assert away.place.uploads() == []
    assert away.place.runs() == {}
    assert away.on(job).settled_at is not None
    assert list(away.lab.home.spool.iterdir()) == []


def test_packing_tells_files(away: Away, images: Path) -> None:
    job = away.submit(images)
    telling = Telling(away.lab.runner._rooms.recorder, away.lab.store.jobs.get(job.id), away.clock)
    telling.packed("packaging", 1, 6, 10)
    assert telling.job.progress == Progress()
    away.clock.now += 1
    telling.packed("packaging", 4, 6, 40)
    assert told(away, job) == ("pack", "packing: 4 of 6 files", 4, 6)
    assert telling.over().progress == Progress()
