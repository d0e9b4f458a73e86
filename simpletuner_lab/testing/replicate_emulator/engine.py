"""What runs models. The scripted engine plays what it is told: lines, outputs and an end, each at its time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from simpletuner_lab.testing.replicate_emulator.clock import Alarm, Timeline
from simpletuner_lab.testing.replicate_emulator.records import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What an engine is to run. Addresses of uploaded files in `input` need no token."""

    id: str
    version: Version
    input: Mapping[str, Any]


class Report(Protocol):
    """What an engine tells of a run, on the server's loop. After the end of the run, whoever ended it, nothing counts."""

    def begin(self) -> None:
        """The set-up is over; from now on it costs."""

    def log(self, text: str) -> None:
        """More of the log."""

    def output(self, value: Any) -> None:
        """The output so far; each `OutputFile` in it becomes an address."""

    def metric(self, name: str, value: float) -> None:
        """A number that the model counts."""

    def succeed(self) -> None:
        """It is done."""

    def fail(self, error: str) -> None:
        """It came to nothing. Before `begin` it is the set-up that failed."""


class Engine(Protocol):
    """Runs models; all methods are called on the server's loop."""

    def start(self, job: Job, report: Report) -> None:
        """Begins a run and returns; whatever happens is reported."""

    def cancel(self, job_id: str) -> None:
        """Ends a run; one that is not known is no fault."""

    def close(self) -> None:
        """Ends all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """A file that a run has made."""

    name: str
    content: bytes = field(repr=False)


RUN_ERRORS: Final = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What a play may raise to fail its run; anything else is a fault of the play."""


class SetupFailed(Exception):
    """Raised by a play before its first step: the model could not be set up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happens in a run, `after_s` seconds after the one before.

    `log` is more of the log as it stands, its line ends with it; `output` is the output so far, `metrics` are numbers
    that the model counts; `error` ends the run as failed.
    """

    after_s: float = 0.0
    log: str = ""
    output: Any = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


Script: TypeAlias = Iterable[Step]
Play: TypeAlias = Script | Callable[[Job], Script]
"""Steps, or what makes them from the input. A generator is asked for the next step when one has happened; what it
raises of `RUN_ERRORS` fails the run with those words, and `SetupFailed` before the first step the set-up."""

HELLO: Final = (Step(after_s=1.0, log="hello\n", output="hello"),)
"""What is played where nothing else was asked for."""


class ScriptedEngine:
    """Plays scripts on the time line.

    Args:
        timeline: on which they are played.
        plays: by `owner/name` of the model.
        default: for the other models.
    """

    def __init__(self, timeline: Timeline, plays: Mapping[str, Play] | None = None, default: Play = HELLO) -> None:
        self._timeline = timeline
        self._default = default
        self.plays: dict[str, Play] = dict(plays or {})
        self._next: dict[str, Alarm] = {}

    def start(self, job: Job, report: Report) -> None:
        """Begins to play."""
        play = self.plays.get(job.version.model, self._default)
        try:
            steps = iter(play(job) if callable(play) else play)
            first = next(steps, None)
        except SetupFailed as error:
            report.fail(str(error))
            return
        except RUN_ERRORS as raised:
            report.begin()
            report.fail(str(raised))
            return
        report.begin()
        self._await(first, steps, job.id, report)

    def cancel(self, job_id: str) -> None:
        """Plays no further."""
        alarm = self._next.pop(job_id, None)
        if alarm is not None:
            alarm.cancel()

    def close(self) -> None:
        """Plays nothing any more."""
        for job_id in list(self._next):
            self.cancel(job_id)

    def _await(self, step: Step | None, rest: Iterator[Step], job_id: str, report: Report) -> None:
        if step is None:
            self._next.pop(job_id, None)
            report.succeed()
            return
        self._next[job_id] = self._timeline.after(step.after_s, lambda: self._take(step, rest, job_id, report))

    def _take(self, step: Step, rest: Iterator[Step], job_id: str, report: Report) -> None:
        for name, value in step.metrics.items():
            report.metric(name, value)
        if step.log:
            report.log(step.log)
        if step.output is not None:
            report.output(step.output)
        try:
            following, error = next(rest, None), step.error
        except RUN_ERRORS as raised:
            following, error = None, str(raised)
        if error is None:
            self._await(following, rest, job_id, report)
        else:
            self._next.pop(job_id, None)
            report.fail(error)
