"""A job as the original's `job_history.json` has it, read with patience: its writers changed over the years (SPEC §3)."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.redact import bare_url, mask
from simpletuner_lab.core.secret import Secret

UNFINISHED: Final = "imported_unfinished"
"""Code of a job that had not ended when the file was written: nothing here follows it."""

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STATES: Final[Mapping[str, JobState]] = {
    "completed": JobState.COMPLETED,
    "succeeded": JobState.COMPLETED,
    "failed": JobState.FAILED,
    "error": JobState.FAILED,
    "cancelled": JobState.CANCELLED,
    "canceled": JobState.CANCELLED,
    "aborted": JobState.CANCELLED,
}
_LONGEST: Final = 2000
_MILLISECONDS: Final = 1e11
"""A number above this counts thousandths of seconds."""
_LATEST: Final = 4e9
"""No time is later than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoricJob:
    """What is taken of a record, and nothing else of it. Times are seconds since the epoch, UTC."""

    id: str
    name: str
    provider: str
    """Empty: it does not say."""
    remote: bool
    status: str
    """In its own word."""
    hardware: str
    target: str
    run_ref: str
    """The run at its provider; empty: not known."""
    error: str
    output_url: str
    """Without anything in it that opens the place."""
    created_at: float | None
    started_at: float | None
    completed_at: float | None
    cost_usd: float | None

    @property
    def state(self) -> JobState:
        """Always an end: a job that had none is failed, since nothing is known of it."""
        return _STATES.get(self.status.lower(), JobState.FAILED)

    @property
    def ended(self) -> bool:
        """Whether it had an end when the file was written."""
        return self.status.lower() in _STATES


def records_of(document: Any) -> Iterator[Any]:
    """The records of a whole file: a list, or the member `jobs`, which is a list or has a record for each id.

    Raises:
        ValueError: it is neither.
    """
    found = document.get("jobs", document) if isinstance(document, Mapping) else document
    if isinstance(found, Mapping) and all(isinstance(one, Mapping) for one in found.values()):
        yield from ({"job_id": key} | dict(one) for key, one in found.items())
    elif isinstance(found, list):
        yield from found
    else:
        raise ValueError("it is neither a list of jobs nor an object with one")


def historic_job(record: Any) -> HistoricJob | None:
    """The job of a record; None where it is none."""
    if not isinstance(record, Mapping) or not record:
        return None
    token = record.get("upload_token")
    own = (Secret(token),) if isinstance(token, str) and token else ()

    def text(*names: str, of: Mapping[str, Any] = record) -> str:
        found = next((of[name] for name in names if isinstance(of.get(name), str)), "")
        return mask(_plain(found), own).strip()[:_LONGEST]

    notes = record.get("metadata")
    notes = notes if isinstance(notes, Mapping) else {}
    job_id = _id(record, text("job_id", "id"))
    return HistoricJob(
        id=job_id,
        name=text("config_name", "name") or job_id,
        provider=text("provider"),
        remote={"local": False, "cloud": True}.get(text("job_type"), True),
        status=text("status", "state"),
        hardware=text("hardware_type", "hardware"),
        target=text("model", of=notes),
        run_ref=text("prediction_id", of=notes) or text("prediction_id"),
        error=text("error_message", "error"),
        output_url=mask(bare_url(_plain(record.get("output_url"))), own)[:_LONGEST],
        created_at=_seconds(record.get("created_at")),
        started_at=_seconds(record.get("started_at")),
        completed_at=_seconds(record.get("completed_at", record.get("finished_at"))),
        cost_usd=_dollars(record.get("cost_usd")),
    )


def _id(record: Mapping[str, Any], given: str) -> str:
    """Its own where that can be one of ours, else one that is the same every time."""
    if _ID.fullmatch(given) and given not in {".", ".."}:
        return given
    return "h-" + hashlib.sha256((given or json.dumps(record, sort_keys=True)).encode()).hexdigest()[:16]


def _seconds(value: object) -> float | None:
    number = _number(value)
    if number is None:
        return _iso(value) if isinstance(value, str) else None
    at = number / 1000 if number > _MILLISECONDS else number
    return at if 0 < at < _LATEST else None


def _number(value: object) -> float | None:
    """Of a number, or of a text that is one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _iso(text: str) -> float | None:
    """Without a zone it is UTC, as the original writes it."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return _seconds((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _dollars(value: object) -> float | None:
    number = _number(value)
    return None if number is None or number < 0 else number


def _plain(text: object) -> str:
    """What any database and any screen can hold."""
    return text.encode("utf-8", "replace").decode().replace("\0", "") if isinstance(text, str) else ""
