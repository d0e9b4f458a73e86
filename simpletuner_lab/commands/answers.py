"""What a command answers: the value itself, and how it reads in a pipe, on a terminal and in a notebook."""

from __future__ import annotations

import argparse
import dataclasses
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simpletuner_lab.commands.tables import (
    Table,
    findings_table,
    html_table,
    jobs_table,
    outputs_table,
    providers_table,
)
from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.destination import Destination, label, sent_by_trainer
from simpletuner_lab.core.errors import ConsentRequired, LabError
from simpletuner_lab.core.job import JobState
from simpletuner_lab.doctor.finding import Finding, Status
from simpletuner_lab.downloading import Downloaded
from simpletuner_lab.services.codec import dumps, encode
from simpletuner_lab.services.provider_views import ProviderConfig, ProviderView, SyncView, Validation
from simpletuner_lab.services.views import (
    DeliveryView,
    JobDetail,
    JobPage,
    JobView,
    OutputsView,
    PlanView,
)
from simpletuner_lab.terminal import (
    delivery_text,
    job_line,
    one_line,
    plan_text,
    printable,
    providers_text,
    timeline_text,
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Answer:
    """A view, or several, with its text. In a notebook it shows itself."""

    value: Any
    """As `simpletuner_lab.connect()` gives it; a tuple where the command lists things."""
    text: str
    table: Table | None = None

    @property
    def documents(self) -> tuple[str, ...]:
        """JSON texts, one for each thing."""
        return tuple(map(dumps, self.value)) if isinstance(self.value, tuple) else (dumps(self.value),)

    @property
    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        return [encode(item) for item in self.value] if isinstance(self.value, tuple) else encode(self.value)

    def __repr__(self) -> str:
        return printable(self.text)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(printable(self.text))}</pre>" if self.table is None else html_table(self.table)


def plan_answer(plan: PlanView) -> Answer:
    """All that a person agrees to."""
    return Answer(value=plan, text=plan_text(plan))


def submitted_answer(job: JobView, warning: str = "") -> Answer:
    """A new job, or what became of one that ended at once; `warning` is of a spend limit that is near."""
    ended = job.status in {JobState.FAILED, JobState.CANCELLED}
    waits = "" if job.queue_position is None else f", {job.waiting}"
    text = job_line(job) if ended else f"submitted: job {job.job_id}{waits}"
    return Answer(value=job, text=f"{text}\n  warning: {one_line(warning)}" if warning else text)


def jobs_answer(page: JobPage, *, before: int, filtered: bool) -> Answer:
    """A page of the list, or of a part of it; `before` jobs come ahead of it."""
    none = "no job is like that" if filtered else "no jobs yet: stcloud submit config.json"
    note = f"{before + len(page.jobs)} of {page.total}" if page.total else none
    lines = (*map(job_line, page.jobs), note)
    return Answer(value=page, text="\n".join(lines), table=jobs_table(page, note))


def job_answer(detail: JobDetail, no_snapshot: str = "") -> Answer:
    """A job and its timeline, and why its snapshot waits."""
    waits = f"\n  its snapshot waits: {one_line(no_snapshot)}" if no_snapshot else ""
    return Answer(value=detail, text=f"{job_line(detail.job)}\n{timeline_text(detail)}{waits}")


def ended_answer(job: JobView) -> Answer:
    """How a job that was waited for ended."""
    return Answer(value=job, text=job_line(job))


def outputs_answer(found: OutputsView, sent: Sequence[DeliveryView]) -> Answer:
    """What arrived, where it lies, and where else it is."""
    if not found.outputs and any(sent_by_trainer(one.destination) for one in sent):
        here = "nothing comes home: the trainer delivers by itself"
    else:
        here = f"in {found.folder}" + (", every checksum verified on arrival" if found.verified else "")
    note = "\n".join((here, *map(delivery_text, sent)))
    lines = (*(f"{file.bytes:>12,}  {one_line(file.path)}" for file in found.outputs), note)
    return Answer(value=found, text="\n".join(lines), table=outputs_table(found, note))


def delivery_answer(sent: DeliveryView) -> Answer:
    """A model on its way."""
    return Answer(value=sent, text=delivery_text(sent))


def deliveries_answer(sent: Sequence[DeliveryView]) -> Answer:
    """A model on its ways."""
    return Answer(value=tuple(sent), text="\n".join(map(delivery_text, sent)))


def destination_answer(destination: Destination) -> Answer:
    """The default destination."""
    return Answer(value=destination, text=label(destination))


def downloaded_answer(file: Downloaded) -> Answer:
    """One file that is here now."""
    how = "verified" if file.verified else "no checksum is known of it"
    value = {"path": str(file.path), "bytes": file.bytes, "sha256": file.sha256, "verified": file.verified}
    kept = ", was here already" if file.kept else ""
    return Answer(value=value, text=f"{file.bytes:>12,}  {one_line(str(file.path))}  ({how}{kept})")


def cancelled_answer(job: JobView) -> Answer:
    """The end is asked for."""
    how = "cancelled" if job.is_terminal else "cancel is under way"
    return Answer(value=job, text=f"job {job.job_id}: {how}")


def resolved_answer(job: JobView) -> Answer:
    """How a job stands after a decision."""
    return Answer(value=job, text=job_line(job))


def synced_answer(found: SyncView) -> Answer:
    """The jobs that are new."""
    note = f"{found.synced} imported, {found.updated} known before"
    return Answer(value=found, text="\n".join((*map(job_line, found.jobs), note)))


def provider_answer(found: ProviderConfig, checked: Validation, warnings: Sequence[str] = ()) -> Answer:
    """Settings, token or not, whether it can be used, and what a change means for jobs under way."""
    found = dataclasses.replace(found, warning="; ".join(filter(None, (*warnings, found.warning))))
    there = "is there" if found.token_set else "is missing"
    if found.token_problem:
        there = f"cannot be used: {one_line(found.token_problem)}"
    token = f"{found.token_name} {there}" if found.token_name else "none needed"
    state = f"ready {checked.user_info}".rstrip() if checked.valid else f"{checked.error} ({checked.hint})"
    lines = [f"{found.provider}: {one_line(state)}", f"  token: {token}"]
    lines += [f"  {name} = {one_line(json.dumps(value))}" for name, value in found.config.items()]
    lines += [f"  warning: {one_line(found.warning)}"] if found.warning else []
    return Answer(value=found, text="\n".join(lines))


def deleted_answer(job_id: str) -> Answer:
    """The job is gone."""
    return Answer(value={"deleted": job_id}, text=f"job {one_line(job_id)} is deleted")


def providers_answer(providers: Sequence[ProviderView]) -> Answer:
    """Where jobs can run."""
    return Answer(value=tuple(providers), text=providers_text(providers), table=providers_table(providers))


def consent_answer(mode: ConsentMode) -> Answer:
    """The consent setting."""
    return Answer(value={"consent": mode.value}, text=mode.value)


def doctor_answer(findings: Sequence[Finding]) -> Answer:
    """What was found, then what to do, each on a line that can be copied."""
    lines = [f"{found.status:<8} {found.name:<18} {one_line(found.message)}" for found in findings]
    troubles = [found for found in findings if found.status is not Status.OK]
    fixes = [f"{found.name}: {one_line(found.fix)}" for found in troubles if found.fix]
    note = "\n".join((f"{len(troubles)} of {len(findings)} want a look", *fixes)) if troubles else "nothing is wrong"
    return Answer(value=tuple(findings), text="\n".join((*lines, note)), table=findings_table(findings, note))


def fault_text(error: LabError, prog: str, args: argparse.Namespace | None = None) -> str:
    """An error in a line, then each problem with its path that the line does not have yet, then what to do.

    `args`: of the command that it ended, where that was understood.
    """
    lines = [one_line(f"{prog}: {error.message}")]
    told = error.message.replace(": ", " ")
    shown = [p for p in error.problems if f"{p.path} {p.message}".replace(": ", " ") not in told]
    lines += ["  " + one_line(f"{p.path}: {p.message}" + (f" ({p.hint})" if p.hint else "")) for p in shown]
    if isinstance(error, ConsentRequired):
        again = f"rerun {args.job_id}" if args is not None and args.command == "rerun" else "submit ..."
        lines.append(f"  {prog} {one_line(again)} --approve DIGEST, or --yes for the plan that is printed")
    elif error.hint and error.hint not in {problem.hint for problem in shown}:
        lines.append("  " + one_line(error.hint))
    return "\n".join(lines)


def fault_document(error: LabError) -> dict[str, Any]:
    """An error as REST answers it."""
    problems = [{"path": p.path, "message": p.message, "hint": p.hint} for p in error.problems]
    return {"detail": error.message, "code": error.code, "hint": error.hint, "problems": problems}
