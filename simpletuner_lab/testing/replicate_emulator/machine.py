"""The life of a prediction: starting, processing, one end for good; who waits for whom, and what is left of it."""

from __future__ import annotations

import itertools
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from simpletuner_lab.testing.replicate_emulator.clock import Alarm, Timeline
from simpletuner_lab.testing.replicate_emulator.engine import Engine, Job
from simpletuner_lab.testing.replicate_emulator.files import FileStore
from simpletuner_lab.testing.replicate_emulator.ledger import Ledger
from simpletuner_lab.testing.replicate_emulator.outputs import Outputs
from simpletuner_lab.testing.replicate_emulator.records import Conduct, Prediction, Refusal, Status, Version, Word
from simpletuner_lab.testing.replicate_emulator.requests import known, redacted
from simpletuner_lab.testing.replicate_emulator.workers import Workers

TIMED_OUT: Final = "Prediction timed out"
"""The error of a run that passed the limit; Replicate's own words are not known."""

_ID_LETTERS: Final = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A create that has passed every check."""

    kind: str
    owner: str
    version: Version
    hidden: bool
    """The version's id is not told."""
    input: dict[str, Any]
    life_s: int | None = None
    webhook: str | None = None
    words: frozenset[Word] = frozenset()
    deployment: str | None = None
    destination: str | None = None


class Machine:
    """All predictions and trainings of an emulator.

    Args:
        timeline: on which they live.
        engine: what runs them.
        conduct: how long what takes.
        ledger: where their costs go.
        files: their inputs.
        outputs: what they make.
        announce: what is told of each change.
        base_url: gives the address of the emulator.
    """

    def __init__(
        self, *, timeline: Timeline, engine: Engine, conduct: Conduct, ledger: Ledger, files: FileStore, outputs: Outputs,
        announce: Callable[[Prediction, Word], None], base_url: Callable[[], str],
    ) -> None:  # fmt: skip
        self._timeline, self._engine, self._conduct, self._ledger = timeline, engine, conduct, ledger
        self._files, self._outputs, self._base_url = files, outputs, base_url
        self._workers = Workers(timeline, conduct, self._launch)
        self._numbers = itertools.count(1)
        self._alarms: dict[str, list[Alarm]] = {}
        self.announce: Final = announce
        self.predictions: Final[dict[str, Prediction]] = {}

    def create(self, order: Order) -> Prediction:
        """Takes on a run.

        Raises:
            Refusal: 402, the account's credit is used up.
        """
        credit = self._conduct.credit_usd
        if credit is not None and self._ledger.total_usd(order.owner) >= credit:
            detail = "You have insufficient credit to run this model. Go to billing to purchase credit."
            raise Refusal(402, detail, "Insufficient credit")
        now = self._timeline.now()
        made = Prediction(
            id="".join(secrets.choice(_ID_LETTERS) for _ in range(26)), number=next(self._numbers), kind=order.kind,
            owner=order.owner, model=order.version.model, version=order.version,
            version_shown="hidden" if order.hidden else order.version.id, given=order.input,
            input=redacted(order.input, order.version), created_at=now,
            deadline=None if order.life_s is None else now + order.life_s, webhook=order.webhook, words=order.words,
            deployment=order.deployment, destination=order.destination,
        )  # fmt: skip
        self.predictions[made.id] = made
        if order.life_s is not None:
            self._alarm(made, order.life_s, lambda: self._past_deadline(made))
        self._alarm(made, self._conduct.queue_s, lambda: self._workers.queue(made))
        return made

    def find(self, kind: str, owner: str, prediction_id: str) -> Prediction:
        """One of an account's.

        Raises:
            Refusal: 404, it has none such.
        """
        found = self.predictions.get(prediction_id)
        if found is None or (found.kind, found.owner) != (kind, owner):
            raise Refusal(404, "The requested resource could not be found.", "Not found")
        return found

    def of(self, kind: str, owner: str) -> list[Prediction]:
        """All of an account's, the newest first."""
        return [one for one in reversed(self.predictions.values()) if (one.kind, one.owner) == (kind, owner)]

    def cancel(self, prediction: Prediction) -> None:
        """Ends it, at once or after a while; what has ended stays as it is."""
        if prediction.status is Status.STARTING or self._conduct.cancel_s == 0:
            self.end(prediction, Status.CANCELED)
        elif not prediction.status.is_terminal:
            self._alarm(prediction, self._conduct.cancel_s, lambda: self.end(prediction, Status.CANCELED))

    def abort(self, prediction_id: str) -> None:
        """Replicate gives up what has not begun.

        Raises:
            ValueError: it has begun, or is not there.
        """
        found = self.predictions.get(prediction_id)
        if found is None or found.status is not Status.STARTING:
            raise ValueError(f"no prediction {prediction_id!r} is starting")
        self.end(found, Status.ABORTED)

    def begin(self, prediction: Prediction) -> None:
        """It runs, and costs."""
        prediction.status = Status.PROCESSING
        prediction.started_at = self._timeline.now()
        self._alarm(prediction, self._conduct.run_limit_s, lambda: self.end(prediction, Status.FAILED, TIMED_OUT))
        self.announce(prediction, Word.START)

    def output(self, prediction: Prediction, value: Any) -> None:
        """It has made something."""
        prediction.output = self._outputs.told(value, prediction.id, f"{self._base_url()}/delivery/")
        self.announce(prediction, Word.OUTPUT)

    def end(self, prediction: Prediction, status: Status, error: str | None = None) -> None:
        """It is over for good, whoever says so; what has ended stays as it is."""
        if prediction.status.is_terminal:
            return
        now = self._timeline.now()
        prediction.status, prediction.error, prediction.completed_at = status, error, now
        prediction.metrics["total_time"] = now - prediction.created_at
        if prediction.started_at is not None:
            prediction.metrics["predict_time"] = now - prediction.started_at
        for alarm in self._alarms.pop(prediction.id, []):
            alarm.cancel()
        self._engine.cancel(prediction.id)
        self._ledger.book(prediction, now)
        self.announce(prediction, Word.COMPLETED)
        prediction.ended.set()
        self._timeline.after(self._conduct.keep_data_s, lambda: self._forget(prediction))
        self._workers.release(prediction)

    def _alarm(self, prediction: Prediction, delay_s: float, action: Callable[[], None]) -> None:
        self._alarms.setdefault(prediction.id, []).append(self._timeline.after(delay_s, action))

    def _past_deadline(self, prediction: Prediction) -> None:
        began = prediction.status is Status.PROCESSING
        self.end(prediction, Status.CANCELED if began else Status.ABORTED)

    def _launch(self, prediction: Prediction) -> None:
        given = known(prediction.given, prediction.version)
        readable = self._files.readable(given, prediction.owner, f"{self._base_url()}/v1/files/")
        job = Job(id=prediction.id, version=prediction.version, input=readable)
        self._engine.start(job, _Report(self, prediction))

    def _forget(self, prediction: Prediction) -> None:
        prediction.data_removed = True
        prediction.given, prediction.input, prediction.output, prediction.logs = {}, {}, None, ""
        self._outputs.drop(prediction.id)


class _Report:
    """What an engine tells the machine of one run."""

    def __init__(self, machine: Machine, prediction: Prediction) -> None:
        self._machine, self._prediction = machine, prediction

    def begin(self) -> None:
        if self._prediction.status is Status.STARTING:
            self._machine.begin(self._prediction)

    def log(self, text: str) -> None:
        if self._runs:
            self._prediction.logs += text
            self._machine.announce(self._prediction, Word.LOGS)

    def output(self, value: Any) -> None:
        if self._runs:
            self._machine.output(self._prediction, value)

    def metric(self, name: str, value: float) -> None:
        if self._runs:
            self._prediction.metrics[name] = value

    def succeed(self) -> None:
        if self._runs:
            self._machine.end(self._prediction, Status.SUCCEEDED)

    def fail(self, error: str) -> None:
        self._machine.end(self._prediction, Status.FAILED, error)

    @property
    def _runs(self) -> bool:
        return self._prediction.status is Status.PROCESSING
