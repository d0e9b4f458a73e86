"""The lines a trainer prints and the lab reads: progress that rides in any provider's log.

A report line is ``::st NONCE {json}``. The nonce is drawn per job and travels in the spec, so a caption or a file
name that looks like a report cannot forge one. Pure standard library: the lab's core imports this module and
`simpletuner_trainer.spec`, nothing else of the trainer. Format: docs/trainer-protocol.md.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

PREFIX: Final = "::st"
"""First word of every report line."""

MAX_LINE_BYTES: Final = 256 * 1024
"""A longer line is never a report: a reader may drop it unparsed."""


class Exit(enum.IntEnum):
    """How the trainer's process ended (docs/trainer-protocol.md, exit codes)."""

    DONE = 0
    CRASHED = 1
    BAD_SPEC = 2
    BAD_DATA = 3
    INTERRUPTED = 75
    DEADLINE = 76
    UNDELIVERED = 77
    PREEMPTED = 78
    UNREACHABLE = 79

    @property
    def resumable(self) -> bool:
        """Whether starting again with the same work folder goes on from where this run stopped."""
        return self in (Exit.INTERRUPTED, Exit.DEADLINE, Exit.UNDELIVERED, Exit.PREEMPTED, Exit.UNREACHABLE)


class StageName(enum.StrEnum):
    """What the trainer is busy with, in the order a run meets them."""

    UNPACK = "unpack"
    LOAD_DATA = "load_data"
    LOAD_BASE = "load_base"
    CACHE = "cache"
    TRAIN = "train"
    VALIDATE = "validate"
    SAVE = "save"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A new stage, or progress within one (`done` of `total` items; total 0 when it is not countable)."""

    stage: StageName
    label: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Training goes on after `step`; points reported beyond it by an earlier attempt are void."""

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Optimiser steps since the last such line: equally long arrays, one entry a step."""

    step: tuple[int, ...]
    loss: tuple[float, ...]
    lr: tuple[float, ...]
    grad_norm: tuple[float, ...]
    total: int
    epoch: float
    step_s: float
    """Seconds a step over the last window."""
    images_per_s: float
    eta_s: float
    memory_mb: float = 0.0
    """Peak memory: of the device on CUDA, resident set of the process on CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint: on disk, and at the destination when `delivered`."""

    step: int
    key: str
    bytes: int
    sha256: str
    """Of the checkpoint's manifest.json."""
    delivered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A validation image, at `key` under the destination's prefix."""

    step: int
    index: int
    prompt: str
    key: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The trained model and everything with it are at the destination; `sha256` is of manifest.json."""

    key: str
    files: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why the run ends badly: a stable code, one sentence, and what to do."""

    code: str
    message: str
    hint: str = ""
    step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The last line of a run that ended by itself."""

    exit: Exit
    step: int


Report: TypeAlias = Stage | Resume | Steps | Checkpoint | Image | Result | Failure | End

_KINDS: Final[dict[str, type[Any]]] = {
    "stage": Stage,
    "resume": Resume,
    "steps": Steps,
    "checkpoint": Checkpoint,
    "image": Image,
    "result": Result,
    "error": Failure,
    "end": End,
}
_NAMES: Final = {cls: name for name, cls in _KINDS.items()}


def format_line(report: Report, *, nonce: str) -> str:
    """One line, without its newline. Numbers that are not finite are written as null and read back as NaN."""
    body = {"kind": _NAMES[type(report)], **_finite(dataclasses.asdict(report))}
    return f"{PREFIX} {nonce} {json.dumps(body, ensure_ascii=False, separators=(',', ':'), allow_nan=False)}"


def parse_line(line: str, *, nonce: str) -> Report | None:
    """The report on this line, or None where the line is ordinary text (or a forged or damaged report)."""
    head = f"{PREFIX} {nonce} "
    if not nonce or not line.startswith(head) or len(line) > MAX_LINE_BYTES:
        return None
    try:
        body = json.loads(line[len(head) :])
        return _build(_KINDS[body.pop("kind")], body)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _build(cls: type[Any], body: dict[str, Any]) -> Report:
    """Strict where it matters (kinds and types), tolerant of members that a newer trainer adds."""
    values = {}
    for field in dataclasses.fields(cls):
        if field.name in body:
            values[field.name] = _DECODERS[str(field.type)](body[field.name])
    report: Report = cls(**values)
    if (
        isinstance(report, Steps)
        and len({len(report.step), len(report.loss), len(report.lr), len(report.grad_norm)}) != 1
    ):
        raise ValueError("arrays of unequal length")
    return report


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("not an integer")
    return value


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    return float(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not a boolean")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "int": _integer,
    "int | None": lambda value: None if value is None else _integer(value),
    "float": _number,
    "bool": _boolean,
    "str": _string,
    "tuple[int, ...]": lambda value: tuple(map(_integer, value)),
    "tuple[float, ...]": lambda value: tuple(map(_number, value)),
    "StageName": StageName,
    "Exit": Exit,
}
"""By a field's annotation."""
