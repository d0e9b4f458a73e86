"""The models that an emulated Replicate has, and its hardware with prices."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from simpletuner_lab.testing.replicate_emulator.records import Hardware, Model, Refusal, Version

_VERSION_ID: Final = re.compile(r"[0-9a-f]{64}")
_INVALID_VERSION: Final = "Invalid version or not permitted"
_AS_OF: Final = "2026-05-04"

COG_SCHEMA: Final = Path(".cog", "openapi_schema.json")
"""Where Cog looks for the schema of a model, in its folder; without it inputs are not checked."""

HARDWARE: Final = (
    Hardware(sku="cpu", name="CPU", usd_per_s=0.000100, as_of="2026-11-18"),
    Hardware(sku="gpu-t4", name="Nvidia T4 GPU", usd_per_s=0.000225, as_of=_AS_OF),
    Hardware(sku="gpu-l40s", name="Nvidia L40S GPU", usd_per_s=0.000975, as_of=_AS_OF),
    Hardware(sku="gpu-a100-large", name="Nvidia A100 (80GB) GPU", usd_per_s=0.001400, as_of=_AS_OF),
    Hardware(sku="gpu-h100", name="Nvidia H100 GPU", usd_per_s=0.001525, as_of=_AS_OF),
)
"""The published price list, each line with its date."""


def version_id(text: str) -> str:
    """64 hexadecimal digits that stand for a text: the id of a made-up version."""
    return hashlib.sha256(text.encode()).hexdigest()


def _input(type_: str, order: int, title: str, **more: Any) -> Mapping[str, Any]:
    return MappingProxyType({"type": type_, "title": title, "x-order": order, **more})


_SECRET: Final = {"format": "password", "writeOnly": True, "x-cog-secret": True}
_TRAINER_INPUTS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "images": _input("string", 0, "Images", format="uri"),
        "config_json": _input("string", 1, "Config Json"),
        "dataloader_json": _input("string", 2, "Dataloader Json"),
        "max_train_steps": _input("integer", 3, "Max Train Steps", minimum=1),
        "s3_bucket": _input("string", 4, "S3 Bucket"),
        "s3_region": _input("string", 5, "S3 Region"),
        "s3_endpoint_url": _input("string", 6, "S3 Endpoint Url"),
        "s3_base_path": _input("string", 7, "S3 Base Path"),
        "s3_public_base_url": _input("string", 8, "S3 Public Base Url"),
        "s3_access_key": _input("string", 9, "S3 Access Key", **_SECRET),
        "s3_secret_key": _input("string", 10, "S3 Secret Key", **_SECRET),
        "hub_model_id": _input("string", 11, "Hub Model Id"),
        "hf_token": _input("string", 12, "Hf Token", **_SECRET),
        "lycoris_config": _input("string", 13, "Lycoris Config"),
        "return_logs": _input("boolean", 14, "Return Logs", default=True),
    }
)

MODELS: Final = (
    Model(
        owner="simpletuner",
        name="advanced-trainer",
        description="Trains LoRAs and full models.",
        versions=(
            Version(
                id=version_id("simpletuner/advanced-trainer"), model="simpletuner/advanced-trainer",
                created_at=1_750_000_000.0, hardware="gpu-l40s", inputs=_TRAINER_INPUTS,
                output={"type": "string", "title": "Output"},
            ),
        ),
    ),
    Model(
        owner="replicate",
        name="hello-world",
        description="Says hello.",
        official=True,
        versions=(
            Version(
                id=version_id("replicate/hello-world"), model="replicate/hello-world", created_at=1_700_000_000.0,
                hardware="cpu", inputs=MappingProxyType({"text": _input("string", 0, "Text")}), required=("text",),
                output={"type": "string", "title": "Output"},
            ),
        ),
    ),
)  # fmt: skip
"""What is there unless other models are given."""


def cog_model(name: str, folder: Path, *, hardware: str = "gpu-l40s", created_at: float = 1_760_000_000.0) -> Model:
    """A model with one version, as the schema in its folder has it.

    Args:
        name: `owner/name`.
        folder: of a Cog model, with `COG_SCHEMA` in it.
        hardware: the sku that it runs on.
        created_at: of the version, in Unix seconds.

    Raises:
        OSError: there is no schema.
        ValueError: it is none.
    """
    text = (folder / COG_SCHEMA).read_text("utf-8")
    try:
        schemas = json.loads(text)["components"]["schemas"]
        given = schemas["Input"]
        inputs = {key: _resolved(one, schemas) for key, one in given.get("properties", {}).items()}
        output = _resolved(schemas["Output"], schemas)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / COG_SCHEMA} is no schema of a Cog model: {error!r}") from error
    version = Version(
        id=version_id(name + text), model=name, created_at=created_at, hardware=hardware, inputs=inputs,
        required=tuple(given.get("required", ())), output=output,
    )  # fmt: skip
    owner, _, short = name.partition("/")
    return Model(owner=owner, name=short, versions=(version,), visibility="private")


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """With the members of what it refers to: a choice of values is a schema of its own."""
    found = dict(schema)
    for part in (*found.pop("allOf", ()), *([{"$ref": found.pop("$ref")}] if "$ref" in found else [])):
        found = {**schemas.get(str(part.get("$ref", "")).rpartition("/")[2], part), **found}
    return found


class Catalogue:
    """Models, deployments and hardware by their names.

    Args:
        models: all of them.
        deployments: `owner/name` of each, with the `owner/name` of the model whose newest version it runs.
        hardware: what their versions may name.
    """

    def __init__(
        self, models: Iterable[Model], deployments: Mapping[str, str], hardware: Iterable[Hardware] = HARDWARE
    ) -> None:
        self.models = {model.id: model for model in models}
        self.deployments = dict(deployments)
        self.hardware = {one.sku: one for one in hardware}

    def model(self, owner: str, name: str) -> Model:
        """By its name.

        Raises:
            Refusal: 404, there is none.
        """
        found = self.models.get(f"{owner}/{name}")
        if found is None:
            raise Refusal(404, "The requested resource could not be found.", "Not found")
        return found

    def version(self, owner: str, name: str, version: str) -> Version:
        """Of a model, by its id.

        Raises:
            Refusal: 404, there is none.
        """
        for one in self.model(owner, name).versions:
            if one.id == version:
                return one
        raise Refusal(404, "The requested resource could not be found.", "Not found")

    def official(self, owner: str, name: str) -> Version:
        """The version that an official model runs.

        Raises:
            Refusal: 404, there is no such model, or it is not an official one.
        """
        model = self.model(owner, name)
        if not model.official:
            raise Refusal(404, "The requested resource could not be found.", "Not found")
        return model.versions[0]

    def deployed(self, owner: str, name: str) -> Version:
        """The version that a deployment runs.

        Raises:
            Refusal: 404, there is no such deployment.
        """
        model_id = self.deployments.get(f"{owner}/{name}")
        if model_id is None:
            raise Refusal(404, "The requested resource could not be found.", "Not found")
        return self.models[model_id].versions[0]

    def named(self, text: Any) -> tuple[Version, bool]:
        """What `version` of a create names: an id, `owner/name:id`, or `owner/name` of an official model.

        Returns:
            The version, and whether its id stays hidden.

        Raises:
            Refusal: 422, it names none.
        """
        if not isinstance(text, str):
            raise Refusal(422, "- version is required", "Input validation failed")
        model_id, _, wanted = text.rpartition(":") if ":" in text else ("", "", text)
        if _VERSION_ID.fullmatch(wanted):
            for model in self.models.values():
                for version in model.versions:
                    if version.id == wanted and model_id in {"", model.id}:
                        return version, False
        elif not model_id and (found := self.models.get(wanted)) is not None and found.official:
            return found.versions[0], True
        detail = "The specified version does not exist (or perhaps you don't have permission to use it?)"
        raise Refusal(422, detail, _INVALID_VERSION)
