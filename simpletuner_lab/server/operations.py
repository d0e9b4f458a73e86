"""What the description of the API says of a route beyond its code: of each verb the types of its body and its answers.

A module with routes for people has a table `OPERATIONS` beside its handlers, from a method to its `Operation`:

    OPERATIONS: Final[Operations] = {
        JobHandler.delete: Operation(answer=JobDone, query=(flag("outputs"),), errors=(JobNotFound, JobActive)),
    }

`server.openapi` finds it by the handler, and makes schemas of the types; the words are those of the docstrings, the
names in a path those of the method's arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from simpletuner_lab.core.errors import (
    ConsentRequired,
    CredentialUnusable,
    InvalidConfig,
    InvalidDataset,
    LabError,
    PlanChanged,
    ProviderNotFound,
    ProviderUnavailable,
    RunTooLong,
    SecretInConfig,
    SpendLimitReached,
    TokenUnusable,
    TooLarge,
    UploadsForbidden,
)

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
ANY: Final = "*/*"

_REFUSALS: Final = (InvalidConfig, InvalidDataset, RunTooLong, SecretInConfig, ProviderNotFound, CredentialUnusable)
PLANNING: Final = (*_REFUSALS, TokenUnusable, TooLarge, ProviderUnavailable)
"""What a plan refuses with."""
SUBMITTING: Final = (*PLANNING, ConsentRequired, PlanChanged, UploadsForbidden, SpendLimitReached)
"""What a submit refuses with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A part of the query, or a header, that a caller may give."""

    name: str
    schema: Mapping[str, Any]
    where: str = "query"
    needed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One verb of a route. Any route may also answer 403, 500 and 503; one that reads a body or a query, 400."""

    answer: Any
    """The type of its answer; None: its bytes are not JSON, or it has none."""
    status: int = 200
    media: str = JSON
    """Of the answer."""
    body: Any = None
    """The type that the body is read as; None: none is read."""
    query: tuple[Parameter, ...] = ()
    errors: tuple[type[LabError], ...] = ()
    """What it refuses with; not those that any route has."""
    others: Mapping[int, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Further answers that are no errors, by their status: their type, or None for those without a body."""
    name: str = ""
    """Where the one that is made of its path is another's: `publishing-status` and `publishing/status`."""
    open: bool = False
    """It asks for no login, but has its own proof of who calls."""


Operations: TypeAlias = Mapping[Callable[..., Any], Operation]


def whole(name: str, least: int = 0, most: int | None = None, *, default: int | None = None) -> Parameter:
    """A whole number."""
    schema: dict[str, Any] = {"type": "integer", "minimum": least}
    schema |= {} if most is None else {"maximum": most}
    return Parameter(name=name, schema=schema | ({} if default is None else {"default": default}))


def words(name: str, *, most: int | None = None, needed: bool = False) -> Parameter:
    """Any text; where it is needed, some."""
    schema: dict[str, Any] = {"type": "string"} | ({"minLength": 1} if needed else {})
    return Parameter(name=name, schema=schema | ({} if most is None else {"maxLength": most}), needed=needed)


def choice(name: str, *values: str) -> Parameter:
    """One of some words; empty is as if it were not given."""
    return Parameter(name=name, schema={"type": "string", "enum": [*values, ""]})


def several(name: str, *values: str) -> Parameter:
    """Some of some words, with commas between."""
    one = "|".join(values)
    return Parameter(name=name, schema={"type": "string", "pattern": f"^(({one})(,({one}))*)?$"})


def flag(name: str) -> Parameter:
    """1 for yes; anything else is no."""
    return Parameter(name=name, schema={"type": "string", "description": "1 for yes"})


def in_header(name: str, pattern: str = "^[ -~]*$") -> Parameter:
    """A header. With control characters in one, the web server refuses the whole request before any route sees it."""
    return Parameter(name=name, where="header", schema={"type": "string", "pattern": pattern})
