"""Lists in pages: an envelope of `next`, `previous` and `results`, and cursors that nobody need understand."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from simpletuner_lab.testing.replicate_emulator.records import Prediction
from simpletuner_lab.testing.replicate_emulator.requests import invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of a list, with the addresses of what comes after it and before it."""

    items: Sequence[Prediction]
    next: str | None
    previous: str | None


def whole(results: Sequence[Any]) -> dict[str, Any]:
    """A list of which all is told."""
    return {"next": None, "previous": None, "results": list(results)}


def page_of(found: Sequence[Prediction], asked: Mapping[str, str], *, size: int, place: str) -> Page:
    """The page that a cursor is of; the first without one.

    Args:
        found: the whole list, the newest first.
        asked: `cursor`, `created_after` and `created_before`, each empty if it was not given.
        size: of a page.
        place: the list's address.

    Raises:
        Refusal: 422, the cursor is not one of ours, or a time is none.
    """
    after, before = _time(asked["created_after"], "created_after"), _time(asked["created_before"], "created_before")
    kept = [
        one
        for one in found
        if (after is None or one.created_at >= after) and (before is None or one.created_at < before)
    ]
    side, number = _read(asked["cursor"])
    if side == "newer":
        items = [one for one in kept if one.number > number][-size:]
    else:
        items = [one for one in kept if side == "" or one.number < number][:size]
    span = {name: asked[name] for name in ("created_after", "created_before") if asked[name]}

    def address(side: str, number: int) -> str:
        return f"{place}?{urlencode({'cursor': _write(side, number), **span})}"

    older = bool(items) and items[-1] is not kept[-1]
    newer = bool(items) and items[0] is not kept[0]
    return Page(
        items=items,
        next=address("older", items[-1].number) if older else None,
        previous=address("newer", items[0].number) if newer else None,
    )


def _write(side: str, number: int) -> str:
    return base64.urlsafe_b64encode(f"{side}:{number}".encode()).decode()


def _read(cursor: str) -> tuple[str, int]:
    if not cursor:
        return "", 0
    try:
        side, _, number = base64.urlsafe_b64decode(cursor.encode()).decode().partition(":")
        if side in {"older", "newer"}:
            return side, int(number)
    except (ValueError, binascii.Error):
        pass
    raise invalid("- cursor is not valid")


def _time(text: str, name: str) -> float | None:
    if not text:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid(f"- {name} must be an ISO 8601 time") from error
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
