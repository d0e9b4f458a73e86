"""A widget with a job that is followed to its end, and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Generator, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any, ClassVar, Final

import traitlets as t

from simpletuner_lab.client import Client
from simpletuner_lab.core.errors import InvalidRequest, JobNotFound, ServerUnreachable
from simpletuner_lab.results import finished
from simpletuner_lab.services.codec import decode
from simpletuner_lab.services.views import JobView, MetricsView
from simpletuner_lab.terminal import one_line
from simpletuner_lab.widgets.card import job_card, job_facts, job_state
from simpletuner_lab.widgets.follower import Glance
from simpletuner_lab.widgets.outcome import OutcomeWidget
from simpletuner_lab.widgets.pictures import newest_samples
from simpletuner_lab.widgets.saved import saved

LOOK_S: Final = 0.5
_SAVE_S: Final = 2.0
"""At most so often the job goes into the traits that a notebook saves."""

_BREATH_S: Final = 0.3
"""In ipykernel 7.4 a loop that sleeps does not hear of an interrupt: it is woken so often."""

_PICTURES: Final = 4
_PICTURE_BYTES: Final = 200_000


class RunWidget(OutcomeWidget):
    """A job in a cell. `await widget` or `widget.wait()` until it ends; `observe` the traits below while it runs."""

    status = t.Unicode(read_only=True)
    """As in the list of jobs; empty before there is one."""
    step = t.Int(read_only=True)
    total_steps = t.Int(read_only=True)
    loss = t.Float(None, allow_none=True, read_only=True)
    progress = t.Float(read_only=True)
    """Share of the steps done, 0 to 1."""

    def __init__(self, client: Client | None = None, **state: Any) -> None:
        self._ended: Future[JobView] = Future()
        self._last: JobView | None = None
        self._curve: MetricsView | None = None
        self._saved_at = 0.0
        self._saved_version = -1
        self._waiters = 0
        super().__init__(client, **state)
        self.observe(lambda _: self._begin(), "job_id")

    def __repr__(self) -> str:
        if self._last is None:
            return f"<job {self.job_id}>" if self.job_id else "<training, not submitted>"
        facts = ", ".join([str(self._last.status), *job_facts(self._last)])
        return f"<{one_line(self._last.config_name)}: {facts} (job {self.job_id})>"

    def __await__(self) -> Generator[Any, None, JobView]:
        """Waits for the end without holding up the loop.

        Raises:
            JobFailed: it failed or was cancelled.
            JobNotFound: it was deleted.
        """
        return self._awaited().__await__()

    def wait(self, timeout: float | None = None) -> JobView:
        """Waits for the end, and before it for consent; interrupting the kernel ends the waiting, not the job.

        Raises:
            JobFailed: it failed or was cancelled.
            JobNotFound: it was deleted.
            TimeoutError: it goes on after `timeout` seconds.
        """
        _learn_now(self)
        with self._waiting() as ended:
            return _result(ended, timeout)

    def look(self, glance: Glance) -> float | None:
        """Brings the traits up to date."""
        if not self.job_id:
            return None
        try:
            job = glance.job(self.job_id)
        except JobNotFound as error:
            self._tell(self.job_id, 0)
            with contextlib.suppress(InvalidStateError):
                self._ended.set_exception(error)
            return None
        due = job.is_terminal or time.monotonic() - self._saved_at >= _SAVE_S
        save = due and job.version != self._saved_version
        if save:
            self._curve = glance.curve(job.job_id)
        self._take_in(job, save=save)
        if not job.is_terminal:
            return LOOK_S
        glance.settle(job.job_id)
        self._paper.replace(self._card(), repr(self))
        with contextlib.suppress(InvalidStateError):
            self._ended.set_result(job)
        self._line.later(lambda client: client.settle(job.job_id), slow=True)  # without a server: its model goes on
        return None

    def close(self) -> None:
        """Takes the widget down; who waits is told so. The job goes on."""
        ended = getattr(self, "_ended", None)
        if ended is not None:
            ended.cancel()
        super().close()

    async def _awaited(self) -> JobView:
        await asyncio.to_thread(_learn_now, self)
        with self._waiting() as ended:
            end = asyncio.wrap_future(ended)
            end.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, also if nobody waits then
            while not end.done():
                await asyncio.wait({end}, timeout=_BREATH_S)
            return _result(ended)

    def _learn(self, glance: Glance) -> None:
        """Finds out which job it is, where that is not known."""

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[Future[JobView]]:
        """While somebody waits, the widget is followed closely."""
        if not self.job_id:
            print("Waiting for your agreement: read the plan in the form above, and press its button.")  # noqa: T201
        self._waiters += 1
        try:
            if not self._ended.done():
                self._follow()
            yield self._ended
        finally:
            self._waiters -= 1

    def _begin(self) -> None:
        """Another job is shown: the browser chose it, or it was submitted just now."""
        self._last = self._curve = None
        self._saved_version = -1
        with self._lock:
            for name in ("status", "step", "total_steps", "loss", "progress"):
                self.set_trait(name, self.traits()[name].default_value)
        if self._ended.done():
            self._ended = Future()
        self._follow()

    def _take_in(self, job: JobView, *, save: bool) -> None:
        with self._lock:
            before = self._last
            if before is not None and job.version < before.version:
                return
            self._last = job
            for name, value in _traits_of(job).items():
                self.set_trait(name, value)
            if save:
                self._saved_at, self._saved_version = time.monotonic(), job.version
                with self.hold_sync():
                    self.job, self.curve = saved(job), None if self._curve is None else saved(self._curve)
        if before is None or job.version > before.version:
            self._tell(job.job_id, job.version)
        if (before is None or job_state(job) != job_state(before)) and not job.is_terminal:
            self._paper.replace(self._card(), repr(self))

    def _card(self) -> str:
        job = self._last
        if job is None or not job.is_terminal:
            return "" if job is None else job_card(_given_away(job), self._curve, {})
        delivered = self._line.ask(lambda client: client.outputs(job.job_id))
        return job_card(
            _given_away(job), self._curve, newest_samples(delivered, count=_PICTURES, largest=_PICTURE_BYTES)
        )


class JobWidget(RunWidget):
    """One job, live."""

    bundle: ClassVar[str] = "jobs"
    view = t.Unicode("job").tag(sync=True)

    def __init__(self, job_id: str, client: Client | None = None) -> None:
        super().__init__(client, job_id=job_id)
        if self.look(Glance(self._line)) is not None:
            self._follow()


def _learn_now(widget: RunWidget) -> None:
    with contextlib.suppress(ServerUnreachable):
        widget._learn(Glance(widget._line))  # noqa: SLF001


def _result(ended: Future[JobView], timeout: float | None = None) -> JobView:
    try:
        return finished(ended.result(timeout))
    except TimeoutError as error:
        raise TimeoutError(f"the job goes on after {timeout} s of waiting; its widget shows it") from error
    except CancelledError as error:
        raise InvalidRequest("this widget was closed", hint="simpletuner_lab.job(ID) shows the job") from error


def _given_away(job: JobView) -> JobView:
    """A job as it may stand in a notebook: its failure may name folders."""
    return decode(JobView, saved(job), what="job")


def _traits_of(job: JobView) -> dict[str, Any]:
    progress = job.progress
    return {
        "status": str(job.status),
        "step": progress.step,
        "total_steps": progress.total_steps,
        "loss": progress.loss,
        "progress": progress.fraction,
    }
