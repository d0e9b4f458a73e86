"""How far a job's data are on their way to its provider, in the words of the original (contract §1.5, §2.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.job_queue import Standing
from simpletuner_lab.services.telling import PACK, SEND

WAITING: Final = "waiting"
"""For its slot in the queue. The original has no such stage, and its `scanning` is the plan's work here."""
PACKAGING: Final = "packaging"
UPLOADING: Final = "uploading"
COMPLETE: Final = "complete"
ERROR: Final = "error"

_BEFORE_A_RUN: Final = frozenset({JobState.PENDING, JobState.UPLOADING, JobState.QUEUED})


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadProgress:
    """One look at it. `current` and `total` are files while it is packed and bytes while it is sent; 0 is not known."""

    stage: str
    current: int = 0
    total: int = 0
    percent: float = 0.0
    message: str = ""
    done: bool = False
    """Nothing more will be told: the data are there, or will never be."""
    error: str | None = None


GONE: Final = UploadProgress(stage=ERROR, message="the job was deleted", done=True, error="the job was deleted")


def upload_progress(job: Job, standing: Standing | None = None) -> UploadProgress:
    """Where the data of a job are; `standing` is where it stands in the queue."""
    if job.terminal and not _arrived(job):
        error = job.failure.message if job.failure else f"the job was {job.state} before its data were sent"
        return UploadProgress(stage=ERROR, message=error, done=True, error=error)
    if job.state in _BEFORE_A_RUN and job.progress.stage in {PACK, SEND}:
        return _counted(job)
    if job.waits_for_slot:
        return UploadProgress(stage=WAITING, message=standing.why if standing else "waits for a slot in the queue")
    if job.state in {JobState.PENDING, JobState.UPLOADING}:
        stage = PACKAGING if job.state is JobState.PENDING else UPLOADING
        trouble = job.waiting or (job.failure.message if job.failure else "")
        return UploadProgress(stage=stage, message=trouble or stage)
    return UploadProgress(stage=COMPLETE, percent=100.0, message="the data are where the run needs them", done=True)


def _arrived(job: Job) -> bool:
    """Also of one that was started elsewhere, and its data with it."""
    return bool(job.upload_ref) or job.started_at is not None or job.imported


def _counted(job: Job) -> UploadProgress:
    told = job.progress
    percent = min(100.0, 100 * told.stage_done / told.stage_total) if told.stage_total else 0.0
    return UploadProgress(
        stage=PACKAGING if told.stage == PACK else UPLOADING,
        current=told.stage_done,
        total=told.stage_total,
        percent=round(percent, 2),
        message=told.stage_label,
    )
