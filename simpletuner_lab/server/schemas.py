"""JSON Schemas of the values that travel, as `services.codec` writes and reads them."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, Final

from simpletuner_lab.services.setting_fields import docs_of

_SCALARS: Final[Mapping[Any, str]] = {str: "string", int: "integer", float: "number", bool: "boolean"}


class Schemas:
    """Makes them. Classes become components, each once, named as they are in Python."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}
        self._made: dict[str, tuple[type[Any], bool]] = {}

    def of(self, hint: Any, *, given: bool = False) -> dict[str, Any]:
        """The schema of a type. `given`: of what a caller sends, who may leave out what has a default.

        Raises:
            TypeError: JSON has no such type, or two classes have one name.
        """
        origin, parts = typing.get_origin(hint), typing.get_args(hint)
        if hint is object or hint is Any:
            return {}
        if hint in _SCALARS:
            return {"type": _SCALARS[hint]}
        if origin in {types.UnionType, typing.Union}:
            return self._union(parts, given=given)
        if origin is typing.Literal:
            return {"enum": list(parts)}
        if origin in {tuple, list, frozenset}:
            items = {"type": "array", "items": self.of(parts[0], given=given)}
            return items | ({"uniqueItems": True} if origin is frozenset else {})
        if isinstance(origin, type) and issubclass(origin, Mapping):
            values = self.of(parts[1], given=given)
            return {"type": "object"} | ({"additionalProperties": values} if values else {})
        if isinstance(hint, type) and (issubclass(hint, enum.Enum) or dataclasses.is_dataclass(hint)):
            return {"$ref": f"#/components/schemas/{self._component(hint, given=given)}"}
        raise TypeError(f"no schema for {hint!r}")

    def asks(self, schema: Mapping[str, Any]) -> bool:
        """Whether nothing at all, which is read as an empty object, does not fit."""
        name = schema.get("$ref", "").rpartition("/")[2]
        whole = self.components[name] if name else schema
        return "anyOf" in whole or bool(whole.get("required")) or whole.get("type", "object") != "object"

    def _union(self, parts: tuple[Any, ...], *, given: bool) -> dict[str, Any]:
        found = [self.of(part, given=given) for part in parts if part is not type(None)]
        null = [{"type": "null"}] if type(None) in parts else []
        if all(set(one) == {"type"} for one in found):
            names = [one["type"] for one in (*found, *null)]
            return {"type": names if len(names) > 1 else names[0]}
        return {"anyOf": [*found, *null]}

    def _component(self, cls: type[Any], *, given: bool) -> str:
        given = given and not issubclass(cls, enum.Enum)
        name = cls.__name__ + ("Input" if given and not cls.__name__.endswith("Body") else "")
        if self._made.setdefault(name, (cls, given)) != (cls, given):
            raise TypeError(f"{cls!r} and {self._made[name][0]!r} are both called {name}")
        if name not in self.components:
            self.components[name] = {}  # it may speak of itself
            self.components[name] = _choice(cls) if issubclass(cls, enum.Enum) else self._object(cls, given=given)
        return name

    def _object(self, cls: type[Any], *, given: bool) -> dict[str, Any]:
        hints, docs, fields = typing.get_type_hints(cls), docs_of(cls), dataclasses.fields(cls)
        members = {one.name: _described(self.of(hints[one.name], given=given), docs.get(one.name)) for one in fields}
        schema: dict[str, Any] = {"type": "object", "properties": members, "additionalProperties": False}
        if required := [one.name for one in fields if not given or _is_required(one)]:
            schema["required"] = required
        return _described(schema, words_of(cls))


def words_of(documented: Any) -> str:
    """A docstring as one paragraph; empty where there is none."""
    text = (inspect.getdoc(documented) or "").split("\n\n", 1)[0]
    return " ".join(text.split())


def _choice(cls: type[enum.Enum]) -> dict[str, Any]:
    return _described({"type": "string", "enum": [member.value for member in cls]}, words_of(cls))


def _described(schema: dict[str, Any], doc: str | None) -> dict[str, Any]:
    return schema | {"description": doc} if doc else schema


def _is_required(field: dataclasses.Field[Any]) -> bool:
    """Whether a caller must give it. The member that names the kind of a destination must be there too."""
    kind = field.name == "kind"
    return kind or (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
