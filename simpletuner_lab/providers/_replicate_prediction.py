"""A prediction as Replicate tells it, read with tolerance, and what it means: pure functions.

Only `id` must be there. Words that are not known stay words, members of the wrong type count as missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from simpletuner_lab.core.provider import RunState
from simpletuner_lab.providers._http import Unreadable
from simpletuner_lab.providers._run_end import Ending, explain, last_meaningful_line, run_state

STARTING: Final = "starting"
PROCESSING: Final = "processing"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELED: Final = "canceled"
ABORTED: Final = "aborted"
ENDED: Final = frozenset({SUCCEEDED, FAILED, CANCELED, ABORTED})

_CRASHED: Final = ("worker crashed", "machine is gone", "director:")
"""In the errors of runs that something else than their own program ended."""
_NEAR_S: Final = 2.0
"""So close to a deadline, an end is the deadline's doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One, as far as it was told. Times are seconds since the epoch."""

    id: str
    model: str
    status: str
    input: Mapping[str, Any]
    logs: str
    output: object
    error: str
    created_at: float | None
    started_at: float | None
    completed_at: float | None
    deadline: float | None
    predict_time_s: float | None
    data_removed: bool

    @property
    def ended(self) -> bool:
        """Whether it is over for good."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a prediction comes to."""

    state: RunState
    exit_code: int | None = None
    error: str = ""


def parse(told: object) -> Prediction:
    """From JSON.

    Raises:
        Unreadable: it is no prediction.
    """
    if not isinstance(told, dict) or not isinstance(told.get("id"), str) or not told["id"]:
        raise Unreadable("Replicate gave an answer that cannot be read: a prediction without an id", hint="try again")
    metrics = _mapping(told.get("metrics"))
    return Prediction(
        id=told["id"],
        model=_text(told.get("model")),
        status=_text(told.get("status")),
        input=_mapping(told.get("input")),
        logs=_text(told.get("logs")),
        output=told.get("output"),
        error=_error(told.get("error")),
        created_at=_moment(told.get("created_at")),
        started_at=_moment(told.get("started_at")),
        completed_at=_moment(told.get("completed_at")),
        deadline=_moment(told.get("deadline")),
        predict_time_s=_seconds(metrics.get("predict_time")),
        data_removed=told.get("data_removed") is True,
    )


def meaning(prediction: Prediction, *, returns_code: bool, deadline: float | None, run_limit_s: float) -> Meaning:
    """The state of the run.

    Args:
        prediction: as it is told.
        returns_code: its output is our image's: an exit code of the trainer.
        deadline: when it was to be cancelled, by the start's own record; its own word for it goes first.
        run_limit_s: how long one may take.
    """
    match prediction.status:
        case "starting":
            return Meaning(state=RunState.QUEUED)
        case "processing":
            return Meaning(state=RunState.RUNNING)
        case "succeeded":
            return _succeeded(prediction) if returns_code else Meaning(state=RunState.SUCCEEDED)
        case "failed":
            return _failed(prediction, run_limit_s)
        case "canceled":
            return _canceled(prediction, prediction.deadline or deadline)
        case "aborted":
            return Meaning(state=RunState.CANCELLED, error=prediction.error or "Replicate gave it up before it began")
    return Meaning(state=RunState.UNKNOWN)


def metered_s(prediction: Prediction, now: float) -> float | None:
    """The seconds that are charged for so far; None where that is not known."""
    if prediction.status in {ABORTED, STARTING}:
        return 0.0
    if prediction.predict_time_s is not None:
        return prediction.predict_time_s
    if prediction.started_at is None:  # an end without a beginning: it never ran
        unbegun = prediction.status in {CANCELED, FAILED} and prediction.completed_at is not None
        return 0.0 if unbegun else None
    if prediction.status == PROCESSING:
        return max(0.0, now - prediction.started_at)
    return None if prediction.completed_at is None else max(0.0, prediction.completed_at - prediction.started_at)


def _succeeded(prediction: Prediction) -> Meaning:
    code = _exit_code(prediction.output)
    if code is None:
        why = "what the run returned was removed before it was read" if prediction.data_removed else ""
        return Meaning(state=RunState.SUCCEEDED, error=why)
    ending = Ending(status=code)
    return Meaning(state=run_state(ending), exit_code=code, error=explain(ending, prediction.logs))


def _failed(prediction: Prediction, run_limit_s: float) -> Meaning:
    words = prediction.error or last_meaningful_line(prediction.logs)
    took_s = metered_s(prediction, now=0.0)
    if took_s is not None and took_s >= run_limit_s - _NEAR_S:
        limit = f"the run was ended at Replicate's limit of {run_limit_s / 60:g} minutes"
        return Meaning(state=RunState.INTERRUPTED, error=f"{limit}: {words}" if words else limit)
    if any(text in words.lower() for text in _CRASHED):
        return Meaning(state=RunState.LOST, error=words)
    return Meaning(state=RunState.FAILED, error=words or "Replicate says that the run failed, and not why")


def _canceled(prediction: Prediction, deadline: float | None) -> Meaning:
    ended = prediction.completed_at
    if deadline is not None and ended is not None and ended >= deadline - _NEAR_S:
        return Meaning(state=RunState.INTERRUPTED, error="the run passed its deadline and was ended by Replicate")
    return Meaning(state=RunState.CANCELLED)


def _exit_code(output: object) -> int | None:
    try:
        found = json.loads(output) if isinstance(output, str) else output
    except ValueError:
        return None
    code = found.get("exit_code") if isinstance(found, dict) else None
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _error(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)[:500]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _seconds(value: object) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return float(value) if known else None  # type: ignore[arg-type]


def _moment(value: object) -> float | None:
    try:
        read = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if read is None:
        return None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
