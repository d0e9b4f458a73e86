"""Answers as tables, before anybody knows whether a terminal or a page draws them."""

from __future__ import annotations

import enum
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.spend import dollars
from simpletuner_lab.doctor.finding import Finding, Status
from simpletuner_lab.services.provider_views import ProviderView
from simpletuner_lab.services.views import JobPage, JobView, OutputsView
from simpletuner_lab.terminal import duration, one_line, provider_state, size, trouble_text


class Tone(enum.StrEnum):
    """What a cell's colour says. Never the only one to say it."""

    PLAIN = "plain"
    DIM = "dim"
    BUSY = "busy"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


_STATES: Final = {
    JobState.PENDING: Tone.DIM,
    JobState.UPLOADING: Tone.BUSY,
    JobState.QUEUED: Tone.BUSY,
    JobState.RUNNING: Tone.BUSY,
    JobState.COMPLETED: Tone.GOOD,
    JobState.FAILED: Tone.BAD,
    JobState.CANCELLED: Tone.WARNING,
}

_FINDINGS: Final = {Status.OK: Tone.GOOD, Status.WARNING: Tone.WARNING, Status.PROBLEM: Tone.BAD}

_PAGE_COLOURS: Final = {
    Tone.DIM: "var(--jp-ui-font-color2, #757575)",
    Tone.BUSY: "var(--jp-info-color0, #0b6bcb)",
    Tone.GOOD: "var(--jp-success-color0, #1b7f3b)",
    Tone.WARNING: "var(--jp-warn-color0, #9a5b00)",
    Tone.BAD: "var(--jp-error-color0, #c62828)",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """Text on one line, and what its colour says."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under headings, and lines below."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def state_cell(state: JobState) -> Cell:
    """A job's state in its colour."""
    return Cell(state.value, _STATES[state])


def jobs_table(page: JobPage, note: str) -> Table:
    """The list of jobs."""
    return table_of(
        ("id", "state", "provider", "name", "progress", "loss", "left", "cost", ""), map(_job, page.jobs), note
    )


def outputs_table(found: OutputsView, note: str) -> Table:
    """What a job delivered."""
    return table_of(("size", "file"), ((size(file.bytes), file.path) for file in found.outputs), note)


def providers_table(providers: Sequence[ProviderView]) -> Table:
    """Where jobs can run."""
    return table_of(("id", "name", "state", "account", "hardware"), map(_provider, providers))


def findings_table(findings: Sequence[Finding], note: str) -> Table:
    """What doctor found."""
    return table_of(("", "what", "found"), map(_finding, findings), note)


def html_table(table: Table) -> str:
    """The table for a page; nothing of its text can be markup."""
    head = "".join(f"<th scope='col' style='text-align:left'>{html.escape(name)}</th>" for name in table.columns)
    body = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in table.rows)
    note = f"<p style='white-space:pre-line'>{html.escape(table.note)}</p>" if table.note else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _html_cell(cell: Cell) -> str:
    colour = f";color:{_PAGE_COLOURS[cell.tone]}" if cell.tone in _PAGE_COLOURS else ""
    return f"<td style='text-align:left{colour}'>{html.escape(cell.text)}</td>"


def table_of(columns: tuple[str, ...], rows: Iterable[Sequence[Cell | str]], note: str = "") -> Table:
    """Rows of cells and texts; a text is put on one line."""
    made = (tuple(cell if isinstance(cell, Cell) else Cell(one_line(cell)) for cell in row) for row in rows)
    return Table(columns=columns, rows=tuple(made), note=note)


def _job(job: JobView) -> Sequence[Cell | str]:
    progress = job.progress
    trouble = trouble_text(job)
    return (
        job.job_id,
        state_cell(job.status),
        job.provider,
        job.config_name,
        f"{progress.step}/{progress.total_steps}" if progress.total_steps else "",
        "" if progress.loss is None else f"{progress.loss:.4f}",
        duration(progress.eta_s) if progress.eta_s and not job.is_terminal else "",
        "" if job.cost_usd is None else dollars(job.cost_usd),
        Cell(trouble, Tone.BAD) if trouble else Cell(one_line(job.waiting), Tone.DIM),
    )


def _finding(finding: Finding) -> Sequence[Cell | str]:
    return Cell(finding.status.value, _FINDINGS[finding.status]), finding.name, finding.message


def _provider(provider: ProviderView) -> Sequence[Cell | str]:
    tone = Tone.GOOD if provider.configured else Tone.DIM if provider.coming_soon else Tone.WARNING
    state = Cell(one_line(provider_state(provider)), tone)
    return provider.id, provider.name, state, provider.account, ", ".join(rate.label for rate in provider.hardware)
