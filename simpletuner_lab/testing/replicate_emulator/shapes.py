"""Answers, in the members that the API's document and its recorded answers have."""

from __future__ import annotations

from typing import Any, Final

from simpletuner_lab.testing.replicate_emulator.files import StoredFile
from simpletuner_lab.testing.replicate_emulator.records import (
    Account,
    Hardware,
    Model,
    Prediction,
    Shape,
    Version,
    milliseconds,
    moment,
)

_CREATED_2024: Final = ("id", "model", "version", "input", "logs", "error", "status", "created_at", "urls")
_OPTIONAL: Final = ("started_at", "completed_at", "deadline", "deployment")


def account(who: Account) -> dict[str, Any]:
    """Of GET /v1/account."""
    return {"type": who.type, "username": who.username, "name": who.name or who.username, "github_url": ""}


def hardware(one: Hardware) -> dict[str, Any]:
    """Without a price, which the API does not tell."""
    return {"name": one.name, "sku": one.sku}


def version(one: Version) -> dict[str, Any]:
    """With its OpenAPI schema."""
    return {
        "id": one.id,
        "created_at": moment(one.created_at),
        "cog_version": one.cog_version,
        "openapi_schema": one.openapi_schema(),
    }


def model(one: Model, base_url: str, run_count: int) -> dict[str, Any]:
    """With its newest version."""
    return {
        "url": f"{base_url}/{one.id}",
        "owner": one.owner,
        "name": one.name,
        "description": one.description,
        "visibility": one.visibility,
        "is_official": one.official,
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": run_count,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": version(one.versions[0]) if one.versions else None,
    }


def prediction(one: Prediction, base_url: str, shape: Shape = Shape.FULL) -> dict[str, Any]:
    """As GET tells it, and webhooks do."""
    get = f"{base_url}/v1/{one.kind}/{one.id}"
    told: dict[str, Any] = {
        "id": one.id,
        "model": one.model,
        "version": one.version_shown,
        "input": one.input,
        "logs": one.logs,
        "output": one.output,
        "data_removed": one.data_removed,
        "error": one.error,
        "status": one.status.value,
        "source": "api",
        "created_at": moment(one.created_at),
        "started_at": _moment(one.started_at),
        "completed_at": _moment(one.completed_at),
        "deadline": _moment(one.deadline),
        "deployment": one.deployment,
        "urls": {"web": f"{base_url}/p/{one.id}", "get": get, "cancel": f"{get}/cancel"},
        "metrics": dict(one.metrics),
    }
    if one.destination is not None:
        told["destination"] = one.destination
    for name in _OPTIONAL:
        if told[name] is None:
            del told[name]
    if shape is Shape.YEAR_2024:
        del told["urls"]["web"]
        told.pop("deadline", None)
    return told


def created(one: Prediction, base_url: str, shape: Shape, *, waited: bool) -> dict[str, Any]:
    """As the answer to a create tells it. In 2024 one that waited said `processing`, its output complete or not."""
    told = prediction(one, base_url, shape)
    if shape is Shape.FULL:
        return told
    few = {name: told[name] for name in _CREATED_2024}
    if waited:
        few |= {"output": one.output, "data_removed": False, "status": "processing"}
    return few


def canceled(one: Prediction, base_url: str, shape: Shape) -> dict[str, Any]:
    """As the answer to a cancel tells it. In 2024 it told neither log nor output."""
    told = prediction(one, base_url, shape)
    if shape is Shape.YEAR_2024:
        told |= {"logs": None, "output": None, "webhook_completed": None}
    return told


def file(one: StoredFile, base_url: str) -> dict[str, Any]:
    """As recorded in 2024: `name` and `etag` too, which the document leaves out."""
    return {
        "id": one.id,
        "name": one.name,
        "content_type": one.content_type,
        "size": one.size,
        "etag": one.md5,
        "checksums": {"sha256": one.sha256, "md5": one.md5},
        "metadata": one.metadata,
        "created_at": milliseconds(one.created_at),
        "expires_at": milliseconds(one.expires_at),
        "urls": {"get": f"{base_url}/v1/files/{one.id}"},
    }


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else moment(seconds)
