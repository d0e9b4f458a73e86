"""One thing that was looked at."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(enum.StrEnum):
    """How it was found. A warning may be what you want; with a problem something will not work."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was looked at, how it is, and if need be one command or sentence that mends it. Never holds a secret."""

    name: str
    status: Status
    message: str
    fix: str = ""


def ok(name: str, message: str) -> Finding:
    """As it should be."""
    return Finding(name=name, status=Status.OK, message=message)


def warning(name: str, message: str, fix: str) -> Finding:
    """Works, but not all, or not as most people want it."""
    return Finding(name=name, status=Status.WARNING, message=message, fix=fix)


def problem(name: str, message: str, fix: str) -> Finding:
    """Does not work."""
    return Finding(name=name, status=Status.PROBLEM, message=message, fix=fix)
