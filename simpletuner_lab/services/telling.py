"""How far a job's data have come on their way out: packed, then sent (SPEC K6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

from simpletuner_lab.core.job import Job, Progress
from simpletuner_lab.services.recorder import Recorder

PACK: Final = "pack"
SEND: Final = "send"
"""Stages of a job that has no run yet."""

_GAP_S: Final = 1.0
_MB: Final = 1e6


def unstaged(progress: Progress) -> Progress:
    """A progress without what was told of packing and sending."""
    if progress.stage not in {PACK, SEND}:
        return progress
    return dataclasses.replace(progress, stage="", stage_label="", stage_done=0, stage_total=0)


class Telling:
    """Writes it on the job, once a second at the most: what is done sooner is not told at all.

    Whoever writes the job meanwhile, to cancel it for one, ends the work: the next word raises `StaleRecord`.
    """

    def __init__(self, recorder: Recorder, job: Job, clock: Callable[[], float]) -> None:
        self.job = job
        """As it is stored."""
        self._recorder = recorder
        self._clock = clock
        self._before = job.progress
        self.left: int | None = None
        """Bytes of the archive that have left so far, as the provider told; 0 at the end: it had them already."""
        self._began = self._told = clock()

    def packed(self, _stage: str, done: int, total: int, _bytes: int) -> None:
        """So many files are in the archive."""
        self._tell(PACK, f"packing: {done:,} of {total:,} files", done, total)

    def sent(self, done: int, total: int) -> None:
        """So many bytes of the archive are with the provider, or on their way."""
        self.left = done
        if not done:
            return
        rate = done / max(self._clock() - self._began, 1e-3)
        label = f"sending: {done / _MB:,.1f} of {total / _MB:,.1f} MB, {rate / _MB:,.1f} MB/s"
        self._tell(SEND, label, done, total)

    def over(self) -> Job:
        """The job with the progress that it had before."""
        return dataclasses.replace(self.job, progress=self._before)

    def _tell(self, stage: str, label: str, done: int, total: int) -> None:
        now = self._clock()
        if now - self._told < _GAP_S:
            return
        self._told = now
        progress = dataclasses.replace(self._before, stage=stage, stage_label=label, stage_done=done, stage_total=total)
        self.job = self._recorder.note(
            self.job, dataclasses.replace(self.job, progress=progress, updated_at=now), at=now
        )
