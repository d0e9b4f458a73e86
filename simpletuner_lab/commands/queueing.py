"""`stcloud queue`, `priority` and `concurrency`: who waits for a slot, in what order, and how many slots there are."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from simpletuner_lab.client import Client
from simpletuner_lab.commands.answers import Answer
from simpletuner_lab.commands.screen import Screen
from simpletuner_lab.commands.tables import Cell, Table, Tone
from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.core.job_queue import priority_of
from simpletuner_lab.services.queue_views import Concurrency, ConcurrencyChange, QueueEntry, QueuePage, Reprioritised
from simpletuner_lab.terminal import duration, one_line

OK: Final = 0

USUAL: Final = "default"
"""Instead of a number: what counts where nothing was set."""

_TONES: Final = {"pending": Tone.DIM, "ready": Tone.BUSY, "running": Tone.BUSY}


def queue(lab: Callable[[], Client], args: argparse.Namespace, screen: Screen) -> int:
    """Lists who holds a slot and who waits for one."""
    screen.show(queue_answer(lab().queue.entries(limit=args.limit, offset=args.offset)))
    return OK


def priority(lab: Callable[[], Client], args: argparse.Namespace, screen: Screen) -> int:
    """Sets the priority of a job that waits."""
    wanted = None if args.priority == USUAL else priority_of(args.priority)
    screen.show(priority_answer(lab().queue.prioritise(args.job_id, wanted, entry=args.entry)))
    return OK


def concurrency(lab: Callable[[], Client], args: argparse.Namespace, screen: Screen) -> int:
    """Shows how many jobs may be under way at once, after changing it."""
    verbs = lab().queue
    providers = of_providers(args.of_provider)
    if providers or any(number is not None for number in (args.total, args.user, args.local)):
        change = ConcurrencyChange(
            max_concurrent=args.total,
            user_max_concurrent=args.user,
            local_job_max_concurrent=args.local,
            providers=providers,
        )
        with _by_options():
            found = verbs.set_concurrency(change)
        screen.show(concurrency_answer(found))
    else:
        screen.show(concurrency_answer(verbs.concurrency()))
    return OK


_OPTIONS: Final = {
    "max_concurrent": "--global",
    "user_max_concurrent": "--user",
    "local_job_max_concurrent": "--local",
}


@contextlib.contextmanager
def _by_options() -> Iterator[None]:
    """What is wrong with a number, by the option that it was given with."""
    try:
        yield
    except InvalidRequest as error:
        problems = [dataclasses.replace(one, path=_OPTIONS.get(one.path, one.path)) for one in error.problems]
        told = "; ".join(f"{one.path} {one.message}" for one in problems) or error.message
        raise InvalidRequest(told, problems=problems, hint=error.hint) from error


def of_providers(words: Sequence[str]) -> dict[str, int | None]:
    """`NAME=N` each; `NAME=default` takes a limit back.

    Raises:
        InvalidRequest: one is neither.
    """
    found: dict[str, int | None] = {}
    for word in words:
        name, _, number = word.partition("=")
        if not name or not (number == USUAL or (number.isascii() and number.isdigit() and len(number) < 5)):
            raise InvalidRequest(f"{word!r} is no limit of a provider", hint=f"--provider NAME=N, or NAME={USUAL}")
        found[name] = None if number == USUAL else int(number)
    return found


def queue_answer(page: QueuePage) -> Answer:
    """The queue; a line for each job."""
    note = f"{page.total_running} under way, {page.total_pending} waiting for a slot"
    lines = (*map(_line, page.entries), note)
    columns = ("", "id", "state", "priority", "provider", "name", "starts in", "")
    table = Table(columns=columns, rows=tuple(map(_row, page.entries)), note=note)
    return Answer(value=page, text="\n".join(lines), table=table)


def priority_answer(found: Reprioritised) -> Answer:
    """The priority before and now."""
    was, now = found.previous_effective_priority, found.new_effective_priority
    return Answer(value=found, text=f"job {one_line(found.job_id)}: priority {now}, was {was}")


def concurrency_answer(found: Concurrency) -> Answer:
    """Every limit on a line."""
    lines = [f"{found.max_concurrent:>4}  jobs at once", f"{found.user_max_concurrent:>4}  of one user"]
    lines += [
        f"{'-' if number is None else number:>4}  on {one_line(name)}" for name, number in found.providers.items()
    ]
    return Answer(value=found, text="\n".join(lines))


def _line(entry: QueueEntry) -> str:
    place = "-" if entry.position is None else str(entry.position)
    parts = [f"{place:>3}  {entry.job_id}  {entry.status:<8} {entry.effective_priority:>2}  {entry.provider:<10}"]
    parts.append(one_line(entry.config_name))
    if entry.position is not None:
        parts.append(_wait(entry))
    if entry.waiting:
        parts.append(one_line(entry.waiting))
    return "  ".join(parts)


def _wait(entry: QueueEntry) -> str:
    wait_s = entry.estimated_wait_seconds
    return "wait unknown" if wait_s is None else f"starts in {duration(wait_s)}"


def _row(entry: QueueEntry) -> tuple[Cell, ...]:
    wait_s = entry.estimated_wait_seconds
    return (
        Cell("" if entry.position is None else str(entry.position)),
        Cell(entry.job_id),
        Cell(entry.status, _TONES.get(entry.status, Tone.PLAIN)),
        Cell(str(entry.effective_priority)),
        Cell(one_line(entry.provider)),
        Cell(one_line(entry.config_name)),
        Cell("" if entry.position is None else "?" if wait_s is None else duration(wait_s)),
        Cell(one_line(entry.waiting), Tone.DIM),
    )
