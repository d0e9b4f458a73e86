"""How far a job's data are, in the words of the original, from the submit to the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.core.job import Failure, Job, JobState
from simpletuner_lab.core.provider import ProgressCallback
from simpletuner_lab.services.upload_views import UploadProgress, upload_progress
from tests.services.remote_kit import Away, away_lab

MB = 1_000_000


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    with away_lab(tmp_path) as opened:
        yield opened


def seen(away: Away, job: Job) -> UploadProgress:
    job = away.lab.store.jobs.get(job.id)
    return upload_progress(job, away.lab.queue.standings((job,)).get(job.id))


def test_from_the_queue_to_the_run(away: Away, images: Path) -> None:
    job, words = away.submit(images), []
    assert (seen(away, job).stage, seen(away, job).done) == ("waiting", False)
    assert seen(away, job).message.startswith("number 1 in the queue")

    def uploading(progress: ProgressCallback) -> None:
        words.append(seen(away, job))
        for done in (6, 24, 30):
            away.clock.now += 2
            progress(done * MB, 30 * MB)
            words.append(seen(away, job))

    away.lab.registry.get("elsewhere").uploading = uploading
    away.on(job, 3)
    assert [(one.stage, one.current, one.total, one.percent) for one in words] == [
        ("uploading", 0, 0, 0.0),
        ("uploading", 6 * MB, 30 * MB, 20.0),
        ("uploading", 24 * MB, 30 * MB, 80.0),
        ("uploading", 30 * MB, 30 * MB, 100.0),
    ]
    assert words[2].message.startswith("sending: 24.0 of 30.0 MB")
    assert not any(one.done or one.error for one in words)
    after = seen(away, job)
    assert (after.stage, after.percent, after.done, after.error) == ("complete", 100.0, True, None)


def test_data_that_never_left(away: Away, images: Path) -> None:
    job = away.submit(images)
    away.lab.cancel(job.id)
    found = seen(away, job)
    assert (found.stage, found.done, found.error) == ("error", True, "the job was cancelled before its data were sent")


def test_why_they_will_not_arrive(away: Away, images: Path) -> None:
    job = away.submit(images)
    lost = Failure(code="too_large", message="the archive is over 100 MiB")
    failed = dataclasses.replace(job.moved(JobState.FAILED, now=job.created_at), failure=lost)
    assert upload_progress(failed).error == "the archive is over 100 MiB"
    sent = dataclasses.replace(failed, upload_ref="upload-1")
    assert upload_progress(sent).stage == "complete", "what failed came after them"
    assert upload_progress(dataclasses.replace(failed, nonce="")).stage == "complete", "it was started elsewhere"


def test_an_upload_that_stands_still_says_why(away: Away, images: Path) -> None:
    job = dataclasses.replace(away.submit(images), state=JobState.UPLOADING, waiting="elsewhere does not answer")
    found = upload_progress(job)
    assert (found.stage, found.message, found.done) == ("uploading", "elsewhere does not answer", False)
