"""What `stcloud spend` and `stcloud limit` answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from simpletuner_lab.commands.answers import Answer
from simpletuner_lab.commands.tables import Cell, Table, Tone, table_of
from simpletuner_lab.core.spend import ALL, dollars
from simpletuner_lab.core.verdict import LimitState, assumed_text
from simpletuner_lab.services.money_views import DaySpend, JobSpend, LimitsView, NamedSpend, SpendView, StatedCost
from simpletuner_lab.terminal import one_line

_WIDTH: Final = 20
"""Characters of a bar."""
_LISTED: Final = 10
"""Jobs that are shown; --json has all."""


def spend_answer(found: SpendView) -> Answer:
    """Days, providers and jobs with what they cost, and the bars of the limits."""
    return Answer(value=found, text="\n".join(_spend_lines(found)), table=_spend_table(found))


def limits_answer(found: LimitsView) -> Answer:
    """Each limit, and where it stands."""
    lines = list(_limit_lines(found))
    return Answer(value=found, text="\n".join(lines))


def cost_answer(found: StatedCost) -> Answer:
    """What the job has cost now."""
    text = f"job {one_line(found.job_id)} has cost {dollars(found.cost_usd)}: {_count(found.runs, 'run')} booked as you say"
    return Answer(value=found, text=text)


def bar(state: LimitState) -> str:
    """How far a limit is used, as a bar with its share in figures."""
    if state.share is None:
        return f"[{'?' * _WIDTH}] not known"
    filled = min(_WIDTH, round(state.share * _WIDTH))
    return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {100 * state.share:.0f} %"


def _spend_lines(found: SpendView) -> Iterator[str]:
    yield f"{dollars(found.total_usd)} in {_count(found.days, 'day')} since {found.since} ({found.time_zone}): {_runs(found)}"
    for day in found.by_day:
        if day.runs:
            yield f"  {day.day}  {_cost(day):>10}  {_runs(day)}"
    for name, groups in (("provider", found.by_provider), ("user", found.by_user if len(found.by_user) > 1 else ())):
        yield from (f"  {name} {one_line(one.name):<16} {_cost(one):>10}  {_runs(one)}" for one in groups)
    for job in found.by_job[:_LISTED]:
        yield f"  job {job.job_id}  {_cost(job):>10}  {one_line(job.config_name)}{_unpriced(job)}"
    if len(found.by_job) > _LISTED:
        yield f"  ... and {len(found.by_job) - _LISTED} jobs more (--json lists all)"
    for state in found.limits:
        yield from _state_lines(state)


def _limit_lines(found: LimitsView) -> Iterator[str]:
    limits = found.limits
    if not found.states:
        yield "no limit on what may be spent: stcloud limit AMOUNT --action block"
    for state in found.states:
        yield from _state_lines(state)
    job = limits.job
    if job.amount_usd is not None:
        yield f"  a job: {dollars(job.amount_usd)}, then {job.action}"
    yield f"  days, weeks and months are those of {one_line(limits.time_zone)}"


def _state_lines(state: LimitState) -> Iterator[str]:
    whose = "all providers" if state.scope == ALL else one_line(state.scope)
    spent = "not known" if state.spent_usd is None else dollars(state.spent_usd)
    held = "not known" if state.committed_usd is None else dollars(state.committed_usd)
    yield (
        f"  {whose}: {bar(state)} of {dollars(state.amount_usd)} {state.period}, then {state.action} "
        f"({spent} spent, {held} reserved; until {state.until})"
    )
    if assumed := assumed_text(state):
        yield f"    {assumed}: stcloud cost JOB USD"


def _spend_table(found: SpendView) -> Table:
    rows: list[Sequence[Cell | str]] = [
        *(("day", day.day, _cost(day), _runs(day)) for day in found.by_day if day.runs),
        *(("provider", one.name, _cost(one), _runs(one)) for one in found.by_provider),
        *(("job", _job_name(job), _cost(job), _runs(job)) for job in found.by_job[:_LISTED]),
        *_limit_rows(found.limits),
    ]
    note = f"{dollars(found.total_usd)} since {found.since} ({found.time_zone})"
    return table_of(("by", "", "cost", ""), rows, note)


def _limit_rows(states: Iterable[LimitState]) -> Iterator[Sequence[Cell | str]]:
    for state in states:
        tone = Tone.BAD if state.is_exceeded else Tone.WARNING if state.is_warning else Tone.GOOD
        yield "limit", f"{state.scope}, {state.period}", dollars(state.amount_usd), Cell(bar(state), tone)
        if state.assumed_runs:
            yield "", "", "", Cell(assumed_text(state), Tone.WARNING)


def _job_name(job: JobSpend) -> str:
    return f"{job.job_id} {job.config_name}".strip()


def _runs(one: SpendView | DaySpend | NamedSpend | JobSpend) -> str:
    return _count(one.runs, "run") + _unpriced(one)


def _cost(one: DaySpend | NamedSpend | JobSpend) -> str:
    """Nothing is known where it is known of no run, and that is not $0."""
    return "not known" if one.unpriced == one.runs > 0 else dollars(one.cost_usd)


def _unpriced(one: SpendView | DaySpend | NamedSpend | JobSpend) -> str:
    return f", {one.unpriced} whose cost is not known" if one.unpriced else ""


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
