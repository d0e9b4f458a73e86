"""A config that was submitted before, once more by its name: `POST /api/queue/submit` (contract §2.8).

It is a submit like any other: the same plan, consent and limits. What the queue of the original offers beyond that and
this one does not, is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.errors import Conflict, InvalidRequest, LabError, NotFound
from simpletuner_lab.core.job import Job, JobFilter
from simpletuner_lab.core.job_queue import Turn
from simpletuner_lab.core.plan import DEFAULT_PROVIDER, SubmitRequest
from simpletuner_lab.core.provider import Provider
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.views import JobView

AUTO: Final = "auto"
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSubmit:
    """What is asked for."""

    config_name: str
    """Of a job: what the newest one of this name was submitted with is submitted again."""
    no_wait: bool = False
    """Refused where no slot is free now."""
    any_gpu: bool = False
    """Whichever graphics card; none has a number here, so it makes no difference."""
    for_approval: bool = False
    target: str = AUTO
    """A provider's id; `auto` is this machine."""
    approve: str | None = None
    """Digest of the plan; needed unless it was agreed to before."""
    entry: str = "rest"


def submit_named(front: Front, asked: NamedSubmit) -> JobView:
    """The new job.

    Raises:
        InvalidRequest: it asks for an approval, which nobody gives here.
        ProviderNotFound, ProviderUnavailable: the target is not offered here.
        NotFound: no job of yours has this name.
        Conflict: no slot is free, and it is not to wait; nothing runs.
        LabError: what a submit refuses with.
    """
    if asked.for_approval:
        raise InvalidRequest(
            "for_approval: nobody approves jobs here", hint="leave it out; consent is by the plan's digest"
        )
    lab = front.lab
    provider = lab.registry.get(DEFAULT_PROVIDER if asked.target == AUTO else asked.target)
    request = _request(lab, asked.config_name, provider)
    if asked.no_wait and (bar := _bar(lab, provider)):
        raise Conflict(f"no slot is free: {bar}; nothing was submitted", hint="without no_wait it waits for one")
    job = front.submit(request, approve=asked.approve, entry=asked.entry)
    if asked.no_wait:
        _take_slot(lab, job.job_id)
    return front.job(job.job_id)


def _request(lab: Lab, name: str, provider: Provider) -> SubmitRequest:
    """What the newest job of this name was submitted with; for another provider without what only the first one has."""
    request = lab.snapshots.request(_newest(lab, name).id)
    if request.provider == provider.id:
        return request
    return dataclasses.replace(request, provider=provider.id, target="", hardware="")


def _newest(lab: Lab, name: str) -> Job:
    """Names that only contain this one are passed over, and runs that were started elsewhere: their config is not known."""
    chosen = JobFilter(text=name, owner=lab.owner)
    for offset in itertools.count(0, _PAGE) if name else ():
        page = lab.store.jobs.page(chosen, limit=_PAGE, offset=offset)
        found = next((job for job in page.jobs if job.name == name and not job.imported), None)
        if found is not None:
            return found
        if len(page.jobs) < _PAGE:
            break
    raise NotFound(
        f"no job of yours is called {name[:100]!r}", hint="a config is first submitted whole: POST /jobs/submit"
    )


def _bar(lab: Lab, provider: Provider) -> str:
    turn = Turn(owner=lab.owner, provider=provider.id, remote=provider.capabilities.remote)
    return lab.store.queue.slots().bar(lab.queue.limits(), turn)


def _take_slot(lab: Lab, job_id: str) -> None:
    """Gives a new job its slot at once; it does not stay where another was faster."""
    lab.queue.process()
    if not lab.store.jobs.get(job_id).waits_for_slot:
        return
    with contextlib.suppress(LabError):  # it has ended already, or was deleted
        lab.cancel(job_id)
    raise Conflict(
        f"another job took the slot first; job {job_id} was cancelled", hint="without no_wait it waits for one"
    )
