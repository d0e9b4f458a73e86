"""News of jobs on the event loop: wakes who waits for them, and hands them to Jupyter's event bus.

The recorder of this process tells it from any thread; what other processes write to the same store is found by a look
at it once a second. Whichever comes first is told, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from simpletuner_lab.core.errors import LabError
from simpletuner_lab.core.event import Event, EventKind
from simpletuner_lab.core.job import Job

if TYPE_CHECKING:  # it brings the store, which loads after the port listens
    from simpletuner_lab.services.feed import Written

JOB_EVENT: Final = "https://events.simpletuner.example/lab/job"
JOB_SCHEMA: Final = Path(__file__).with_name("events") / "job.yaml"

QUIET_S: Final = 0.2
"""Pause between two events of a job, unless it ends."""

_LOOK_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNews:
    """The data of one event, as `events/job.yaml` describes them."""

    job_id: str
    status: str
    version: int
    seq: int
    step: int = 0
    total_steps: int = 0
    attempt: int = 0
    log_bytes: int = 0
    is_terminal: bool

    @classmethod
    def of(cls, job: Job, seq: int) -> JobNews:
        """A job as it is now; `seq` is the number of its newest event, 0 where that is not news."""
        return cls(
            job_id=job.id,
            status=job.state.value,
            version=job.version,
            seq=seq,
            step=job.progress.step,
            total_steps=job.progress.total_steps,
            attempt=job.attempt,
            log_bytes=job.log_bytes,
            is_terminal=job.terminal,
        )

    @classmethod
    def gone(cls, deletion: Event) -> JobNews:
        """A job that is no more."""
        version = int(deletion.data["version"] or 0)
        return cls(
            job_id=deletion.job_id, status=deletion.kind.value, version=version, seq=deletion.seq, is_terminal=True
        )


@dataclass(slots=True)
class _Line:
    """What is known of one job: how far it was heard and told."""

    version: int = 0
    status: str = ""
    seq: int = 0
    told_seq: int = 0
    """Newest events of its timeline: heard of, and told."""
    waiting: JobNews | None = None
    quiet: asyncio.TimerHandle | None = None


class Announcer:
    """Tells news of jobs: the first at once, then the latest every 0.2 s, the end of a job without delay."""

    def __init__(self, emit: Callable[[JobNews], None]) -> None:
        self._emit = emit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lines: dict[str, _Line] = defaultdict(_Line)  # a few bytes for each job written since the start
        self._readers: dict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def start(self) -> None:
        """Begins to tell, on the running event loop."""
        self._loop = asyncio.get_running_loop()

    def publish(self, job: Job, events: Sequence[Event]) -> None:
        """A listener for `services.recorder`: may be called from any thread, and never raises."""
        if self._loop is None:
            return
        if events and events[-1].kind is EventKind.DELETED:
            news = JobNews.gone(events[-1])
        else:
            news = JobNews.of(job, events[-1].seq if events else 0)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server ends
            self._loop.call_soon_threadsafe(self._hear, news)

    async def follow(self, written: Callable[[int], Awaitable[Written]], seq: int) -> None:
        """Tells what other processes write after a number of the store's, until it is cancelled."""
        failing = False
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                found = await written(seq)
            except LabError as error:
                if not failing:
                    _log.warning("the store cannot be followed for now: %s", error.message)
                failing = True
                continue
            failing = False
            for job, newest in found.jobs:
                self._hear(JobNews.of(job, newest))
            for deletion in found.deletions:
                self._hear(JobNews.gone(deletion))
            seq = found.seq

    async def news(self, job_id: str, timeout_s: float) -> None:
        """Returns at the next news of this job, or after the time-out."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers[job_id].add(future)
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            pass
        finally:
            self._readers[job_id].discard(future)
            if not self._readers[job_id]:
                del self._readers[job_id]

    def _hear(self, news: JobNews) -> None:
        line = self._lines[news.job_id]
        line.seq = max(line.seq, news.seq)
        if news.version <= line.version:
            return  # a thread that was late, or the store's word on what was told already
        line.version, line.waiting = news.version, news
        for future in self._readers.get(news.job_id, ()):
            if not future.done():
                future.set_result(None)
        if line.quiet is None or (news.is_terminal and news.status != line.status):
            self._tell(line, news)

    def _tell(self, line: _Line, news: JobNews) -> None:
        if line.quiet is not None:
            line.quiet.cancel()
        line.quiet = asyncio.get_running_loop().call_later(QUIET_S, self._quiet_over, line)
        told = dataclasses.replace(news, seq=line.seq if line.seq > line.told_seq else 0)
        line.status, line.told_seq, line.waiting = news.status, line.seq, None
        self._emit(told)

    def _quiet_over(self, line: _Line) -> None:
        line.quiet = None
        if line.waiting is not None:
            self._tell(line, line.waiting)
