"""What a person writes down for a job, as a request: a config or its file, and data sets or the folders they lie in."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from simpletuner_lab.core.canonical import require_finite
from simpletuner_lab.core.destination import HOME, Destination, HubDestination, S3Destination, Sender
from simpletuner_lab.core.errors import InvalidDataset, InvalidRequest
from simpletuner_lab.core.job_queue import DEFAULT_PRIORITY, priority_of
from simpletuner_lab.core.plan import DEFAULT_PROVIDER, SubmitRequest
from simpletuner_lab.services.codec import decode

Config: TypeAlias = Mapping[str, Any] | str | os.PathLike[str] | SubmitRequest | None
"""A config itself, or the path of a config.json. None has no keys: a plan says which are needed.

A request that was made before, such as a job's draft, stands as it is but for what is said beside it.
"""

Data: TypeAlias = "Entry | Sequence[Entry] | None"
"""One data set or several. None: those that the config names."""

Where: TypeAlias = Mapping[str, Any] | str | None
"""A destination in short (`hub:ann/neon`), or as a mapping with a `kind`. None: nothing is said."""

Entry: TypeAlias = Mapping[str, Any] | str | os.PathLike[str]
"""A data set, a folder of images, or the path of a dataloader JSON."""

_DATA_KEYS: Final = ("data_backend_config", "--data_backend_config", "dataloader", "--dataloader")
"""Under which a config names its data sets; a plan gets them apart from it."""

_FOLDER_KEY: Final = "instance_data_dir"
_ID_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class _Made:
    """A data set made of a folder: its id is ours to choose."""

    folder: Path

    @property
    def id(self) -> str:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.folder.resolve().name)
        return name.strip("._-")[:_ID_LENGTH] or "data"


def request_of(
    config: Config,
    data: Data = None,
    *,
    provider: str = "",
    target: str = "",
    hardware: str = "",
    name: str = "",
    destination: Destination | None = None,
    priority: int | str = DEFAULT_PRIORITY,
    strip_exif: bool = False,
) -> SubmitRequest:
    """A request whose data set folders are absolute, ready for a plan.

    A relative folder counts from the file that names it, else from the working directory. A folder of images becomes
    a data set under the folder's name, with captions in text files beside the images. `data` wins over what the config
    names under `data_backend_config` (a path, a list of data sets, or a folder). A job without a name is called as its
    config file.

    Raises:
        InvalidRequest: config or dataloader cannot be read, is not JSON, or is of another form.
        InvalidDataset: a folder is not there.
    """
    if isinstance(config, SubmitRequest):
        return dataclasses.replace(
            config,
            dataloader=config.dataloader if data is None else tuple(_with_ids(list(_entries(data, Path.cwd())))),
            provider=provider or config.provider,
            target=target or config.target,
            hardware=hardware or config.hardware,
            name=name or config.name,
            destination=destination or config.destination,
            priority=config.priority if priority == DEFAULT_PRIORITY else priority_of(priority),
            strip_exif=strip_exif or config.strip_exif,
        )
    train, base, stem = _read_config(config)
    named = [value for value in (train.pop(key, None) for key in _DATA_KEYS) if value is not None]
    if data is not None:
        entries = list(_entries(data, Path.cwd()))
    elif named:
        entries = list(_entries(named[0], base))
    else:
        raise InvalidRequest(
            "no dataloader: the config names no data sets", hint="give a folder of images, or data_backend_config"
        )
    return SubmitRequest(
        config=train,
        dataloader=tuple(_with_ids(entries)),
        provider=provider or DEFAULT_PROVIDER,
        target=target,
        hardware=hardware,
        name=name or stem,
        destination=destination,
        priority=priority_of(priority),
        strip_exif=strip_exif,
    )


def where(told: Where) -> Destination | None:
    """The destination that a person wrote down; its values are checked by a plan.

    Raises:
        InvalidRequest: it is none.
    """
    if told is None:
        return None
    if isinstance(told, str):
        return destination_of(told)
    kind: Any = Destination
    found: Destination = decode(kind, _as_json(told, "the destination"), what="destination")
    return found


def destination_of(
    text: str,
    *,
    endpoint_url: str = "",
    region: str = "",
    public: bool = False,
    checkpoints: bool = False,
    by_trainer: bool = False,
) -> Destination:
    """`home`, `hub:OWNER/NAME` or `s3://BUCKET/PREFIX`, with what is told beside it. Its values are checked by a plan.

    Raises:
        InvalidRequest: it is none of these, or something told beside it has no meaning there.
    """
    sender = Sender.TRAINER if by_trainer else Sender.LAB
    s3_alone = [name for name, given in (("--endpoint-url", endpoint_url), ("--region", region)) if given]
    beside = [("--checkpoints", checkpoints), ("--by-trainer", by_trainer), ("--public", public)]
    if text == "home":
        _require_none(text, [*s3_alone, *(name for name, given in beside if given)])
        return HOME
    if text.startswith("hub:"):
        _require_none(text, s3_alone)
        repo_id = text.removeprefix("hub:")
        return HubDestination(repo_id=repo_id, private=not public, checkpoints=checkpoints, sender=sender)
    if text.startswith("s3://"):
        _require_none(text, ["--public"] if public else [])
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        return S3Destination(
            bucket=bucket,
            prefix=f"{prefix}/" if prefix and not prefix.endswith("/") else prefix,
            endpoint_url=endpoint_url,
            region=region or "us-east-1",
            checkpoints=checkpoints,
            sender=sender,
        )
    raise InvalidRequest(f"{text!r} is no destination", hint="home, hub:OWNER/NAME or s3://BUCKET/PREFIX")


def _require_none(text: str, names: Sequence[str]) -> None:
    if names:
        raise InvalidRequest(f"{' and '.join(names)} has no meaning for {text}", hint="leave it out")


def _read_config(config: Config) -> tuple[dict[str, Any], Path, str]:
    """The config, the folder that its relative paths count from, and what a job of it is called."""
    if isinstance(config, str | os.PathLike):
        path = _expanded(config)
        read = _read_json(path)
        if not isinstance(read, dict):
            raise InvalidRequest(f"{path} must hold a JSON object")
        return _unwrapped(read), path.absolute().parent, path.stem
    if config is not None and not isinstance(config, Mapping):
        raise InvalidRequest(f"a config is a mapping or the path of a config.json, not {type(config).__name__}")
    return _as_json(config or {}, "the config"), Path.cwd(), ""


def _unwrapped(read: dict[str, Any]) -> dict[str, Any]:
    """The config of a result's own config.json, or of a spec, which has its data sets beside it."""
    if not isinstance(read.get("config"), dict) or "dataloader" not in read:
        return read
    return {**read["config"], "dataloader": read["dataloader"]}


def _entries(data: object, base: Path) -> Iterator[dict[str, Any] | _Made]:
    if isinstance(data, Mapping):
        yield _absolute(_as_json(data, "a data set"), base)
    elif isinstance(data, str | os.PathLike):
        yield from _at(base / _expanded(data))
    elif isinstance(data, Sequence):
        for entry in data:
            if not isinstance(entry, Mapping | str | os.PathLike):
                raise InvalidRequest(f"a data set is a mapping or a path, not {type(entry).__name__}")
            yield from _entries(entry, base)
    else:
        raise InvalidRequest(f"data sets are paths, mappings or a list of those, not {type(data).__name__}")


def _at(path: Path) -> Iterator[dict[str, Any] | _Made]:
    """The data set that a folder holds, or those that a dataloader lists."""
    if path.is_dir():
        yield _Made(path)
        return
    if not path.exists():
        raise InvalidDataset(f"{path} does not exist", hint="name a folder of images, or a dataloader JSON")
    listed = _read_json(path)
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise InvalidRequest(f"{path} must hold a JSON list of data sets")
    yield from (_absolute(entry, path.absolute().parent) for entry in listed)


def _absolute(entry: dict[str, Any], base: Path) -> dict[str, Any]:
    return {
        key: str(base / _expanded(value))
        if key.removeprefix("--") == _FOLDER_KEY and isinstance(value, str) and value
        else value
        for key, value in entry.items()
    }


def _expanded(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InvalidRequest(f"{path} cannot be found: {error}", hint="write the path out") from error


def _with_ids(entries: Sequence[dict[str, Any] | _Made]) -> Iterator[dict[str, Any]]:
    """The data sets, each of a folder under an id that no other has. Ids that a person chose stay as they are."""
    taken = {str(entry.get("id", entry.get("--id"))).casefold() for entry in entries if isinstance(entry, dict)}
    for entry in entries:
        if isinstance(entry, dict):
            yield entry
            continue
        chosen = next(found for found in _candidates(entry.id) if found.casefold() not in taken)
        taken.add(chosen.casefold())
        yield {"id": chosen, "type": "local", _FOLDER_KEY: str(entry.folder.absolute()), "caption_strategy": "textfile"}


def _candidates(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        suffix = f"-{number}"
        yield name[: _ID_LENGTH - len(suffix)] + suffix
        number += 1


def _read_json(path: Path) -> Any:
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} is not JSON: {error}") from error
    require_finite(found, path.name)
    return found


def _as_json(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """A copy in JSON's own types: paths become text, tuples lists."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(value), default=os.fspath))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what} holds what JSON cannot: {error}") from error
    require_finite(copy, what)
    return copy
