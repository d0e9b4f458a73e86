"""What differs between two JSON values, key by key: the diff of two jobs' configs (SPEC G1)."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard

from simpletuner_lab.core.canonical import Json, JsonObject

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


class Kind(enum.StrEnum):
    """How a path differs."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One path that differs. `before` is null where it was added, `after` where it was removed."""

    path: str
    kind: Kind
    before: Json = None
    after: Json = None


def differences(before: Json, after: Json, path: str = "") -> tuple[Difference, ...]:
    """Every path that differs, in the order of the paths' keys.

    Lists whose items are objects with an `id` each are compared item by item, and what of them is in both but in
    another order is one change of the list's `order`. Every other list is one value. `1` and `1.0` are the same
    number; `true` is no number.
    """
    return tuple(_differences(before, after, path))


def _differences(before: Json, after: Json, path: str) -> Iterator[Difference]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _of_objects(before, after, path)
    elif _has_ids(before) and _has_ids(after):
        yield from _of_lists(before, after, path)
    elif not _same(before, after):
        yield Difference(path=path, kind=Kind.CHANGED, before=before, after=after)


def _of_objects(before: JsonObject, after: JsonObject, path: str) -> Iterator[Difference]:
    for key in sorted(before.keys() | after.keys()):
        where = _below(path, key)
        if key not in after:
            yield Difference(path=where, kind=Kind.REMOVED, before=before[key])
        elif key not in before:
            yield Difference(path=where, kind=Kind.ADDED, after=after[key])
        else:
            yield from _differences(before[key], after[key], where)


def _of_lists(before: Sequence[JsonObject], after: Sequence[JsonObject], path: str) -> Iterator[Difference]:
    old, new = ({str(item["id"]): item for item in listed} for listed in (before, after))
    for name in (*old, *(name for name in new if name not in old)):
        where = f"{path}[{name}]"
        if name not in new:
            yield Difference(path=where, kind=Kind.REMOVED, before=old[name])
        elif name not in old:
            yield Difference(path=where, kind=Kind.ADDED, after=new[name])
        else:
            yield from _of_objects(old[name], new[name], where)
    orders = [name for name in old if name in new], [name for name in new if name in old]
    if orders[0] != orders[1]:
        yield Difference(path=_below(path, "order"), kind=Kind.CHANGED, before=orders[0], after=orders[1])


def _has_ids(value: Json) -> TypeGuard[Sequence[JsonObject]]:
    """Whether this is a list of objects, each with an id that no other has."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    ids = [item.get("id") if isinstance(item, Mapping) else None for item in value]
    return all(isinstance(one, str) for one in ids) and len(set(ids)) == len(ids)


def _same(before: Json, after: Json) -> bool:
    """Equality of JSON values, where `true` is not `1`."""
    if isinstance(before, bool) or isinstance(after, bool):
        return before is after
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return before.keys() == after.keys() and all(_same(before[key], after[key]) for key in before)
    if _is_list(before) and _is_list(after):
        return len(before) == len(after) and all(map(_same, before, after))
    return before == after


def _is_list(value: Json) -> TypeGuard[Sequence[Json]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _below(path: str, key: str) -> str:
    """`path.key`; a key with other characters than a name has stands in quotes."""
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key
