"""Domain values to JSON text and back, strictly: unknown keys and wrong types are refused, all at once."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, get_origin

import cattrs
from cattrs import transform_error
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.dispatch import StructureHook
from cattrs.preconf.json import make_converter
from cattrs.v import format_exception

from simpletuner_lab.core.canonical import require_finite
from simpletuner_lab.core.destination import KINDS, AwayDestination, Destination
from simpletuner_lab.core.errors import InvalidRequest, LabError, Problem
from simpletuner_lab.core.secret import Secret

T = TypeVar("T")


def _converter() -> cattrs.Converter:
    converter = make_converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_unstructure_hook_func(_is_frozenset, sorted)
    converter.register_structure_hook_func(lambda cls: cls is object, lambda value, _: value)
    for cls in (str, int, float, bool):
        converter.register_structure_hook(cls, _exactly)
    converter.register_structure_hook_factory(_is_texts, _list_of_texts)
    converter.register_unstructure_hook(Secret, _refuse_secret)
    converter.register_structure_hook_func(
        lambda cls: cls in (Destination, AwayDestination),
        lambda value, _: converter.structure(value, _kind_of(value)),
    )
    return converter


class _Unreadable(ValueError):
    """Says in its own words what is wrong with a value."""


def _kind_of(value: Any) -> type[Any]:
    """The class of a destination, by its member `kind`."""
    if not isinstance(value, Mapping):
        raise _Unreadable(f"must be an object with a kind ({', '.join(KINDS)})")
    try:
        return KINDS[value["kind"]]
    except (KeyError, TypeError):
        raise _Unreadable(f"kind must be one of {', '.join(KINDS)}") from None


def _is_texts(cls: Any) -> bool:
    return bool(cls == tuple[str, ...])


def _list_of_texts(cls: Any, converter: Any) -> StructureHook:
    """A text is a sequence of texts to Python: it would be read letter by letter."""
    read: StructureHook = homogenous_tuple_structure_factory(cls, converter)

    def structure(value: Any, of: Any) -> Any:
        if isinstance(value, str):
            raise _Unreadable('must be a list: ["..."], not a text')
        return read(value, of)

    return structure


def _is_frozenset(cls: Any) -> bool:
    return cls is frozenset or get_origin(cls) is frozenset


def _exactly(value: Any, cls: type[Any]) -> Any:
    """No silent coercion: `"5"` is not a number and `1` is not a truth value; an integer may stand for a float, which is finite."""
    if issubclass(cls, enum.Enum):
        try:
            return cls(value)
        except ValueError:
            raise _Unreadable(f"{value!r} is not one of {', '.join(str(one.value) for one in cls)}") from None
    if cls is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value)
    if not isinstance(value, cls) or (isinstance(value, bool) and cls is not bool):
        raise _Unreadable(f"must be {_WORDS[cls]}, not {_kind(value)}")
    return value


_WORDS: Final = {str: "a text", int: "a whole number", float: "a number, such as 1.5", bool: "true or false"}


def _kind(value: Any) -> str:
    """Of what kind a value is. It is not repeated: it may be a secret in a wrong place."""
    if value is None:
        return "null"
    kinds = {
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), type(value).__name__)


def _finite(value: float) -> float:
    """NaN passes every comparison with a limit, and no JSON can tell either of them."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _Unreadable(f"must be a finite number, not {number}")
    return number


def _refuse_secret(_: Secret) -> Any:
    raise TypeError("a secret is never encoded")


_CONVERTER = _converter()


def encode(value: Any) -> Any:
    """The value as JSON-ready dicts, lists and scalars."""
    return _CONVERTER.unstructure(value)


def dumps(value: Any) -> str:
    """The value as JSON text.

    Raises:
        ValueError: a number in it is not finite.
    """
    return json.dumps(encode(value), separators=(",", ":"), allow_nan=False)


def decode(cls: type[T], value: Any, *, what: str) -> T:
    """`value` as `cls`.

    Raises:
        InvalidRequest: everything that is wrong with it, each with its path below `what`.
    """
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{what} must be a JSON object")
    try:
        return _CONVERTER.structure(value, cls)
    except _Unreadable as error:
        raise InvalidRequest(f"{what} cannot be read", problems=[Problem(path=what, message=str(error))]) from error
    except (cattrs.BaseValidationError, cattrs.ForbiddenExtraKeysError) as error:
        found = [_problem(line, what) for line in transform_error(error, format_exception=_words)]
        problems = _own(error, what) or [*found, *_of_the_rest(cls, value, found, what)]
        raise InvalidRequest(f"{what} cannot be read", problems=problems, hint="see the problems listed") from error


def loads(cls: type[T], text: str, *, what: str) -> T:
    """JSON text as `cls`; `InvalidRequest` as `decode`."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"{what} is not JSON: {error}") from error
    require_finite(value, what)
    return decode(cls, value, what=what)


def _own(error: BaseException, what: str) -> list[Problem]:
    """What a dataclass found wrong with its members when it was made, each below `what`."""
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    found = [problem for part in parts if isinstance(part, LabError) for problem in part.problems]
    return [dataclasses.replace(problem, path=f"{what}.{problem.path}") for problem in found]


def _of_the_rest(cls: type[T], value: Mapping[str, Any], found: Sequence[Problem], what: str) -> list[Problem]:
    """What a dataclass would say of the members that could be read: it is not made while another one cannot be."""
    if not dataclasses.is_dataclass(cls):
        return []
    known = {field.name for field in dataclasses.fields(cls)}
    wrong = {re.split(r"[.\[]", one.path.removeprefix(f"{what}."))[0] for one in found}
    try:
        _CONVERTER.structure({name: item for name, item in value.items() if name in known - wrong}, cls)
    except cattrs.ClassValidationError as error:
        told = (_problem(line, what) for line in transform_error(error, format_exception=_words))
        return _own(error, what) or [problem for problem in told if problem.path == what and problem not in found]
    except (cattrs.BaseValidationError, ValueError):
        pass
    return []


def _words(error: BaseException, cls: type[Any] | None) -> str:
    """A `ValueError` of no class is a dataclass's own: what it says of its members together."""
    own = isinstance(error, _Unreadable | LabError) or (cls is None and isinstance(error, ValueError))
    return str(error) if own else format_exception(error, cls)


def _problem(line: str, what: str) -> Problem:
    message, _, path = line.rpartition(" @ ")
    return Problem(path=path.replace("$", what, 1) if message else what, message=message or line)
