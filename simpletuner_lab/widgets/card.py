"""What a widget shows where nothing runs: nbconvert, GitHub, a notebook that was opened anew. One piece of HTML.

It is an output of its own below the widget's. JupyterLab draws an output anew when it is updated, and would take a
live view down with it; and nbconvert prefers the view, which needs a kernel or a CDN, to any HTML in the same output.
Where the view is alive, the card hides itself.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, Final

from simpletuner_lab.core.spend import dollars
from simpletuner_lab.core.verdict import limit_text
from simpletuner_lab.services.money_views import SpendView
from simpletuner_lab.services.views import JobView, MetricsView, PlanView
from simpletuner_lab.terminal import duration, estimate_text, one_line, rate_text, size, steps_text
from simpletuner_lab.widgets.chart import draw_curve

_STATE_COLOURS: Final[Mapping[str, str]] = {"completed": "#2f9e6e", "failed": "#d64545", "running": "#3b82f6"}
_DEAREST: Final = 10
_OTHER_COLOUR: Final = "#8a8f98"

_HIDDEN_WHILE_LIVE: Final = (
    "<style>"
    # JupyterLab, Notebook 7: the output above is a widget that is being or has been drawn
    ".jp-OutputArea-child:has(>.lm-Panel.jp-OutputArea-output:not(.jupyter-widgets,.lm-mod-hidden))"
    "+.jp-OutputArea-child:has(.stc-card),"
    # VS Code, Colab: a widget of ours is in the same cell
    ".cell_container:has(.stc) .stc-card,#output-body:has(.stc) .stc-card{display:none}"
    "</style>"
)


def job_card(job: JobView, curve: MetricsView | None, pictures: Mapping[str, str]) -> str:
    """A job: what it is called, how far it is, its curve, its newest pictures (data URLs by their path)."""
    failure = "" if job.error is None else _note(job.error.message, job.error.hint)
    return _card(
        _head(job.config_name or job.job_id, job_state(job)),
        _line(job_facts(job)),
        failure,
        "" if curve is None else draw_curve(curve),
        "".join(_picture(path, url) for path, url in pictures.items()),
    )


def plan_card(request: Mapping[str, Any] | None, plan: PlanView | None) -> str:
    """A form that was not submitted: what it holds, and the plan if one was made."""
    if plan is not None:
        verb = f"{plan.total_files} files, {size(plan.total_bytes)}, " + (
            f"would be sent to {plan.endpoint}" if plan.remote else "stay on this machine"
        )
        facts = [verb, steps_text(plan.steps), _costs(plan), f"digest {plan.digest[:12]}"]
        return _card(_head(plan.name, "not submitted"), *(_line([fact]) for fact in facts))
    if request is None:
        return _card(_head("New training", "not submitted"))
    names = ", ".join(str(entry.get("id", "")) for entry in request["dataloader_config"])
    base = request["config"].get("pretrained_model_name_or_path", "")
    facts = [f"data: {names}", f"base: {base}", f"runs on: {request['provider']}"]
    return _card(_head(request["config_name"] or "New training", "not submitted"), _line(facts))


def _costs(plan: PlanView) -> str:
    return f"{estimate_text(plan.estimate, plan.rate)}, {rate_text(plan.rate)}"


def jobs_card(jobs: Sequence[JobView], total: int) -> str:
    """The newest jobs as a table."""
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(text)}</td>" for text in (job.config_name or job.job_id, job_state(job)))
        + f"<td>{html.escape(' · '.join(job_facts(job)))}</td></tr>"
        for job in jobs
    )
    head = "<tr><th>job</th><th>state</th><th>progress</th></tr>"
    return _card(_head("Jobs", f"{len(jobs)} of {total}"), f"<table>{head}{rows}</table>" if rows else "")


def spend_card(spend: SpendView) -> str:
    """What was spent, by provider and job, the dearest first, and where the limits stand."""
    rows = "".join(
        f"<tr><td>{html.escape(one_line(job.config_name or job.job_id))}</td><td>{html.escape(job.provider)}</td>"
        f"<td>{'not known' if job.unpriced == job.runs else dollars(job.cost_usd)}</td></tr>"
        for job in spend.by_job[:_DEAREST]
    )
    head = "<tr><th>job</th><th>provider</th><th>cost</th></tr>"
    more = len(spend.by_job) - _DEAREST
    return _card(
        _head("Spent", f"{dollars(spend.total_usd)} since {spend.since}"),
        *(_line([limit_text(state)]) for state in spend.limits),
        f"<table>{head}{rows}</table>" if rows else "",
        _line([f"... and {more} more"] if more > 0 else []),
    )


def job_state(job: JobView) -> str:
    """A job's state, or that nothing goes on before its user has decided."""
    return "needs you" if job.uncertain and job.is_active else str(job.status)


def job_facts(job: JobView) -> list[str]:
    """How far a job is, in a few words each."""
    progress = job.progress
    facts = [f"step {progress.step}/{progress.total_steps}"] if progress.total_steps else []
    if progress.loss is not None:
        facts.append(f"loss {progress.loss:.4g}")
    if job.duration_seconds is not None:
        facts.append(duration(job.duration_seconds))
    if job.is_active and progress.eta_s:
        facts.append(f"{duration(progress.eta_s)} left")
    if job.cost_usd:
        facts.append(f"${job.cost_usd:.2f}")
    if job.waiting:
        facts.append(f"waits: {one_line(job.waiting)}")
    return facts


def _card(*parts: str) -> str:
    inner = "".join(parts)
    return f'{_HIDDEN_WHILE_LIVE}<div class="stc-card" style="font-family:system-ui,sans-serif">{inner}</div>'


def _head(name: str, state: str) -> str:
    colour = _STATE_COLOURS.get(state, _OTHER_COLOUR)
    return (
        f'<div><strong>{html.escape(one_line(name))}</strong> <span style="color:{colour}">'
        f"{html.escape(state)}</span></div>"
    )


def _line(facts: Sequence[str]) -> str:
    return f"<div>{html.escape(' · '.join(one_line(fact) for fact in facts))}</div>" if facts else ""


def _note(message: str, hint: str) -> str:
    return f"<div>{html.escape(one_line(message))}<br>{html.escape(one_line(hint))}</div>"


def _picture(path: str, url: str) -> str:
    label = html.escape(path, quote=True)
    return f'<img src="{url}" alt="{label}" title="{label}" style="height:128px;margin:4px 4px 0 0">'
