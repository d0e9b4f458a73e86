"""Where the data sets of a dataloader lie, by the words of SimpleTuner's entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from simpletuner_lab.core.canonical import Json, JsonObject
from simpletuner_trainer import spec

ARCHIVE: Final = "archive"
"""How data sets of this machine reach a target."""

HERE: Final = spec.DatasetConfig().type
"""The `type` of a data set of this machine."""

_PLACES: Final[Mapping[str, str]] = {HERE: ARCHIVE, "huggingface": "hub", "aws": "s3"}
"""By an entry's `type`."""
_CACHES: Final = frozenset({"text_embeds", "image_embeds", "conditioning_image_embeds", "distillation_cache"})
"""Values of `dataset_type` that place what training makes, and hold no data."""


def plain_keys(entry: JsonObject) -> dict[str, Json]:
    """The entry without the dashes that its keys may begin with."""
    return {key.removeprefix("--"): value for key, value in entry.items()}


def type_of(entry: JsonObject) -> str:
    """Its `type`, that of this machine where it has none."""
    return str(plain_keys(entry).get("type") or HERE)


def place_of(entry: JsonObject) -> str | None:
    """By which of `core.provider.Target.inputs` the entry's data reach a target.

    Returns:
        `archive`, `hub` or `s3`; empty where its type is none that can be reached so; None where it has no data: it is
        disabled, or a cache.
    """
    named = plain_keys(entry)
    if str(named.get("disabled")).lower() == "true" or str(named.get("dataset_type")) in _CACHES:
        return None
    return _PLACES.get(type_of(entry), "")
