"""Widgets in a notebook: `submit` shows a plan and waits for consent, `job` shows one job, `jobs` all of them, `spend` what they cost."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from simpletuner_lab.client import Client
from simpletuner_lab.core.job_queue import DEFAULT_PRIORITY
from simpletuner_lab.submission import Config, Data, Where, request_of, where
from simpletuner_lab.widgets.base import BundleMissing
from simpletuner_lab.widgets.form import SubmitWidget
from simpletuner_lab.widgets.line import line_to
from simpletuner_lab.widgets.listing import JobsWidget
from simpletuner_lab.widgets.run import JobWidget
from simpletuner_lab.widgets.spending import SpendWidget

__all__ = ["BundleMissing", "JobWidget", "JobsWidget", "SpendWidget", "SubmitWidget", "job", "jobs", "spend", "submit"]


def submit(
    config: Config = None,
    data: Data = None,
    *,
    provider: str = "",
    target: str = "",
    hardware: str = "",
    name: str = "",
    destination: Where = None,
    priority: int | str = DEFAULT_PRIORITY,
    strip_exif: bool = False,
    client: Client | None = None,
    **unknown: Any,
) -> SubmitWidget:
    """A form with the plan of a training in it. Nothing is sent before somebody agrees, by its button or from code.

    Args:
        config: the training config, or the path of a config.json; or a request made before: `submit(job.draft())` trains
            that job again, with what else is said here in the place of what it had. Without config and data the form is
            empty.
        data: a folder of images, a data set, several, or the path of a dataloader JSON; else the config names them.
        provider: where it runs; this machine if nothing is said.
        target: which of the provider's targets.
        hardware: which of the provider's hardware.
        name: what the job is called in lists.
        destination: where the model goes: "home", "hub:OWNER/NAME", "s3://BUCKET/PREFIX", or a mapping with a `kind`
            and more (docs/rest.md); else what the config asks for, else the lab's default.
        priority: in the queue, 0 to 50, or a name of one (`stcloud priority` has them).
        strip_exif: pictures leave without EXIF, places, comments and text; which way up they are stays.
        client: from `connect()`; else the lab is found.
        unknown: refused.

    Raises:
        InvalidRequest, InvalidDataset: config or data cannot be read.
        SecretInConfig: it holds a secret.
        TypeError: there is no such keyword.
    """
    _refuse(unknown)
    empty = config is None and data is None
    if empty:
        return SubmitWidget(None, client)
    place = where(destination)
    asked = request_of(
        config, data, provider=provider, target=target, hardware=hardware, name=name, destination=place,
        priority=priority, strip_exif=strip_exif,
    )  # fmt: skip
    return SubmitWidget(asked, client)


def job(job_id: str, *, client: Client | None = None) -> JobWidget:
    """One job: progress, loss, pictures, log, cancel.

    Raises:
        JobNotFound: there is none.
    """
    line_to(client).ask(lambda lab: lab.job(job_id))
    return JobWidget(job_id, client)


def jobs(*, client: Client | None = None) -> JobsWidget:
    """The list of jobs."""
    return JobsWidget(client)


def spend(*, client: Client | None = None) -> SpendWidget:
    """What was spent, by day, provider and job, and the limits; as values it is `connect().money.spend()`."""
    return SpendWidget(client)


def _refuse(unknown: dict[str, Any]) -> None:
    known = [name for name, p in inspect.signature(submit).parameters.items() if p.kind is not p.VAR_KEYWORD]
    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1)
        raise TypeError(f"submit() has no {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
