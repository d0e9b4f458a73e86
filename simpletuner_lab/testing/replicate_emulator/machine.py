"""The life of a prediction: starting, processing, one end for good; who waits for whom, and what is left of it."""

from __future__ import annotations

import itertools
import secrets
import string
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from simpletuner_lab.testing.replicate_emulator.clock import Alarm, Timeline
from simpletuner_lab.testing.replicate_emulator.engine import Engine, Job, OutputFile
from simpletuner_lab.testing.replicate_emulator.files import FileStore
from simpletuner_lab.testing.replicate_emulator.ledger import Ledger
from simpletuner_lab.testing.replicate_emulator.records import Conduct, Prediction, Refusal, Status, Version, Word
from simpletuner_lab.testing.replicate_emulator.requests import known, redacted

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


@dataclass(slots=True, kw_only=True)
class _Lane:
    """The one worker of a version, and who waits for it."""

    waiting: deque[Prediction] = field(default_factory=deque)
    running: Prediction | None = None
    warm_until: float = 0.0


class Machine:
    """All predictions and trainings of an emulator.

    Args:
        timeline: on which they live.
        engine: what runs them.
        conduct: how long what takes.
        ledger: where their costs go.
        files: their inputs and outputs.
        announce: what is told of each change.
        base_url: gives the address of the emulator.
    """

    def __init__(
        self, *, timeline: Timeline, engine: Engine, conduct: Conduct, ledger: Ledger, files: FileStore,
        announce: Callable[[Prediction, Word], None], base_url: Callable[[], str],
    ) -> None:  # fmt: skip
        self._timeline, self._engine, self._conduct = timeline, engine, conduct
        self._ledger, self._files, self._announce, self._base_url = ledger, files, announce, base_url
        self._numbers = itertools.count(1)
        self._lanes: dict[str, _Lane] = {}
        self._alarms: dict[str, list[Alarm]] = {}
        self.predictions: dict[str, Prediction] = {}

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
        self._alarm(made, self._conduct.queue_s, lambda: self._queue(made))
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
            self._end(prediction, Status.CANCELED)
        elif not prediction.status.is_terminal:
            self._alarm(prediction, self._conduct.cancel_s, lambda: self._end(prediction, Status.CANCELED))

    def abort(self, prediction_id: str) -> None:
        """Replicate gives up what has not begun.

        Raises:
            ValueError: it has begun, or is not there.
        """
        found = self.predictions.get(prediction_id)
        if found is None or found.status is not Status.STARTING:
            raise ValueError(f"no prediction {prediction_id!r} is starting")
        self._end(found, Status.ABORTED)

    def _alarm(self, prediction: Prediction, delay_s: float, action: Callable[[], None]) -> None:
        self._alarms.setdefault(prediction.id, []).append(self._timeline.after(delay_s, action))

    def _past_deadline(self, prediction: Prediction) -> None:
        began = prediction.status is Status.PROCESSING
        self._end(prediction, Status.CANCELED if began else Status.ABORTED)

    def _queue(self, prediction: Prediction) -> None:
        lane = self._lanes.setdefault(prediction.version.id, _Lane())
        lane.waiting.append(prediction)
        self._serve(lane)

    def _serve(self, lane: _Lane) -> None:
        if lane.running is not None or not lane.waiting:
            return
        lane.running = prediction = lane.waiting.popleft()
        cold = self._timeline.now() >= lane.warm_until
        if cold and self._conduct.boot_s:
            self._alarm(prediction, self._conduct.boot_s, lambda: self._launch(prediction))
        else:
            self._launch(prediction)

    def _launch(self, prediction: Prediction) -> None:
        job = Job(
            id=prediction.id,
            version=prediction.version,
            input=self._with_files(known(prediction.given, prediction.version), prediction.owner),
        )
        self._engine.start(job, _Report(self, prediction))

    def begin(self, prediction: Prediction) -> None:
        """It runs, and costs."""
        prediction.status = Status.PROCESSING
        prediction.started_at = self._timeline.now()
        self._alarm(prediction, self._conduct.run_limit_s, lambda: self._end(prediction, Status.FAILED, TIMED_OUT))
        self._announce(prediction, Word.START)

    def tell(self, prediction: Prediction, word: Word) -> None:
        """There is more of its log, or of its output."""
        self._announce(prediction, word)

    def end(self, prediction: Prediction, status: Status, error: str | None = None) -> None:
        """Its engine says that it is over."""
        self._end(prediction, status, error)

    def delivered(self, prediction: Prediction, value: Any) -> Any:
        """An output with addresses in the place of its files."""
        if isinstance(value, OutputFile):
            return f"{self._base_url()}/delivery/{self._files.save_output(prediction.id, value.name, value.content)}"
        if isinstance(value, list | tuple):
            return [self.delivered(prediction, one) for one in value]
        if isinstance(value, Mapping):
            return {key: self.delivered(prediction, one) for key, one in value.items()}
        return value

    def _end(self, prediction: Prediction, status: Status, error: str | None = None) -> None:
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
        self._announce(prediction, Word.COMPLETED)
        prediction.ended.set()
        self._timeline.after(self._conduct.keep_data_s, lambda: self._forget(prediction))
        self._release(prediction, now)

    def _release(self, prediction: Prediction, now: float) -> None:
        lane = self._lanes.get(prediction.version.id, _Lane())
        if prediction in lane.waiting:
            lane.waiting.remove(prediction)
        if lane.running is prediction:
            lane.running = None
            lane.warm_until = now + self._conduct.idle_s
            self._timeline.after(0, lambda: self._serve(lane))  # first whatever else is due now, such as a deadline

    def _forget(self, prediction: Prediction) -> None:
        prediction.data_removed = True
        prediction.given, prediction.input, prediction.output, prediction.logs = {}, {}, None, ""
        self._files.drop_outputs(prediction.id)

    def _with_files(self, value: Any, owner: str) -> Any:
        """The input as a worker can read it: without a token."""
        if isinstance(value, dict):
            return {key: self._with_files(one, owner) for key, one in value.items()}
        if isinstance(value, list):
            return [self._with_files(one, owner) for one in value]
        place = f"{self._base_url()}/v1/files/"
        if not isinstance(value, str) or not value.startswith(place):
            return value
        try:
            file = self._files.find(owner, value.removeprefix(place))
        except Refusal:
            return value
        return f"{value}/download?{self._files.signed_query(file, int(file.expires_at))}"


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
            self._machine.tell(self._prediction, Word.LOGS)

    def output(self, value: Any) -> None:
        if self._runs:
            self._prediction.output = self._machine.delivered(self._prediction, value)
            self._machine.tell(self._prediction, Word.OUTPUT)

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
