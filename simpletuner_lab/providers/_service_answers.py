"""What a stranger's service answers, as far as it is what the interface says; of the rest, which member gave what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from simpletuner_lab.core.errors import ProviderFailure
from simpletuner_lab.core.provider import RunState, RunTag
from simpletuner_lab.providers.adapter import TAG, CloudJobInfo

_STATES: Final[Mapping[str, RunState]] = {
    "pending": RunState.QUEUED,
    "uploading": RunState.QUEUED,
    "queued": RunState.QUEUED,
    "running": RunState.RUNNING,
    "completed": RunState.SUCCEEDED,
    "failed": RunState.FAILED,
    "cancelled": RunState.CANCELLED,
}
_TEXTS: Final = ("created_at", "started_at", "completed_at", "hardware_type", "error_message", "output_url")


def wrong(label: str, member: str, told: object, wanted: str) -> ProviderFailure:
    """The failure that such an answer is. What it holds is not told: it may be a secret."""
    what = (
        "nothing" if told is None else "an empty text" if told == "" else f"a value of the type {type(told).__name__}"
    )
    message = f"{label}: {member} gave {what}, and not {wanted}"
    return ProviderFailure(message, hint=f"the package of {label} has to be mended")


def job_of(label: str, member: str, told: object) -> CloudJobInfo:
    """A job, of whatever class.

    Raises:
        ProviderFailure: it has no state.
    """
    if not hasattr(told, "status"):
        raise wrong(label, member, told, "a job with a status")
    metadata = getattr(told, "metadata", None)
    said = {name: getattr(told, name, None) for name in _TEXTS}
    texts: dict[str, Any] = {name: None if value is None else str(value) for name, value in said.items()}
    return CloudJobInfo(
        job_id=getattr(told, "job_id", ""),
        status=told.status,
        cost_usd=getattr(told, "cost_usd", None),
        metadata=metadata if isinstance(metadata, dict) else {},
        **texts,
    )


def named_job_of(label: str, member: str, told: object) -> CloudJobInfo:
    """A job that can be asked for again.

    Raises:
        ProviderFailure: it has no state or no id.
    """
    job = job_of(label, member, told)
    if not isinstance(job.job_id, str) or not job.job_id:
        raise wrong(label, f"the job_id of {member}", job.job_id, "a text")
    return job


def jobs_of(label: str, member: str, told: object) -> Sequence[CloudJobInfo]:
    """Jobs.

    Raises:
        ProviderFailure: it is no list, or one of them is no job.
    """
    if not isinstance(told, list | tuple):
        raise wrong(label, member, told, "a list of jobs")
    return [named_job_of(label, member, one) for one in told]


def log_of(label: str, member: str, told: object) -> bytes:
    """The log as far as there is one.

    Raises:
        ProviderFailure: it is no text.
    """
    if isinstance(told, bytes | bytearray):
        told = bytes(told).decode("utf-8", "replace")
    if told is None:
        return b""
    if not isinstance(told, str):
        raise wrong(label, member, told, "a text")
    return told.encode("utf-8", "replace")


def never_began(info: CloudJobInfo) -> bool:
    """Whether it was cancelled before it ran: it has an end, and no beginning."""
    return state_of(info) is RunState.CANCELLED and bool(info.completed_at) and not info.started_at


def state_of(info: CloudJobInfo) -> RunState:
    """Its state; a word that is not known is unknown."""
    return _STATES.get(str(getattr(info.status, "value", info.status)).lower(), RunState.UNKNOWN)


def tag_text(tag: RunTag) -> str:
    """How a start is named."""
    return f"{tag.job_id}/{tag.attempt}"


def tag_of(info: CloudJobInfo) -> RunTag | None:
    """The name of its start, where it repeats that."""
    text = info.metadata.get(TAG) if isinstance(info.metadata, Mapping) else None
    job_id, _, attempt = text.rpartition("/") if isinstance(text, str) else ("", "", "")
    return RunTag(job_id=job_id, attempt=int(attempt)) if job_id and attempt.isascii() and attempt.isdigit() else None


def name_of(told: object) -> str:
    """Of an account, whatever form it is told in."""
    if isinstance(told, Mapping):
        return next((str(told[key]) for key in ("username", "email", "name", "id") if told.get(key)), "")
    return str(told or "")


def time_of(text: str | None) -> float | None:
    """Seconds since the epoch; None where it is no time."""
    try:
        at = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return None if at is None else (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
