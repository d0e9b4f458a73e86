"""Canonical JSON and the digests made of it (SPEC C2): the same value, the same bytes, on every machine."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from simpletuner_lab.core.errors import InvalidRequest, Problem

Json: TypeAlias = object
"""A JSON value: null, a boolean, a number, text, a list or an object of these."""

JsonObject: TypeAlias = Mapping[str, Json]


def canonical_json(value: Json) -> bytes:
    """UTF-8 JSON with sorted keys and no blanks.

    Raises:
        InvalidRequest: a number is not finite, or text cannot be UTF-8.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest("a name or text is not valid UTF-8", hint="rename the file or fix the text") from error
    except ValueError as error:
        raise InvalidRequest("NaN and infinity have no place in a config", hint="use a finite number") from error


def require_finite(value: Json, what: str) -> None:
    """Whether each number in a JSON value is one: Python reads and writes NaN and Infinity, which JSON does not have.

    Raises:
        InvalidRequest: those that are not finite, each with its path below `what`.
    """
    if problems := tuple(_not_finite(value, what)):
        others = f" ({len(problems) - 1} more like it)" if len(problems) > 1 else ""
        raise InvalidRequest(
            f"{problems[0].path} {problems[0].message}{others}", problems=problems, hint="use a finite number"
        )


def _not_finite(value: Json, path: str) -> Iterator[Problem]:
    if isinstance(value, float):
        if not math.isfinite(value):
            yield Problem(path=path, message=f"must be a finite number, not {value}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _not_finite(item, f"{path}[{index}]")


def sha256_hex(data: bytes) -> str:
    """Lower-case hex SHA-256."""
    return hashlib.sha256(data).hexdigest()
