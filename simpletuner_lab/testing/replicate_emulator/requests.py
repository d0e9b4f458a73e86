"""What a request may say: everything else is refused with 422, as the API's document has it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from simpletuner_lab.testing.replicate_emulator.records import REDACTED, Refusal, Version, Word

LONGEST_WAIT_S: Final = 60
SHORTEST_LIFE_S: Final = 5

_WAIT: Final = re.compile(r"wait(?:=([0-9]{1,3}))?")
_DURATION: Final = re.compile(r"([0-9]+)|(?=[0-9])(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?")
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,), "object": (dict,),
}  # fmt: skip


def invalid(detail: str) -> Refusal:
    """422, with what is wrong."""
    return Refusal(422, detail, "Input validation failed")


def only(body: Any, allowed: Collection[str]) -> dict[str, Any]:
    """The body of a create, an object of these keys alone.

    Raises:
        Refusal: 422, it is not.
    """
    if not isinstance(body, dict):
        raise invalid("- body must be an object")
    unknown = sorted(set(body) - set(allowed))
    if unknown:
        raise invalid(f"- Additional property {', '.join(unknown)} is not allowed")
    return body


def wait_s(prefer: str | None) -> int | None:
    """How long `Prefer` lets the answer wait; None without it.

    Raises:
        Refusal: 422, it is not `wait` or `wait=1` to `wait=60`.
    """
    if prefer is None:
        return None
    found = _WAIT.fullmatch(prefer.strip())
    seconds = int(found[1] or LONGEST_WAIT_S) if found else 0
    if not 1 <= seconds <= LONGEST_WAIT_S:
        raise invalid(f"- Prefer must be wait or wait=n with n from 1 to {LONGEST_WAIT_S}")
    return seconds


def life_s(cancel_after: str | None) -> int | None:
    """How long `Cancel-After` lets a prediction live; None without it. `30`, `30s`, `15m` and `2h30m` are such.

    Raises:
        Refusal: 422, it is none, or under five seconds.
    """
    if cancel_after is None:
        return None
    found = _DURATION.fullmatch(cancel_after.strip())
    if found is None or not cancel_after.strip():
        raise invalid("- Cancel-After must be a duration such as 30s, 15m or 2h30m")
    plain, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    total = plain + 3600 * hours + 60 * minutes + seconds
    if total < SHORTEST_LIFE_S:
        raise invalid(f"- Cancel-After must be at least {SHORTEST_LIFE_S} seconds")
    return total


def words(given: Any) -> frozenset[Word] | None:
    """The words of `webhook_events_filter`; None without it.

    Raises:
        Refusal: 422, one is none of `start`, `output`, `logs`, `completed`.
    """
    if given is None:
        return None
    known = {word.value for word in Word}
    if not isinstance(given, list) or any(not isinstance(word, str) or word not in known for word in given):
        raise invalid(f"- webhook_events_filter must be a list of {', '.join(sorted(known))}")
    return frozenset(Word(word) for word in given)


def webhook(given: Any) -> str | None:
    """The address for webhooks.

    Raises:
        Refusal: 422, it is no HTTP address.
    """
    if given is None:
        return None
    if not isinstance(given, str) or urlsplit(given).scheme not in {"http", "https"} or not urlsplit(given).netloc:
        raise invalid("- webhook must be an HTTPS URL")
    return given


def inputs(given: Any, version: Version) -> dict[str, Any]:
    """The input, if the version's schema has nothing against it. What the schema does not know stays.

    Raises:
        Refusal: 422, with every fault of it.
    """
    if not isinstance(given, dict):
        raise invalid("- input is required")
    wrong = [f"- input: {name} is required" for name in version.required if name not in given]
    for name, schema in version.inputs.items():
        if name in given:
            wrong += [f"- input.{name}: {text}" for text in _faults(given[name], schema)]
    if wrong:
        raise invalid("\n".join(wrong))
    return dict(given)


def known(given: Mapping[str, Any], version: Version) -> dict[str, Any]:
    """What reaches the model: the inputs that its version has, with the defaults of those left out."""
    if not version.inputs:
        return dict(given)
    defaults = {name: schema["default"] for name, schema in version.inputs.items() if "default" in schema}
    return {**defaults, **{name: value for name, value in given.items() if name in version.inputs}}


def redacted(given: Mapping[str, Any], version: Version) -> dict[str, Any]:
    """The input as answers tell it, without what the version calls a secret."""
    hidden = {name for name, schema in version.inputs.items() if schema.get("x-cog-secret")}
    return {name: REDACTED if name in hidden else value for name, value in given.items()}


def _faults(value: Any, schema: Mapping[str, Any]) -> list[str]:
    type_ = schema.get("type", "")
    if value is None and schema.get("nullable"):
        return []
    allowed = _TYPES.get(type_, (object,))
    if not isinstance(value, allowed) or (isinstance(value, bool) and type_ in {"integer", "number"}):
        return [f"Invalid type. Expected: {type_}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"Must be one of {', '.join(map(str, schema['enum']))}")
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"Must be greater than or equal to {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        found.append(f"Must be less than or equal to {schema['maximum']}")
    return found
