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
        seen = {look.name for look in looks}
        rest = (
            Look(name=step, status=Outcome.SKIPPED, message="a step before it failed")
            for step in Step
            if step not in seen
        )
        order = list(Step)
        whole = tuple(sorted((*looks, *rest), key=lambda look: order.index(look.name)))
        return cls(url=url, reached=all(look.status in {Outcome.OK, Outcome.WARNING} for look in whole), steps=whole)


def ok(step: Step, message: str) -> Look:
    """As it should be."""
    return Look(name=step, status=Outcome.OK, message=message)


def warning(step: Step, message: str, hint: str) -> Look:
    """It works, and not well."""
    return Look(name=step, status=Outcome.WARNING, message=message, hint=hint)


def failed(step: Step, message: str, hint: str) -> Look:
    """A model would not arrive."""
    return Look(name=step, status=Outcome.FAILED, message=message, hint=hint)
