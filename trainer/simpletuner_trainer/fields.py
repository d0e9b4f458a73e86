"""Declared options: a frozen dataclass says what a mapping may hold, `read_options` checks a mapping against it.

Everything wrong is collected, never the first fault alone, and each fault has the path a user can find it under.
Pure standard library: the lab imports it through `simpletuner_trainer.spec`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

T = TypeVar("T")
Reader: TypeAlias = Callable[[object], T]
"""Turns one JSON value into the option's type, or raises `Wrong`."""

_NOTHING: Final = ("", "none", "null")


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: where (`config.lora_rnak`), what in one sentence, and what to do about it."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class SpecError(Exception):
    """The spec cannot be run. Holds every problem that was found, in the order of the document."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Wrong(ValueError):
    """A reader's refusal of one value."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = message, hint
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Option:
    """What `read_options` knows about a field beyond its default."""

    read: Reader[Any]
    aliases: tuple[str, ...]
    shapes_weights: bool
    """Whether another value would train other weights; only these enter `config_hash`."""
    required: bool


def option(
    default: Any,
    read: Reader[Any],
    *,
    aliases: tuple[str, ...] = (),
    shapes_weights: bool = True,
    required: bool = False,
) -> Any:
    """Declare a dataclass field that `read_options` fills."""
    made = Option(read=read, aliases=aliases, shapes_weights=shapes_weights, required=required)
    return dataclasses.field(default=default, metadata={"option": made})


def options_of(cls: type[Any]) -> dict[str, Option]:
    """The declared options of a dataclass, by field name and in order."""
    return {field.name: field.metadata["option"] for field in dataclasses.fields(cls) if "option" in field.metadata}


def read_options(
    cls: type[Any], values: object, path: str, *, refused: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], list[Problem]]:
    """Check `values` against the options of `cls`: the good ones by field name, and every problem.

    Keys may start with ``--``. `refused` names keys that are known and not done yet, each with a hint; one that is
    switched off (false, 0, null, an empty string) asks for nothing and passes.
    """
    if not isinstance(values, Mapping):
        return {}, [Problem(path, f"is {_kind(values)}, not an object")]
    options = options_of(cls)
    owner = {name: field for field, made in options.items() for name in (field, *made.aliases)}
    good: dict[str, Any] = {}
    problems: list[Problem] = []
    spelled: dict[str, str] = {}
    for key, value in values.items():
        name = str(key).removeprefix("--")
        where = f"{path}.{printable(str(key))}"
        if name not in owner:
            problems += _unknown(name, value, where, owner, refused or {})
        elif owner[name] in spelled:
            problems.append(Problem(where, f"says the same as {spelled[owner[name]]!r}", "keep one of the two"))
        else:
            spelled[owner[name]] = str(key)
            try:
                good[owner[name]] = options[owner[name]].read(value)
            except Wrong as wrong:
                problems.append(Problem(where, wrong.message, wrong.hint))
    problems += [
        Problem(f"{path}.{name}", "is missing")
        for name, made in options.items()
        if made.required and name not in spelled
    ]
    return good, problems


def _unknown(name: str, value: object, where: str, known: Iterable[str], refused: Mapping[str, str]) -> list[Problem]:
    if name in refused:
        off = not value or (isinstance(value, str) and value.lower() in ("none", "false", "0", "no", "no_change"))
        return [] if off else [Problem(where, "is not supported yet", refused[name])]
    return [Problem(where, "is not a known key", did_you_mean(name, known))]


def without_none(cls: type[Any], good: dict[str, Any]) -> dict[str, Any]:
    """`good` without the texts that were switched off: they go back to their default, an empty string."""
    empty = {field.name for field in dataclasses.fields(cls) if field.default == ""}
    return {name: value for name, value in good.items() if not (value is None and name in empty)}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest valid name, empty when nothing is near."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


# ------------------------------------------------------------------------------------------------------------ readers


def number(*, above: float = -math.inf, least: float = -math.inf, most: float = math.inf) -> Reader[float]:
    """A finite number, also as a string (``"1e-4"``, as SimpleTuner writes it)."""

    def read(value: object) -> float:
        return _bounded(_number(value), above, least, most)

    return read


def integer(*, least: float = -math.inf, most: float = math.inf) -> Reader[int]:
    """A whole number; ``100.0`` and ``"100"`` pass, ``1.5`` does not."""

    def read(value: object) -> int:
        as_float = _number(value)
        if not as_float.is_integer():
            raise Wrong(f"is {value!r}, not a whole number")
        whole = value if isinstance(value, int) else int(as_float)
        _bounded(whole, -math.inf, least, most)
        return whole

    return read


def boolean(value: object) -> bool:
    """``true`` or ``false``, also as strings."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise Wrong(f"is {_shown(value)}, not true or false")


def text(value: object) -> str:
    """A string that is not blank and has no control characters."""
    if not isinstance(value, str):
        raise Wrong(f"is {_kind(value)}, not a string")
    if not value.strip():
        raise Wrong("is blank")
    if any(ord(char) < ord(" ") and char not in "\n\t" for char in value):
        raise Wrong("holds control characters")
    if not is_text(value):
        raise Wrong("holds half a character (a lone surrogate)", "write it anew as UTF-8")
    return value


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8: without lone surrogates, as broken JSON and file names have them."""
    return not any("\ud800" <= char <= "\udfff" for char in value)


def printable(value: str) -> str:
    """A string as it can be logged: what cannot be written as UTF-8 (also of file names) as escapes."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def texts(value: object) -> tuple[str, ...]:
    """One string or a list of them; an empty string or list is none."""
    if value in ("", None):
        return ()
    if isinstance(value, str):
        return (text(value),)
    if isinstance(value, list | tuple):
        return tuple(text(item) for item in value)
    raise Wrong(f"is {_kind(value)}, not a string or a list of strings")


def numbers(*, above: float) -> Reader[tuple[float, ...]]:
    """A list of finite numbers, each more than `above`; also as the text of a JSON list. Null or nothing is none."""

    def read(value: object) -> tuple[float, ...]:
        if isinstance(value, str) and value.lstrip().startswith("["):
            with contextlib.suppress(ValueError):
                value = json.loads(value)
        if value in ("", None):
            return ()
        if not isinstance(value, list | tuple):
            raise Wrong(f"is {_kind(value)}, not a list of numbers")
        return tuple(number(above=above)(item) for item in value)

    return read


def modules(value: object) -> tuple[str, ...] | str:
    """Which modules of a network: a list of names, also as the text of a JSON list, or one regular expression."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(ValueError):  # "[" opens a regular expression as well
            value = json.loads(value)
    if isinstance(value, list | tuple):
        names = tuple(text(item) for item in value)
        if not names:
            raise Wrong("is an empty list")
        return names
    pattern = text(value)
    try:
        re.compile(pattern)
    except re.error as error:
        raise Wrong(f"is {_shown(pattern)}, not a regular expression: {error}") from None
    return pattern


def size(value: object) -> tuple[int, int]:
    """Width and height in pixels, multiples of 8: one number for a square, ``"512x768"``, or a list of the two."""
    parts: Sequence[object] = (value, value)
    if isinstance(value, str) and "x" in value.lower():
        parts = value.lower().split("x")
    elif isinstance(value, list | tuple):
        parts = value
    try:
        width, height = (integer(least=16, most=16384)(part) for part in parts)
    except ValueError:
        raise Wrong(f"is {_shown(value)}", "pixels from 16 to 16384, as a number or WIDTHxHEIGHT") from None
    if width % 8 or height % 8:  # a latent of every family covers 8 x 8 pixels or a part of that
        raise Wrong(f"is {_shown(value)}", "width and height must be multiples of 8")
    return width, height


def anything(value: object) -> object:
    """A value that is accepted and not looked at."""
    return value


def choice(*names: str, also: Mapping[str, str] | None = None) -> Reader[str]:
    """One of `names`; `also` maps other spellings to one of them."""
    spellings = dict.fromkeys(names) | (dict(also) if also else {})

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in spellings:
            hint = did_you_mean(value, spellings) if isinstance(value, str) else ""
            raise Wrong(f"is {_shown(value)}; supported: {', '.join(names)}", hint)
        return spellings[value] or value

    return read


def several(read: Reader[str]) -> Reader[tuple[str, ...]]:
    """Any number of what `read` takes: one, a list, or nothing."""

    def read_several(value: object) -> tuple[str, ...]:
        if value is None or (isinstance(value, str) and value.lower() in _NOTHING):
            return ()
        return tuple(read(item) for item in (value if isinstance(value, list | tuple) else (value,)))

    return read_several


def settings(value: object) -> tuple[str, ...]:
    """Names with numbers or booleans, as ``name=value`` each: from ``"a=1,b=true"``, an object, or a list of such texts."""
    if isinstance(value, Mapping):
        value = [f"{name}={str(item).lower() if isinstance(item, bool) else item}" for name, item in value.items()]
    if value is None or (isinstance(value, str) and value.lower() in _NOTHING):
        return ()
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise Wrong(f"is {_kind(value)}, not settings", "name=value,name=value")
    return tuple(sorted(_setting(part) for part in parts))


def _setting(part: object) -> str:
    name, equals, value = str(part).replace(" ", "").partition("=")
    if not name or not equals:
        raise Wrong(f"holds {_shown(part)}", "name=value,name=value")
    if value.lower() in ("true", "false"):
        return f"{name}={value.lower()}"
    return f"{name}={_number(value):g}"


def optional(read: Reader[T]) -> Reader[T | None]:
    """What `read` takes, or nothing: null, an empty string, ``"none"``."""

    def read_optional(value: object) -> T | None:
        if value is None or (isinstance(value, str) and value.lower() in _NOTHING):
            return None
        return read(value)

    return read_optional


def matching(pattern: str, says: str) -> Reader[str]:
    """A string that matches the whole regular expression `pattern`; `says` describes it to a person."""
    compiled = re.compile(pattern)

    def read(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise Wrong(f"is {_shown(value)}", says)
        return value

    return read


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Wrong(f"is {_kind(value)}, not a number")
    try:
        found = float(value)
    except (ValueError, OverflowError):
        raise Wrong(f"is {_shown(value)}, not a number") from None
    if not math.isfinite(found):
        raise Wrong(f"is {_shown(value)}, not a finite number")
    return found


def _bounded(value: float, above: float, least: float, most: float) -> float:
    if value <= above:
        raise Wrong(f"is {value:g}", f"it must be more than {above:g}")
    if value < least:
        raise Wrong(f"is {value:g}", f"it must be at least {least:g}")
    if value > most:
        raise Wrong(f"is {value:g}", f"it must be at most {most:g}")
    return value


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _kind(value: object) -> str:
    names: dict[type[Any], str] = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")
