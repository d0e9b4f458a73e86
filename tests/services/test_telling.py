"""How far the data have come is on the job while they are packed and sent, and a cancel ends that (SPEC K6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.core.errors import ProviderUnavailable, StaleRecord
from simpletuner_lab.core.event import EventKind, Scalar
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


def sent(away: Away, job: Job) -> list[tuple[Scalar, str]]:
    """Each time data left by the timeline: bytes, and what is not confirmed."""
    events = away.lab.store.events.of_kind(job.id, EventKind.SENT)
    return [(event.data["bytes"], str(event.data.get("problem", ""))) for event in events]


def test_each_time_that_data_left_is_on_the_timeline(away: Away, images: Path) -> None:
    """The answer to an upload is lost, the next one breaks off, a third finds nobody, and one arrives."""
    job = away.submit(images)
    faults = iter([(1.0, "no answer"), (0.5, "reset"), (0.0, "refused")])

    def uploading(progress: ProgressCallback) -> None:
        share, fault = next(faults, (1.0, ""))
        if share:
            progress(round(whole * share), whole)
        if fault:
            away.clock.now += 2
            raise ProviderUnavailable(fault)

    away.lab.registry.get("elsewhere").uploading = uploading
    away.on(job)
    whole = next(away.lab.home.spool.glob("*.zip")).stat().st_size
    assert away.on(job, 4).state is JobState.QUEUED
    unsure = f"of {whole:,} bytes left for elsewhere.example; that they arrived is not confirmed: "
    assert sent(away, job) == [
        (whole, f"{whole:,} {unsure}no answer"), (round(whole / 2), f"{round(whole / 2):,} {unsure}reset"), (whole, ""),
    ]  # fmt: skip
    assert len(away.lab.store.transfers.of_job(job.id)) == 4, "each try is put on record before its first byte"


def test_what_was_there_already_is_not_told_as_sent_again(away: Away, images: Path) -> None:
    job, faults = away.submit(images), iter(["no answer"])

    def uploading(progress: ProgressCallback) -> None:
        away.clock.now += 2
        if fault := next(faults, ""):
            progress(whole, whole)
            raise ProviderUnavailable(fault)
        progress(0, whole)

    away.lab.registry.get("elsewhere").uploading = uploading
    away.on(job)
    whole = next(away.lab.home.spool.glob("*.zip")).stat().st_size
    assert away.on(job, 2).state is JobState.QUEUED
    assert [size for size, _ in sent(away, job)] == [whole, 0]
    told = away.lab.store.events.of_kind(job.id, EventKind.SENT)[-1].data["message"]
    assert told == f"nothing was sent again: elsewhere.example had all {whole:,} bytes of an earlier try"


def test_data_that_left_before_a_cancel_or_a_kill_are_on_the_timeline(away: Away, images: Path) -> None:
    class Killed(BaseException):
        pass

    def uploading(progress: ProgressCallback) -> None:
        away.clock.now += 2
        progress(3, 30)
        if not away.lab.store.jobs.get(job.id).cancel_requested_at and not sent(away, job):
            raise Killed
        away.clock.now += 2
        away.lab.cancel(job.id)
        progress(20, 30)

    job = away.submit(images)
    away.lab.registry.get("elsewhere").uploading = uploading
    away.on(job)
    with pytest.raises(Killed):
        away.on(job)
    assert told(away, job)[0] == "send"
    with pytest.raises(StaleRecord):
        away.on(job)
    first, second = sent(away, job)
    assert first[0] == 3
    assert first[1].endswith("the process that sent them has ended")
    assert second[0] == 20
    assert second[1].endswith("the job was changed meanwhile")
    assert away.on(job).state is JobState.CANCELLED
    assert away.lab.store.jobs.get(job.id).progress == Progress()


def test_packing_tells_files(away: Away, images: Path) -> None:
    job = away.submit(images)
    telling = Telling(away.lab.runner._rooms.recorder, away.lab.store.jobs.get(job.id), away.clock)
    telling.packed("packaging", 1, 6, 10)
    assert telling.job.progress == Progress()
    away.clock.now += 1
    telling.packed("packaging", 4, 6, 40)
    assert told(away, job) == ("pack", "packing: 4 of 6 files", 4, 6)
    assert telling.over().progress == Progress()


def test_data_of_which_nobody_can_tell_are_not_told_as_gone(away: Away, images: Path) -> None:
    job = away.started(images)
    away.place.change(job.run.ref, state="failed")
    away.place.fail(discard="uncertain")
    job = away.on(job, 2)
    assert job.settled_at is not None, "so it can be deleted"
    (event,) = away.lab.store.events.of_kind(job.id, EventKind.DISCARDED)
    assert event.data["data_left"] is True
    assert event.data["message"] == "whether the data are gone cannot be told: elsewhere forgets tags"
    assert [one.discarded_at for one in away.lab.store.transfers.of_job(job.id)] == [None]
