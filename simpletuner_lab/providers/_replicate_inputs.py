"""What a prediction of each target is given: pure functions of an order and the address of its data."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Final

from simpletuner_lab.core.canonical import canonical_json
from simpletuner_lab.core.data_sets import ARCHIVE, place_of
from simpletuner_lab.core.destination import ACCESS_KEY, SECRET_KEY, FolderDelivery, HubDelivery, S3Delivery
from simpletuner_lab.core.errors import ProviderFailure
from simpletuner_lab.core.provider import RunTag, StartOrder, Target
from simpletuner_lab.providers._child import spec_document

COG: Final = "cog"
SIMPLETUNER: Final = "simpletuner"

DATA_INPUTS: Final[Mapping[str, str]] = {COG: "data", SIMPLETUNER: "images"}
"""The input that has the address of the data, by target."""

_SHORTEST_LIFE_S: Final = 5
_SLACK_S: Final = 300.0
"""`Cancel-After` counts from the create: time to wait for a machine, to set up, and for the trainer's last upload."""

SESSION_TOKEN: Final = "SIMPLETUNER_S3_SESSION_TOKEN"  # noqa: S105 - the name of a variable
"""Beside `destination.ACCESS_KEY` and `SECRET_KEY`, the names of S3 keys that our image takes."""

SIMPLETUNER_LACKS: Final = (
    "the published model makes a dataloader of its own for packed data: caption strategies, repeats and crops do not reach it",
    "several packed data sets become one there",
    "results of the published model have no manifest with checksums: that they arrived whole cannot be checked",
)


def cog_target(version: str, lacks: tuple[str, ...]) -> Target:
    """Our own image."""
    return Target(id=COG, label="Our trainer, your image", version=version, live_metrics=True, resume=True, lacks=lacks)


def simpletuner_target(model: str, version: str, lacks: tuple[str, ...]) -> Target:
    """The published model."""
    return Target(
        id=SIMPLETUNER, label=model, version=version, live_metrics=False, resume=False, manifest=False, ours=False,
        inputs=frozenset({"archive", "hub", "s3"}), lacks=(*SIMPLETUNER_LACKS, *lacks),
    )  # fmt: skip


def tag_text(tag: RunTag) -> str:
    """How a run is told apart in its input."""
    return f"{tag.job_id}/{tag.attempt}"


def read_tag(text: object) -> RunTag | None:
    """The tag in an input; None where there is none."""
    job_id, _, attempt = text.rpartition("/") if isinstance(text, str) else ("", "", "")
    if not job_id or not (attempt.isascii() and attempt.isdigit()):
        return None
    return RunTag(job_id=job_id, attempt=int(attempt))


def inputs(order: StartOrder, data_url: str) -> dict[str, Any]:
    """The `input` of the create, secrets included.

    Raises:
        ProviderFailure: the target cannot run this order.
    """
    if isinstance(order.delivery, FolderDelivery):
        raise ProviderFailure(
            "results of a run at Replicate cannot go to a folder of this machine",
            hint="set a public URL, or choose the Hub or a bucket as the destination",
        )
    made = _cog(order, data_url) if order.target == COG else _simpletuner(order, data_url)
    return {**made, "tag": tag_text(order.tag)}


def life_s(deadline_s: float | None, run_limit_s: float, limit_s: float | None = None) -> int:
    """`Cancel-After` in seconds: a little after the deadline that the trainer keeps, never past what a run may take.

    `limit_s`: nor past what is paid for.
    """
    wanted = run_limit_s if deadline_s is None else min(run_limit_s, deadline_s + _SLACK_S)
    wanted = wanted if limit_s is None else min(wanted, limit_s)
    return max(_SHORTEST_LIFE_S, math.ceil(wanted))


def _cog(order: StartOrder, data_url: str) -> dict[str, Any]:
    order = _renamed(order)
    made = {**({"data": data_url} if data_url else {}), "spec": canonical_json(spec_document(order)).decode()}
    if order.secrets:
        made["secrets"] = json.dumps({name: secret.reveal() for name, secret in order.secrets.items()})
    return made


def _renamed(order: StartOrder) -> StartOrder:
    """The order with its S3 keys, perhaps the user's own, under the names that our image takes; the spec says them."""
    to = order.delivery
    if not isinstance(to, S3Delivery):
        return order
    names = {to.access_key_env: ACCESS_KEY, to.secret_key_env: SECRET_KEY, to.session_token_env: SESSION_TOKEN}
    delivery = dataclasses.replace(
        to, access_key_env=ACCESS_KEY, secret_key_env=SECRET_KEY,
        session_token_env=SESSION_TOKEN if to.session_token_env else "",
    )  # fmt: skip
    secrets = {names.get(name, name): secret for name, secret in order.secrets.items()}
    return dataclasses.replace(order, delivery=delivery, secrets=secrets)


def _simpletuner(order: StartOrder, data_url: str) -> dict[str, Any]:
    config = {key.removeprefix("--"): value for key, value in order.config.items()}
    steps = config.get("max_train_steps")
    counted = isinstance(steps, int) and not isinstance(steps, bool) and steps > 0
    return {
        **_data(order, data_url),
        "config_json": canonical_json(order.config).decode(),
        **({"max_train_steps": steps} if counted else {}),
        **_delivery(order),
        "return_logs": True,
    }


def _data(order: StartOrder, data_url: str) -> dict[str, Any]:
    """Local data as the archive alone, of which it makes a dataloader itself; data elsewhere by the dataloader alone."""
    places = {place_of(entry) for entry in order.dataloader} - {None}
    if places <= {ARCHIVE}:
        return {"images": data_url}
    if ARCHIVE in places:
        raise ProviderFailure(
            "local data sets and data sets elsewhere cannot be mixed in one run of this target",
            hint="put all of them in one place, or choose the target cog",
        )
    return {"dataloader_json": canonical_json(list(order.dataloader)).decode()}


def _delivery(order: StartOrder) -> dict[str, Any]:
    match order.delivery:
        case S3Delivery() as to:
            if to.session_token_env:
                raise ProviderFailure(
                    "this target has no input for a session token", hint="use keys that last, or the target cog"
                )
            return {
                "s3_bucket": to.bucket,
                "s3_region": to.region,
                "s3_base_path": to.prefix.rstrip("/"),
                **({"s3_endpoint_url": to.endpoint_url} if to.endpoint_url else {}),
                "s3_access_key": _secret(order, to.access_key_env),
                "s3_secret_key": _secret(order, to.secret_key_env),
            }
        case HubDelivery() as to:
            return {"hub_model_id": to.repo_id, "hf_token": _secret(order, to.token_env)}
    raise AssertionError("a folder was refused before")


def _secret(order: StartOrder, name: str) -> str:
    if name not in order.secrets:
        raise ProviderFailure(f"{name} does not travel with this job", hint="make the plan again and agree to it")
    return order.secrets[name].reveal()
