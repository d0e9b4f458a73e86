"""A session with the real client 2.0, in an environment of its own: prints what it has seen as JSON.

    .venv-replicate2/bin/python replicate2_session.py URL TOKEN ACTION

The client checks every answer against its own models.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import replicate
from replicate import Replicate

TRAINER = ("simpletuner", "advanced-trainer")


def tour(client: Replicate) -> dict[str, Any]:
    """Each route that the client knows and the emulator has."""
    owner, name = TRAINER
    version = client.models.get(model_owner=owner, model_name=name).latest_version.id
    versions = [one.id for one in client.models.versions.list(model_owner=owner, model_name=name).results]
    file = client.files.create(content=("ds.zip", b"data", "application/zip"), metadata={"job": "1"})
    inputs = {"images": file.urls.get, "hf_token": "hf_x"}
    made = [
        client.predictions.create(version=version, input=inputs, cancel_after="2h30m"),
        client.predictions.create(version=version, input=inputs, prefer="wait=60"),
        client.models.predictions.create(model_owner="replicate", model_name="hello-world", input={"text": "a"}),
        client.deployments.predictions.create(deployment_owner="ann", deployment_name="trainer", input={}),
    ]
    cancelled = client.predictions.cancel(prediction_id=made[3].id)
    training = client.trainings.create(
        model_owner=owner, model_name=name, version_id=version, input={}, destination="replicate/hello-world"
    )
    listed = [one.id for one in client.predictions.list()]
    told = {
        "account": client.account.get().username,
        "hardware": [one.sku for one in client.hardware.list()],
        "versions": [version, *versions],
        "file": [file.metadata, file.size, client.files.get(file_id=file.id).id == file.id],
        "files": len(client.files.list().results),
        "waited": [made[1].status, made[1].output],
        "deadline": made[0].deadline is not None,
        "hidden": made[2].version,
        "cancelled": [cancelled.status, client.predictions.get(prediction_id=made[3].id).status],
        "training": [
            client.trainings.get(training_id=training.id).id == training.id,
            len(list(client.trainings.list())),
        ],
        "listed": listed == [one.id for one in reversed(made)],
        "secret": client.webhooks.default.secret.get().key,
    }
    client.files.delete(file_id=file.id)
    return told


def errors(client: Replicate) -> dict[str, Any]:
    """What the client raises; it tries nothing again."""
    once = client.with_options(max_retries=0)
    asked: dict[str, Callable[[], object]] = {
        "unknown": lambda: once.predictions.get(prediction_id="nothing"),
        "invalid": lambda: once.predictions.create(version="0" * 64, input={}),
        "deadline": lambda: once.predictions.create(
            version="replicate/hello-world", input={"text": "a"}, cancel_after="1s"
        ),
        "nobody": once.with_options(bearer_token="r8_nobody").account.get,
    }
    told = {}
    for name, ask in asked.items():
        try:
            ask()
        except replicate.APIStatusError as error:
            told[name] = [type(error).__name__, error.status_code]
    return told


def lost(client: Replicate) -> dict[str, Any]:
    """A create whose answer is lost: the client sends it again by itself, unless it is told to send it once."""
    made = client.predictions.create(version="replicate/hello-world", input={"text": "a"})
    try:
        client.with_options(max_retries=0).predictions.create(version="replicate/hello-world", input={"text": "a"})
    except replicate.APIConnectionError as error:
        return {"id": made.id, "raised": type(error).__name__}
    return {"id": made.id}


def main(url: str, token: str, action: str) -> None:
    """Prints one object."""
    client = Replicate(base_url=f"{url}/v1", bearer_token=token, _strict_response_validation=True)
    actions = {"tour": lambda client: {**tour(client), "errors": errors(client)}, "lost": lost}
    print(json.dumps({"version": replicate.__version__, **actions[action](client)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
