"""SimpleTuner's config keys for publishing, as a destination (reference: its `push_to_hub` and `publishing_config`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.canonical import Json, JsonObject
from simpletuner_lab.core.destination import (
    S3_ACCESS_KEY,
    S3_SECRET_KEY,
    S3_SESSION_TOKEN,
    AwayDestination,
    HubDestination,
    S3Destination,
)
from simpletuner_lab.core.errors import Problem
from simpletuner_lab.core.redact import reference_name

_KEYS: Final = ("push_to_hub", "hub_model_id", "push_checkpoints_to_hub", "push_to_hub_background", "publishing_config")
_S3: Final = frozenset({"s3", "s3-compatible", "backblaze_b2", "b2"})
_OURS: Final = {"access_key": S3_ACCESS_KEY, "secret_key": S3_SECRET_KEY, "session_token": S3_SESSION_TOKEN}
_READ: Final = frozenset({"provider", "bucket", "base_path", "endpoint_url", "region", *_OURS})
_NOTHING: Final = frozenset({"", "none", "null", "false"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """A config without those keys, the destination they ask for (None: they ask for none), and what is wrong."""

    config: JsonObject
    destination: AwayDestination | None
    problems: tuple[Problem, ...]


def translate(config: JsonObject) -> Translated:
    """Takes the keys out of a config. They never reach the trainer; who sends is the lab."""
    found = {key.removeprefix("--"): value for key, value in config.items() if key.removeprefix("--") in _KEYS}
    rest = {key: value for key, value in config.items() if key.removeprefix("--") not in _KEYS}
    wrong: list[Problem] = []
    hub = _hub(found, wrong)
    buckets = [_s3(entry, index, wrong) for index, entry in enumerate(_entries(found, wrong))]
    asked: list[AwayDestination] = [one for one in (hub, *buckets) if one is not None]
    if len(asked) > 1:
        wrong.append(
            Problem(
                path="config.publishing_config" if hub is None else "config.push_to_hub",
                message=f"{len(asked)} destinations are asked for, and a job has one",
                hint="keep one, and push the finished job to the others",
            )
        )
    return Translated(config=rest, destination=asked[0] if asked else None, problems=tuple(wrong))


def _hub(found: Mapping[str, Json], wrong: list[Problem]) -> HubDestination | None:
    wanted, checkpoints = _truth(found, "push_to_hub", wrong), _truth(found, "push_checkpoints_to_hub", wrong)
    if not wanted and not checkpoints:
        return None
    name = found.get("hub_model_id")
    if not isinstance(name, str) or not name:
        wrong.append(
            Problem(path="config.hub_model_id", message="is missing", hint="OWNER/NAME of the repository to push to")
        )
        return None
    return HubDestination(repo_id=name, checkpoints=checkpoints)


def _entries(found: Mapping[str, Json], wrong: list[Problem]) -> Iterator[Mapping[str, Json]]:
    value = found.get("publishing_config")
    if value is None or (isinstance(value, str) and value.lower() in _NOTHING):
        return
    listed = [value] if isinstance(value, Mapping) else value
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        wrong.append(Problem(path="config.publishing_config", message="must be a list", hint="write it out in here"))
        return
    for index, entry in enumerate(listed):
        if isinstance(entry, Mapping):
            yield entry
        else:
            wrong.append(Problem(path=f"config.publishing_config[{index}]", message="must be an object"))


def _s3(entry: Mapping[str, Json], index: int, wrong: list[Problem]) -> S3Destination | None:
    path = f"config.publishing_config[{index}]"
    if entry.get("provider") not in _S3:
        message = f"{str(entry.get('provider'))[:60]!r} is not supported yet"
        wrong.append(Problem(path=f"{path}.provider", message=message, hint=f"supported: {', '.join(sorted(_S3))}"))
        return None
    faults = [
        Problem(path=f"{path}.{key}", message="is not supported yet", hint="leave it out")
        for key in sorted(set(entry) - _READ)
    ]
    faults += [
        Problem(
            path=f"{path}.{key}",
            message="must not be in a config",
            hint=f"keep it in the environment of the lab as {name}",
        )
        for key, name in _OURS.items()
        if entry.get(key) and reference_name(entry[key]) != name
    ]
    texts = {key: entry.get(key) or "" for key in ("bucket", "base_path", "endpoint_url", "region")}
    faults += [
        Problem(path=f"{path}.{key}", message="must be text")
        for key, value in texts.items()
        if not isinstance(value, str)
    ]
    wrong += faults
    if faults:
        return None
    base = str(texts["base_path"]).strip("/")
    return S3Destination(
        bucket=str(texts["bucket"]),
        prefix=f"{base}/" if base else "",
        endpoint_url=str(texts["endpoint_url"]),
        region=str(texts["region"]) or "us-east-1",
    )


def _truth(found: Mapping[str, Json], key: str, wrong: list[Problem]) -> bool:
    value = found.get(key)
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.lower() in _NOTHING | {"true"}:
        return value.lower() == "true"
    wrong.append(Problem(path=f"config.{key}", message="must be true or false"))
    return False
