"""Views as plain text, for the CLI and for `text/plain` of notebooks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from simpletuner_lab.core.cost import Estimate, Rate
from simpletuner_lab.core.destination import label
from simpletuner_lab.core.manifest import DatasetManifest
from simpletuner_lab.core.spend import dollars
from simpletuner_lab.core.verdict import SpendVerdict
from simpletuner_lab.services.provider_views import ProviderView
from simpletuner_lab.services.views import ChargeView, DeliveryView, JobDetail, JobView, PlanView

_LISTED: Final = 6
"""Files and reasons of one kind shown before the rest is counted."""

_ESCAPE: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]"
)
"""A terminal's control sequences (ECMA-48): colours, cursor, titles, links."""
_HIDDEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline, and those that turn the direction of what follows."""


def printable(text: str) -> str:
    """Text of others as it may stand on a terminal: no control sequence, each line as it was drawn last."""
    drawn = (line.rstrip("\r").rpartition("\r")[2] for line in _ESCAPE.sub("", text).split("\n"))
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), "\n".join(drawn))


def one_line(text: str) -> str:
    """`printable`, and on one line: nothing of it can pass for a line of ours."""
    return " ".join(printable(text).split())


def plan_text(plan: PlanView) -> str:
    """Everything a person agrees to, the digest last."""
    return "\n".join(_plan_lines(plan))


def _plan_lines(plan: PlanView) -> Iterator[str]:
    yield f"{plan.name}: {_verb(plan)}"
    for dataset in plan.datasets:
        yield from _dataset_lines(dataset)
    yield f"  runs on       {plan.rate.label or plan.rate.hardware} ({plan.target.label} {plan.target.version}), {steps_text(plan.steps)}"
    yield (
        f"  comes back to {label(plan.destination)}"
        if plan.target.delivers
        else f"  the model     stays where {plan.target.label} puts it"
    )
    for credential in plan.credentials:
        yield f"  travels along {credential.name}: {credential.purpose}"
    for rest in plan.stays:
        yield f"  stays there   {rest}"
    yield f"  price         {rate_text(plan.rate)}"
    yield f"  estimate      {estimate_text(plan.estimate, plan.rate)}"
    if plan.spend is not None and plan.spend.claim.usd_per_hour != 0:
        yield f"  money         {spend_text(plan.spend)}"
    for warning in plan.warnings:
        yield f"  note          {warning}"
    yield f"  digest        {plan.digest}"
    yield f"  consent       {plan.consent}"


def _verb(plan: PlanView) -> str:
    if not plan.remote:
        return "Train here"
    if not plan.total_files:
        return f"Start at {plan.endpoint}"
    return f"Send {plan.total_files} files ({size(plan.total_bytes)}) to {plan.endpoint}"


def _dataset_lines(dataset: DatasetManifest) -> Iterator[str]:
    yield f"  {dataset.id}: {len(dataset.files)} files, {size(dataset.bytes)} from {dataset.root}"
    yield f"    {dataset.images} images, {dataset.captions_found} captions, {len(dataset.captions_missing)} missing"
    if dataset.strip_exif:
        yield "    what pictures tell beside their pixels is taken out on the way; sizes and digests are of what is left"
    for file in dataset.files[:_LISTED]:
        yield f"    {file.sha256[:12]}  {file.bytes:>9,}  {file.name}"
    if len(dataset.files) > _LISTED:
        yield f"    ... and {len(dataset.files) - _LISTED} more (--json lists all)"
    for entry in dataset.withheld[:_LISTED]:
        yield f"    stays here: {entry.name} ({entry.reason})"
    if len(dataset.withheld) > _LISTED:
        yield f"    ... and {len(dataset.withheld) - _LISTED} more stay here"


def job_line(job: JobView) -> str:
    """One row of the list."""
    progress = job.progress
    parts = [f"{job.job_id}  {job.status:<10} {job.provider:<10} {one_line(job.config_name)}"]
    if progress.total_steps:
        parts.append(f"step {progress.step}/{progress.total_steps}")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if not job.is_terminal and progress.eta_s:
        parts.append(f"{duration(progress.eta_s)} left")
    if job.cost_usd is not None:
        parts.append(dollars(job.cost_usd))
    if job.waiting:
        parts.append(f"waits: {one_line(job.waiting)}")
    if trouble := trouble_text(job):
        parts.append(trouble)
    return "  ".join(parts)


def trouble_text(job: JobView) -> str:
    """What is wrong with a job, on one line: the sentence, its code, what to do. Empty where nothing is."""
    if job.error is None:
        return ""
    hints = (job.error.hint, f"stcloud resolve {job.job_id} --resend or --give-up" if job.uncertain else "")
    code = f" ({job.error.code})" if job.error.code else ""
    return one_line(": ".join((f"{job.error.message}{code}", *filter(None, hints))))


def delivery_text(sent: DeliveryView) -> str:
    """A model on its way, on one line: where to, how far, what is wrong."""
    parts = [
        f"{sent.state.replace('_', ' ')}: {one_line(label(sent.destination))}",
        one_line(sent.url),
        one_line(sent.problem),
        one_line(sent.hint),
    ]
    return "  ".join(filter(None, parts))


def timeline_text(detail: JobDetail) -> str:
    """The events of a job, a line each, what became of its model, and what its runs have cost."""
    sent = (f"  {delivery_text(one)}" for one in detail.deliveries)
    return "\n".join((*_timeline(detail), *sent, *map(_charge_line, _worth_telling(detail.charges))))


def _worth_telling(charges: Sequence[ChargeView]) -> Iterator[ChargeView]:
    """Not what is free and measured by nobody."""
    return (
        charge
        for charge in charges
        if charge.metered_s is not None or charge.cost_usd or (charge.cost_usd is None and charge.usd_per_hour != 0)
    )


def _charge_line(charge: ChargeView) -> str:
    untold = (
        "at a price that is not known"
        if charge.metered_s and charge.usd_per_hour is None
        else "what it costs is not known"
    )
    cost = untold if charge.cost_usd is None else f"${charge.cost_usd:.4f}"
    metered = "" if charge.metered_s is None else f"{charge.metered_s:.0f} s metered, "
    return f"  attempt {charge.attempt}: {metered}{cost}{'' if charge.final else ' so far'}"


def _timeline(detail: JobDetail) -> Iterator[str]:
    return (
        f"  {event.at}  {event.kind:<10} "
        + one_line(", ".join(f"{name} {value}" for name, value in event.data.items()))
        for event in detail.events
    )


def providers_text(providers: Sequence[ProviderView]) -> str:
    """One line a provider, with what keeps it from being used."""
    return "\n".join(
        f"{provider.id:<16} {provider.name:<20} {one_line(provider_state(provider))}" for provider in providers
    )


def provider_state(provider: ProviderView) -> str:
    """Whether a provider can be used, else why not and what to do."""
    if provider.configured:
        return "ready"
    return f"{provider.problem} - {provider.hint}" if provider.hint else provider.problem


def steps_text(steps: int) -> str:
    """0: not known."""
    return f"{steps} steps" if steps else "steps not known"


def rate_text(rate: Rate) -> str:
    """What an hour costs, and when that was looked up."""
    if rate.usd_per_hour is None:
        return "not known"
    if rate.usd_per_hour == 0:
        return "free"
    return f"{dollars(rate.usd_per_hour)} per hour{f', as of {one_line(rate.as_of)}' if rate.as_of else ''}"


def estimate_text(estimate: Estimate, rate: Rate) -> str:
    """Time and money as a range, and what it rests on. Where the price of an hour is known, the time is what is missing."""
    if estimate.seconds_low is None or estimate.seconds_high is None:
        time = "time not known"
    else:
        time = f"{duration(estimate.seconds_low)} to {duration(estimate.seconds_high)}"
    if estimate.usd_low is None or estimate.usd_high is None:
        money = "price not known" if rate.usd_per_hour is None else "cost not known"
    elif estimate.usd_high == 0:
        money = "$0"
    else:
        money = f"${estimate.usd_low:.2f} to ${estimate.usd_high:.2f}"
    return f"{money}, {time} ({estimate.basis})"


def spend_text(spend: SpendVerdict) -> str:
    """What a submit would reserve, and whether the limits allow it."""
    reserved = "what it may cost is not known" if spend.reserved_usd is None else f"up to {dollars(spend.reserved_usd)}"
    return f"{reserved}: {'allowed by the spend limits' if spend.allowed else 'refused by a spend limit'}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    seconds = round(seconds)
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 5400:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Bytes in decimal units."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
