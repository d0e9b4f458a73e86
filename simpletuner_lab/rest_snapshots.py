"""What was submitted before, through whichever way to the lab: `services.snapshots` has its words on each verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from simpletuner_lab.rest_setup import segment
from simpletuner_lab.services.codec import decode
from simpletuner_lab.services.snapshot_views import Configs, Draft, JobDiff, JobSnapshot, PreSubmitCheck, SnapshotPage


class Snapshots(Protocol):
    """The verbs."""

    def enabled(self) -> bool:
        """Whether each submit makes one."""

    def set_enabled(self, enabled: bool) -> None:
        """Switches them on or off."""

    def of_job(self, job_id: str) -> JobSnapshot:
        """A job's snapshot with its files."""

    def listed(self, *, limit: int = 50) -> SnapshotPage:
        """The newest."""

    def configs(self) -> Configs:
        """The names of configs that were submitted."""

    def check(self) -> PreSubmitCheck:
        """How things stand before a submit."""

    def diff(self, a: str, b: str) -> JobDiff:
        """What of the second job is not as in the first."""

    def draft(self, job_id: str) -> Draft:
        """A job's request as its user had it."""


class RestSnapshots:
    """The verbs over REST. `call` takes method, path and body, and gives the answer's members."""

    def __init__(self, call: Callable[..., dict[str, Any]]) -> None:
        self._call = call

    def enabled(self) -> bool:
        """Whether each submit makes one."""
        return bool(self._call("GET", "/snapshots/setting")["enabled"])

    def set_enabled(self, enabled: bool) -> None:
        """Switches them on or off."""
        self._call("PUT", "/snapshots/setting", json={"enabled": enabled})

    def of_job(self, job_id: str) -> JobSnapshot:
        """A job's snapshot with its files."""
        return decode(JobSnapshot, self._call("GET", f"/jobs/{segment(job_id)}/snapshot"), what="answer")

    def listed(self, *, limit: int = 50) -> SnapshotPage:
        """The newest."""
        return decode(SnapshotPage, self._call("GET", "/snapshots", params={"limit": limit}), what="answer")

    def configs(self) -> Configs:
        """The names of configs that were submitted."""
        return decode(Configs, self._call("GET", "/available-configs"), what="answer")

    def check(self) -> PreSubmitCheck:
        """How things stand before a submit, in the server's folder."""
        return decode(PreSubmitCheck, self._call("GET", "/pre-submit-check"), what="answer")

    def diff(self, a: str, b: str) -> JobDiff:
        """What of the second job is not as in the first."""
        return decode(JobDiff, self._call("GET", "/jobs/diff", params={"a": a, "b": b}), what="answer")

    def draft(self, job_id: str) -> Draft:
        """A job's request as its user had it."""
        return decode(Draft, self._call("GET", f"/jobs/{segment(job_id)}/draft"), what="answer")
