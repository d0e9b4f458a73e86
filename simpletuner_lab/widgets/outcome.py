"""What came of a widget's job, for the next cell."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from simpletuner_lab.client import Client
from simpletuner_lab.commands.screen import log_text
from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.downloading import download
from simpletuner_lab.figures import Run, draw_losses
from simpletuner_lab.results import DeliveredFiles, Metrics, load_pipeline
from simpletuner_lab.services.snapshot_views import JobDiff
from simpletuner_lab.services.views import DeliveryView, JobView
from simpletuner_lab.submission import where
from simpletuner_lab.widgets.base import LabWidget

_TAIL_BYTES: Final = 1 << 20

Comparable: TypeAlias = "str | OutcomeWidget"
"""A job's id, or a widget that has one."""


class OutcomeWidget(LabWidget):
    """A widget with a job. Each of these asks the lab anew, while the job runs as well as after its end."""

    def cancel(self) -> JobView:
        """Asks for the end of the job; what is trained so far is kept."""
        job = self._line.ask(lambda client: client.cancel(self.submitted_id))
        self._follow()
        return job

    @property
    def metrics(self) -> Metrics:
        """The curve so far, at full resolution."""
        return Metrics.of(self._line.ask(lambda client: client.metrics(self.submitted_id)))

    def figure(self, *, smoothing: float = 0.6, log: bool = False, compare: Sequence[Comparable] = ()) -> Any:
        """The loss as a plotly figure, beside that of other jobs (`figures.draw_losses`)."""
        others = [one.submitted_id if isinstance(one, OutcomeWidget) else one for one in compare]
        runs = self._line.ask(lambda client: [_run(client, job_id) for job_id in (self.submitted_id, *others)])
        return draw_losses(runs, smoothing=smoothing, log=log)

    @property
    def outputs(self) -> DeliveredFiles:
        """Paths of what has arrived, and whether all of it was compared with its checksums."""
        return DeliveredFiles.of(self._line.ask(lambda client: client.outputs(self.submitted_id)))

    def download(
        self, to: str | os.PathLike[str] | None = None, *, paths: Sequence[str] = (), verbose: bool = True
    ) -> DeliveredFiles:
        """Copies what was delivered below `to` (by default a folder named by the job, here), wherever the lab runs.

        A file that broke off is gone on with, one that is here already stays, and each is compared with its checksum.
        `paths` are files or folders of the outputs; none: all.
        """
        folder = Path(self.submitted_id if to is None else to).expanduser()
        got = self._line.ask(lambda client: list(download(client, self.submitted_id, folder, paths=paths)))
        files = DeliveredFiles(
            paths=tuple(one.path for one in got), folder=folder, verified=all(one.verified for one in got)
        )
        if verbose:
            print(f"{len(got)} files, {sum(one.bytes for one in got) / 1e6:,.1f} MB, in {folder.absolute()}")  # noqa: T201
        return files

    def diff(self, other: Comparable) -> JobDiff:
        """What of another job, or of another widget's, is not as in this one."""
        there = other if isinstance(other, str) else other.submitted_id
        return self._line.ask(lambda client: client.snapshots.diff(self.submitted_id, there))

    def draft(self) -> SubmitRequest:
        """The job's request as its user had it: `submit(job.draft())` is a form with it, as it is or with other values."""
        return self._line.ask(lambda client: client.snapshots.draft(self.submitted_id)).request.request()

    def push(self, destination: str | Mapping[str, Any]) -> DeliveryView:
        """Sends the completed model somewhere else too: `hub:OWNER/NAME`, `s3://BUCKET/PREFIX`, or a mapping."""
        place = where(destination)
        assert place is not None
        return self._line.ask(lambda client: client.push(self.submitted_id, place))

    @property
    def deliveries(self) -> Sequence[DeliveryView]:
        """Where else the model goes, and how far it has come; none: it stays at home."""
        return self._line.ask(lambda client: client.deliveries(self.submitted_id))

    def give_up(self, delivery: DeliveryView | None = None) -> Sequence[DeliveryView]:
        """Sends the model no further: nothing of what waits, or not this one of the `deliveries`."""
        chosen = "" if delivery is None else delivery.id
        return self._line.ask(lambda client: client.give_up(self.submitted_id, chosen))

    def pipeline(self, **options: Any) -> Any:
        """The trained model in diffusers (`results.load_pipeline`)."""
        return self._line.ask(lambda client: load_pipeline(client, self.submitted_id, **options))

    def logs(self, tail: int | None = None) -> str:
        """The log, or so many of its last lines, without the trainer's report lines."""
        text = self._line.ask(lambda client: _log_text(client, self.submitted_id, tail))
        return text if tail is None else "".join(text.splitlines(keepends=True)[-tail:] if tail else ())

    @property
    def submitted_id(self) -> str:
        """The job's id.

        Raises:
            InvalidRequest: nothing was submitted yet.
        """
        if not self.job_id:
            raise InvalidRequest("nothing was submitted yet", hint="agree to the plan first")
        return str(self.job_id)


def _run(client: Client, job_id: str) -> Run:
    return Run(name=client.job(job_id).config_name or job_id, metrics=Metrics.of(client.metrics(job_id)))


def _log_text(client: Client, job_id: str, tail: int | None) -> str:
    """All of the log; for a tail the last part of it, from the start of a line."""
    offset = 0 if tail is None else max(0, client.job(job_id).log_bytes - _TAIL_BYTES)
    parts = []
    while True:
        chunk = client.log(job_id, offset=offset)
        parts.append(log_text(chunk, raw=False))
        if chunk.next_offset == offset:
            return "".join(parts)
        offset = chunk.next_offset
