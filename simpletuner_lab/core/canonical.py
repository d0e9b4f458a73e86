"""Canonical JSON and the digests made of it (SPEC C2): the same value, the same bytes, on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TypeAlias

from simpletuner_lab.core.errors import InvalidRequest

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


def sha256_hex(data: bytes) -> str:
    """Lower-case hex SHA-256."""
    return hashlib.sha256(data).hexdigest()
