"""A terminal with a person before it: tables, colours, and one line below the log that moves.

Text goes to rich as `Text`, never as its markup, and has gone through `printable` before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

from simpletuner_lab.commands.answers import Answer
from simpletuner_lab.commands.screen import log_text
from simpletuner_lab.commands.tables import Cell, Table, Tone, state_cell
from simpletuner_lab.services.views import JobView, LogChunk
from simpletuner_lab.terminal import duration, one_line, printable, trouble_text

_STYLES: Final = {
    Tone.PLAIN: "",
    Tone.DIM: "dim",
    Tone.BUSY: "cyan",
    Tone.GOOD: "green",
    Tone.WARNING: "yellow",
    Tone.BAD: "bold red",
}


_ENDLESS: Final = 10_000
"""Columns of a terminal on which everything fits."""

_SHORT: Final = 24
"""Characters of a cell that stay on one line."""


class ColourScreen:
    """Draws on a terminal by rich, which heeds `NO_COLOR` and the terminal's width."""

    shows_progress: bool = True
    for_programs: bool = False

    def __init__(self, console: Console | None = None, answer: Callable[[str], str] = input) -> None:
        self._console = console or Console(highlight=False)
        self._answer = answer
        self._bar: Progress | None = None
        self._told = ""

    def show(self, answer: Answer) -> None:
        """The table of it, else, and where that is too wide for the terminal, its text."""
        self.close()
        drawn = None if answer.table is None or not answer.table.rows else _drawn(answer.table)
        if answer.table is None or drawn is None or not self._fits(drawn):
            self._print(Text(printable(answer.text)))
            return
        self._console.print(drawn)
        if answer.table.note:
            self._print(Text(printable(answer.table.note), style="dim"))

    def log(self, chunk: LogChunk, *, raw: bool) -> None:
        """The lines of it, above the moving one."""
        text = log_text(chunk, raw=raw)
        if text:
            self._print(Text(text.removesuffix("\n")))

    def progress(self, job: JobView) -> None:
        """Draws the moving line anew, and says once above it what is wrong with the job."""
        if self._bar is None:
            self._bar = _bar(self._console)
            self._bar.add_task("", total=None, job=job)
            self._bar.start()
        if (trouble := trouble_text(job)) != self._told and not job.is_terminal:
            self._told = trouble
            self._print(Text(trouble or "all is well again"))
        known = job.progress.total_steps
        self._bar.update(self._bar.task_ids[0], total=known or None, completed=job.progress.step, job=job)

    def agree(self) -> bool:
        """Asks at the terminal."""
        if not sys.stdin.isatty():
            return False
        try:
            return self._answer("Type yes to agree: ").strip().lower() in {"yes", "y"}
        except EOFError:  # Ctrl-D is no yes
            return False

    def close(self) -> None:
        """Ends the moving line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, text: Text) -> None:
        """The terminal breaks long lines: what is copied from it is whole."""
        self._console.print(text, soft_wrap=True)

    def _fits(self, drawn: RichTable) -> bool:
        unbounded = self._console.options.update(width=_ENDLESS)
        return self._console.measure(drawn, options=unbounded).minimum <= self._console.width


class _State(ProgressColumn):
    def render(self, task: Task) -> Text:
        job: JobView = task.fields["job"]
        return _text(state_cell(job.status))


class _Facts(ProgressColumn):
    """Step of steps, loss, rate, time left; before the first step the stage, or why it waits."""

    def render(self, task: Task) -> Text:
        job: JobView = task.fields["job"]
        return Text("  ".join(_facts(job)))


def _facts(job: JobView) -> list[str]:
    progress = job.progress
    if not progress.step:
        return [one_line(job.waiting or progress.stage_label or progress.stage)]
    facts = [f"{progress.step}/{progress.total_steps or '?'}"]
    if progress.loss is not None:
        facts.append(f"loss {progress.loss:.4f}")
    if progress.step_s:
        facts.append(f"{1 / progress.step_s:.2f} steps/s" if progress.step_s < 1 else f"{progress.step_s:.1f} s/step")
    if progress.eta_s is not None and not job.is_terminal:
        facts.append(f"{duration(progress.eta_s)} left")
    return facts


def _bar(console: Console) -> Progress:
    name = TextColumn("{task.fields[job].job_id}", markup=False)
    facts = _Facts(table_column=Column(no_wrap=True))
    return Progress(name, _State(), BarColumn(bar_width=None), facts, console=console, transient=True, expand=True)


def _drawn(table: Table) -> RichTable:
    """Columns that are empty are left out; short ones are never broken."""
    drawn = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    filled = [index for index in range(len(table.columns)) if any(row[index].text for row in table.rows)]
    for index in filled:
        longest = max(len(row[index].text) for row in table.rows)
        drawn.add_column(Text(table.columns[index]), overflow="fold", no_wrap=longest <= _SHORT)
    for row in table.rows:
        drawn.add_row(*(_text(row[index]) for index in filled))
    return drawn


def _text(cell: Cell) -> Text:
    return Text(cell.text, style=_STYLES[cell.tone])
