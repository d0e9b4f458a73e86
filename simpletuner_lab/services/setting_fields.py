"""What a form needs to draw the settings of a provider: of each its kind, its default, its choices and its words."""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from simpletuner_lab.services.codec import encode

CHOICES: Final = "choices"
"""Under this key a field's metadata may name all that it may be."""


class FieldKind(enum.StrEnum):
    """How a setting is edited."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    LIST = "list"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingField:
    """One setting. `doc` is the text below the field in its class; empty `choices`: anything of its kind."""

    name: str
    kind: FieldKind
    default: object
    choices: tuple[str, ...]
    doc: str


def fields_of(cls: type[Any]) -> tuple[SettingField, ...]:
    """The fields of a provider's `Settings`, in their order."""
    hints, docs, standard = typing.get_type_hints(cls), docs_of(cls), encode(cls())
    return tuple(
        SettingField(
            name=field.name,
            kind=_kind(hints[field.name]),
            default=standard[field.name],
            choices=tuple(field.metadata.get(CHOICES, ())),
            doc=docs.get(field.name, ""),
        )
        for field in dataclasses.fields(cls)
    )


def in_lists(cls: type[Any], given: Mapping[str, object]) -> dict[str, object]:
    """What is given; one text where a list is wanted is a list of that one, and not of its letters."""
    hints = typing.get_type_hints(cls)
    lists = {name for name in hints if _kind(hints[name]) is FieldKind.LIST}
    return {name: [value] if name in lists and isinstance(value, str) else value for name, value in given.items()}


def _kind(hint: Any) -> FieldKind:
    if isinstance(hint, types.UnionType):
        (hint, *_) = (part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) in {tuple, list, frozenset}:
        return FieldKind.LIST
    return {bool: FieldKind.FLAG, int: FieldKind.NUMBER, float: FieldKind.NUMBER}.get(hint, FieldKind.TEXT)


def docs_of(cls: type[Any]) -> Mapping[str, str]:
    """The string below each field, on one line; none where the source is not there."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    docs: dict[str, str] = {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for field, below in itertools.pairwise(body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            docs[field.target.id] = " ".join(below.value.value.split())
    return docs
