"""What is told of the endpoint as it is seen from outside; of a test each step apart, so that the first fault is clear."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalUpload:
    """Where results come home to. `enabled`: also from elsewhere. `config_json` is for a trainer, without its keys."""

    enabled: bool
    endpoint_url: str
    bucket: str
    config_json: str
    outputs_dir: str


class Step(enum.StrEnum):
    """From the name to a whole upload, in the order in which they are tried."""

    DNS = "dns"
    TCP = "tcp"
    TLS = "tls"
    PATH = "path"
    SIGNATURE = "signature"
    UPLOAD = "upload"
    CLOCK = "clock"


class Outcome(enum.StrEnum):
    """`skipped` stands behind a step that failed."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One step: what was seen, in a sentence, and what to do."""

    name: Step
    status: Outcome
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The whole test of one URL. `reached` is whether a model would arrive."""

    url: str
    reached: bool
    steps: tuple[Look, ...]

    @classmethod
    def of(cls, url: str, looks: Sequence[Look]) -> Reach:
        """With the steps that were not come to."""
        steps = in_order(looks, tuple(Step))
        return cls(url=url, reached=all_well(steps), steps=steps)


class Mode(enum.StrEnum):
    """Who sends the webhook of a test: this lab itself, or the provider."""

    DIRECT = "direct"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookReport:
    """The test of a provider's webhooks. `reached` is whether they would be taken; `took_s` how long it took."""

    provider: str
    mode: Mode
    url: str
    reached: bool
    steps: tuple[Look, ...]
    took_s: float

    @classmethod
    def of(
        cls, provider: str, mode: Mode, url: str, looks: Sequence[Look], *, steps: Sequence[Step], took_s: float
    ) -> WebhookReport:
        """With those of the steps that were not come to."""
        whole = in_order(looks, steps)
        return cls(provider=provider, mode=mode, url=url, reached=all_well(whole), steps=whole, took_s=took_s)


def in_order(looks: Sequence[Look], steps: Sequence[Step]) -> tuple[Look, ...]:
    """One look for each step; those that are missing were not come to."""
    seen = {look.name: look for look in looks}
    return tuple(
        seen.get(step, Look(name=step, status=Outcome.SKIPPED, message="a step before it failed")) for step in steps
    )


def all_well(looks: Sequence[Look]) -> bool:
    """Whether nothing failed and nothing was left out."""
    return all(look.status in {Outcome.OK, Outcome.WARNING} for look in looks)


def ok(step: Step, message: str) -> Look:
    """As it should be."""
    return Look(name=step, status=Outcome.OK, message=message)


def warning(step: Step, message: str, hint: str) -> Look:
    """It works, and not well."""
    return Look(name=step, status=Outcome.WARNING, message=message, hint=hint)


def failed(step: Step, message: str, hint: str) -> Look:
    """A model would not arrive."""
    return Look(name=step, status=Outcome.FAILED, message=message, hint=hint)
