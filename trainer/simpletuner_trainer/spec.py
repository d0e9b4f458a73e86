"""`spec.json`: everything one attempt of a job needs to know (docs/trainer-protocol.md).

Pure standard library, and the one module through which the lab sees configs, data sets and the constants it shares
with the trainer.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from simpletuner_trainer.base import base_problems
from simpletuner_trainer.config import (
    BUILTIN_TINY,
    RESUME_DESPITE,
    SINGLE_FILE_SUFFIX,
    TrainConfig,
    TrainSpec,
    canonical_config,
    config_hash,
    parse,
)
from simpletuner_trainer.dataloader import (
    CAPTION_SUFFIX,
    IMAGE_SUFFIXES,
    METADATA_NAME,
    DatasetConfig,
    parse_metadata_jsonl,
)
from simpletuner_trainer.fields import (
    Problem,
    SpecError,
    anything,
    boolean,
    choice,
    integer,
    matching,
    number,
    option,
    optional,
    read_options,
    text,
    without_none,
)

__all__ = [
    "BUILTIN_TINY",
    "CAPTION_SUFFIX",
    "IMAGE_SUFFIXES",
    "KOHYA_NAME",
    "MANIFEST_FORMAT",
    "MANIFEST_NAME",
    "METADATA_NAME",
    "RESUME_DESPITE",
    "SINGLE_FILE_SUFFIX",
    "SPEC_FORMAT",
    "DataArchive",
    "DatasetConfig",
    "Destination",
    "FolderDestination",
    "HubDestination",
    "Problem",
    "RunSpec",
    "S3Destination",
    "SpecError",
    "TrainConfig",
    "TrainSpec",
    "base_problems",
    "canonical_config",
    "config_hash",
    "parse",
    "parse_metadata_jsonl",
]

SPEC_FORMAT: Final = "simpletuner-spec/1"
MANIFEST_FORMAT: Final = "simpletuner-manifest/1"
MANIFEST_NAME: Final = "manifest.json"
"""Arrives last: a folder without it is not there yet."""

KOHYA_NAME: Final = "kohya_lora.safetensors"
"""Of a result's LoRA for kohya's sd-scripts and ComfyUI."""

_SHA256: Final = matching(r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")
_ENV_NAME: Final = matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable, never the secret itself")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataArchive:
    """The zip with every local data set, and the bounds that its unpacking keeps to."""

    archive: str = option("", text, required=True)
    sha256: str = option("", _SHA256, required=True)
    files: int = option(0, integer(least=0), required=True)
    bytes: int = option(0, integer(least=0), required=True)
    """Sum of the unpacked sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Destination:
    """A bucket and prefix; credentials are read from the named environment variables when they are needed."""

    kind: str = option("s3", choice("s3"))
    endpoint_url: str | None = option(None, optional(matching(r"https?://[^\x00-\x1f\x7f]+", "an http or https URL")))
    """None: Amazon's own for the region."""
    region: str = option("us-east-1", text)
    bucket: str = option("", matching(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "a bucket name"), required=True)
    prefix: str = option(
        "", optional(matching(r"(?!/)(?!.*//)(?!(.*/)?\.\.?/).*/", "ends with / and has no empty or dotted part"))
    )
    access_key_env: str = option("SIMPLETUNER_S3_ACCESS_KEY", _ENV_NAME)
    secret_key_env: str = option("SIMPLETUNER_S3_SECRET_KEY", _ENV_NAME)
    session_token_env: str | None = option(None, optional(_ENV_NAME))
    checkpoints: bool = option(True, boolean)
    """False: only the result and its samples are delivered; checkpoints stay in the work folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderDestination:
    """The same objects as plain files."""

    kind: str = option("folder", choice("folder"))
    path: str = option("", text, required=True)
    checkpoints: bool = option(True, boolean)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubDestination:
    """A model repository on the Hugging Face Hub; its token is read from the named environment variable."""

    kind: str = option("hub", choice("hub"))
    repo_id: str = option(
        "", matching(r"[A-Za-z0-9._-]{1,96}/[A-Za-z0-9._-]{1,96}", "OWNER/NAME of a repository"), required=True
    )
    private: bool = option(True, boolean)
    checkpoints: bool = option(False, boolean)
    token_env: str = option("HF_TOKEN", _ENV_NAME)


Destination: TypeAlias = S3Destination | FolderDestination | HubDestination


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    """The members of spec.json that are plain values."""

    format: str = option("", choice(SPEC_FORMAT), required=True)
    job_id: str = option("", matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "letters, digits, . _ -"), required=True)
    attempt: int = option(1, integer(least=1))
    nonce: str = option("", matching(r"[A-Za-z0-9]{8,64}", "8 to 64 letters and digits"), required=True)
    work_dir: str = option("", text, required=True)
    config: object = option(None, anything, required=True)
    dataloader: object = option(None, anything, required=True)
    data: object = option(None, anything)
    destination: object = option(None, anything)
    plan_digest: str = option("", optional(text))
    deadline_s: float | None = option(None, optional(number(above=0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """`spec.json`, checked: everything one attempt of a job needs to know."""

    job_id: str
    attempt: int
    nonce: str
    """Of the report lines."""
    work_dir: Path
    base_dir: Path
    """Folder of the spec file; relative data sets are found there when no archive travels."""
    train: TrainSpec
    data: DataArchive | None
    destination: Destination | None
    plan_digest: str
    deadline_s: float | None
    """Seconds from the start of the process."""

    @property
    def data_root(self) -> Path:
        """Where a relative `instance_data_dir` starts."""
        return self.base_dir if self.data is None else self.work_dir / "data"

    @property
    def has_base(self) -> bool:
        """Whether the base is on this disk, so that nothing has to be downloaded."""
        config = self.train.config
        name: str | None = config.pretrained_model_name_or_path
        if name == BUILTIN_TINY:
            return True
        if config.pretrained_model_name_or_path.endswith(SINGLE_FILE_SUFFIX):
            name = config.single_file_config  # the rest of the base
        return name is not None and (self.base_dir / Path(name).expanduser()).is_dir()

    @property
    def begins_anew(self) -> bool:
        """Whether what earlier starts left in the work folder and at the destination does not count."""
        return self.attempt == 1 and self.train.config.resume_from_checkpoint is None

    @classmethod
    def parse(cls, document: Mapping[str, Any], base_dir: Path) -> RunSpec:
        """Check a decoded spec.json; relative paths are taken from `base_dir`. `SpecError` holds every problem."""
        good, problems = read_options(_Envelope, document, "spec")
        data = _parse_part(DataArchive, good.get("data"), "spec.data", problems)
        destination = _parse_destination(good.get("destination"), problems)
        train: TrainSpec | None = None
        if "config" in good and "dataloader" in good:
            try:
                train = parse(good["config"], good["dataloader"])
            except SpecError as error:
                problems += error.problems
        if problems or train is None:
            raise SpecError(problems)
        if data is not None:
            data = dataclasses.replace(data, archive=str(base_dir / data.archive))
        if isinstance(destination, FolderDestination):
            destination = dataclasses.replace(destination, path=str(base_dir / destination.path))
        envelope = _Envelope(**without_none(_Envelope, good))
        return cls(
            job_id=envelope.job_id, attempt=envelope.attempt, nonce=envelope.nonce,
            work_dir=base_dir / envelope.work_dir, base_dir=base_dir, train=train, data=data, destination=destination,
            plan_digest=envelope.plan_digest, deadline_s=envelope.deadline_s,
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> RunSpec:
        """Read and check a spec file; `SpecError` also where it cannot be read or is not JSON."""
        try:
            document = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise SpecError([Problem(str(path), f"cannot be read: {error.strerror}")]) from error
        except ValueError as error:
            raise SpecError([Problem(str(path), f"is not JSON: {error}")]) from error
        return cls.parse(document, path.resolve().parent)


def _parse_part(cls: type[Any], value: object, path: str, problems: list[Problem]) -> Any:
    """`value` as `cls`, or None where it is absent or wrong (then `problems` grows)."""
    if value is None:
        return None
    good, wrong = read_options(cls, value, path)
    problems += wrong
    return None if wrong else cls(**without_none(cls, good))


def _parse_destination(value: object, problems: list[Problem]) -> Destination | None:
    kinds: dict[str, type[Any]] = {"s3": S3Destination, "folder": FolderDestination, "hub": HubDestination}
    if isinstance(value, Mapping) and value.get("kind") not in kinds:
        problems.append(Problem("spec.destination.kind", f"is {value.get('kind')!r}; supported: {', '.join(kinds)}"))
        return None
    kind = kinds[value["kind"]] if isinstance(value, Mapping) else S3Destination
    found: Destination | None = _parse_part(kind, value, "spec.destination", problems)
    return found
