"""What a request asks to be trained, as the trainer of its target reads it: ours is strict, another one judges by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from simpletuner_lab.core.canonical import JsonObject
from simpletuner_lab.core.cost import Rate
from simpletuner_lab.core.data_sets import ARCHIVE, HERE, place_of, plain_keys, type_of
from simpletuner_lab.core.errors import InvalidConfig, InvalidDataset, Problem
from simpletuner_lab.core.gates import gate_note
from simpletuner_lab.core.manifest import DatasetManifest, Manifest
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.core.provider import Target
from simpletuner_lab.core.redact import find_references
from simpletuner_trainer import spec

LISTED: Final = 3
"""So many of what is named in one sentence."""

_NAME_LENGTH: Final = 64

_WORDS: Final = ("caption_strategy", "instance_prompt", "only_instance_prompt")
"""What says of a data set which files hold its captions."""

_ANY_CONFIG: Final = {"pretrained_model_name_or_path": spec.BUILTIN_TINY, "max_train_steps": 1}
"""Stands in where only the data sets are asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What the lab has to know of it."""

    config: JsonObject
    """As it was asked for, its keys without dashes."""
    known: spec.TrainSpec | None
    """As our trainer reads it; None where it refuses it, and another one is to run."""
    datasets: tuple[spec.DatasetConfig, ...]
    """Those of this machine."""
    elsewhere: tuple[str, ...] = ()
    """The others, each by its id and type."""
    notes: tuple[str, ...] = ()
    """Sentences for the plan."""

    @property
    def name(self) -> str:
        """What a job of it is called where nobody says."""
        ids = [dataset.id for dataset in self.datasets] or list(self.elsewhere)
        name = self.config.get("tracker_run_name")
        return name if isinstance(name, str) and name and name.isprintable() else "-".join(ids)[:_NAME_LENGTH]


def training_of(request: SubmitRequest, target: Target, *, trains_here: bool) -> Training:
    """Checks a request as far as its target is known; a base that lies here included.

    Raises:
        InvalidConfig: our trainer refuses it, or the target cannot have the data.
        InvalidDataset: there is none, or its path is relative.
    """
    if target.ours:
        return _for_ours(request, target, trains_here=trains_here)
    return _for_another(request, target)


def data_of(dataloader: Sequence[JsonObject]) -> tuple[spec.DatasetConfig, ...]:
    """The data sets of this machine, whatever is trained on them.

    Raises:
        InvalidConfig, InvalidDataset: as `training_of`.
    """
    try:
        return _whole_paths(spec.parse(_ANY_CONFIG, dataloader).datasets)
    except spec.SpecError as error:
        raise _refused(error.problems) from error


def sent(entry: JsonObject) -> JsonObject:
    """A dataloader entry as it travels: the trainer finds a data set of this machine under its id where it unpacks."""
    if place_of(entry) not in {ARCHIVE, None}:
        return entry
    named = plain_keys(entry)
    return {
        key: named.get("id", "") if key.removeprefix("--") == "instance_data_dir" else value
        for key, value in entry.items()
    }


def require_runnable(training: Training, manifest: Manifest, rate: Rate) -> None:
    """What our trainer would refuse once it sees images and hardware; better before anything is agreed to than after.

    Raises:
        InvalidDataset: an image has no words.
        InvalidConfig: it is to compute in fp16 on a CPU.
    """
    _require_captions(training, manifest)
    _require_precision(training, rate)


def _require_captions(training: Training, manifest: Manifest) -> None:
    prompted = {dataset.id for dataset in training.datasets if dataset.instance_prompt}
    problems = [
        Problem(
            path=f"dataloader.{dataset.id}",
            message=f"{len(dataset.captions_missing)} of {dataset.images} images have no caption "
            f"({', '.join(_with_reason(name, dataset) for name in dataset.captions_missing[:LISTED])})",
            hint="write a .txt beside each, or give the data set an instance_prompt",
        )
        for dataset in manifest.datasets
        if dataset.captions_missing and dataset.id not in prompted
    ]
    if problems:
        raise InvalidDataset(f"{problems[0].path}: {problems[0].message}", problems=problems, hint=problems[0].hint)


def _require_precision(training: Training, rate: Rate) -> None:
    if training.known is not None and training.known.config.mixed_precision == "fp16" and rate.hardware == "cpu":
        hint = "set it to no or bf16, or choose hardware with a GPU"
        message = f"fp16 needs a CUDA device, and this is {rate.label}"
        raise _refused([spec.Problem("config.mixed_precision", message, hint)])


# ------------------------------------------------------------ our trainer


def _for_ours(request: SubmitRequest, target: Target, *, trains_here: bool) -> Training:
    away = list(_unreachable(request.dataloader, target))
    try:
        train = spec.parse(request.config, request.dataloader)
    except spec.SpecError as error:
        entries = tuple(problem.path.removesuffix("type") for problem in away)
        raise _refused([*away, *(p for p in error.problems if not p.path.startswith(entries))]) from error
    if wrong := spec.base_problems(train.config, trains_here=trains_here):
        raise _refused(wrong)
    return Training(
        config=plain_keys(request.config),
        known=train,
        datasets=_whole_paths(train.datasets),
        notes=_gate_notes(request),
    )


# ------------------------------------------------------------ another one


def _for_another(request: SubmitRequest, target: Target) -> Training:
    problems = list(_unfit(request, target))
    if problems:
        raise _refused(problems)
    local = [index for index, entry in enumerate(request.dataloader) if place_of(entry) == ARCHIVE]
    away = [index for index, entry in enumerate(request.dataloader) if place_of(entry) not in {ARCHIVE, None}]
    if not local and not away:
        raise InvalidDataset("there is no data set", hint="add one to the dataloader")
    if local and away and not target.mixes:
        raise _refused([_mixed(target)])
    elsewhere = tuple(_shown(request.dataloader[index]) for index in away)
    known, refused = _as_ours(request)
    strange = [problem for problem in refused if not problem.path.startswith(tuple(f"dataloader[{i}]" for i in away))]
    return Training(
        config=plain_keys(request.config),
        known=known,
        datasets=_whole_paths([_local(request.dataloader[index], index) for index in local]),
        elsewhere=elsewhere,
        notes=(
            *_gate_notes(request),
            *_away_notes(target, elsewhere, alone=not local),
            *_strange_notes(target, strange),
        ),
    )


def _unfit(request: SubmitRequest, target: Target) -> Iterator[spec.Problem]:
    for index, entry in enumerate(request.dataloader):
        if not isinstance(entry, Mapping):
            yield spec.Problem(f"dataloader[{index}]", "is not an object")
            return
    yield from _unreachable(request.dataloader, target)
    for path in find_references({"config": request.config, "dataloader": list(request.dataloader)}):
        yield spec.Problem(path, f"is a reference, which {target.label} does not read", "leave it out")


def _unreachable(dataloader: Sequence[JsonObject], target: Target) -> Iterator[spec.Problem]:
    """Data sets that the target cannot have."""
    for index, entry in enumerate(dataloader):
        place = place_of(entry) if isinstance(entry, Mapping) else None
        if place is None or place == ARCHIVE or place in target.inputs:
            continue
        message = f"is {type_of(entry)[:60]!r}, and {target.label} cannot have data from there"
        others = "" if target.inputs <= {ARCHIVE} else ", or one that lies where the target can read it"
        yield spec.Problem(f"dataloader[{index}].type", message, f"make it a data set of type {HERE}{others}")


def _mixed(target: Target) -> spec.Problem:
    message = f"local data sets and data sets elsewhere cannot be mixed in one run of {target.label}"
    return spec.Problem("dataloader", message, "put all of them in one place, or choose another target")


def _as_ours(request: SubmitRequest) -> tuple[spec.TrainSpec | None, Sequence[spec.Problem]]:
    try:
        train = spec.parse(request.config, request.dataloader)
    except spec.SpecError as error:
        return None, error.problems
    return train, spec.base_problems(train.config, trains_here=False)


def _local(entry: JsonObject, index: int) -> spec.DatasetConfig:
    """What packing has to know of a data set; of its captions only what our trainer would understand as well."""
    named = plain_keys(entry)
    needed: dict[str, object] = {key: named[key] for key in ("id", "instance_data_dir") if key in named}
    words = {key: named[key] for key in _WORDS if key in named}
    try:
        return spec.parse(_ANY_CONFIG, [needed | words]).datasets[0]
    except spec.SpecError:
        pass
    try:
        return spec.parse(_ANY_CONFIG, [needed]).datasets[0]
    except spec.SpecError as error:
        at = f"dataloader[{index}]"
        found = [spec.Problem(p.path.replace("dataloader[0]", at, 1), p.message, p.hint) for p in error.problems]
        raise _refused(found) from error


def _away_notes(target: Target, elsewhere: Sequence[str], *, alone: bool) -> Iterator[str]:
    if not elsewhere:
        return
    if alone:
        yield f"no file leaves this machine: {target.label} reads the data where they lie ({_some(elsewhere)})"
    else:
        yield f"{target.label} reads {_some(elsewhere)} where they lie"


def _strange_notes(target: Target, problems: Sequence[spec.Problem]) -> Iterator[str]:
    if problems:
        names = list(dict.fromkeys(_printable(problem.path.removeprefix("config.")) for problem in problems))
        yield f"our trainer does not take {_some(names)}: whether {target.label} does is not checked"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _shown(entry: JsonObject) -> str:
    named = plain_keys(entry)
    what = named.get("id") or named.get("dataset_name") or named.get("aws_bucket_name") or ""
    return f"{_printable(str(what))} ({type_of(entry)})".strip()


def _printable(text: str) -> str:
    shown = text if text.isprintable() else repr(text)
    return shown[:_NAME_LENGTH]


# ------------------------------------------------------------ both


def _gate_notes(request: SubmitRequest) -> tuple[str, ...]:
    base = plain_keys(request.config).get("pretrained_model_name_or_path")
    return tuple(filter(None, (gate_note(base) if isinstance(base, str) else "",)))


def _whole_paths(datasets: Sequence[spec.DatasetConfig]) -> tuple[spec.DatasetConfig, ...]:
    problems = [
        Problem(
            path=f"dataloader.{dataset.id}.instance_data_dir",
            message=f"{dataset.instance_data_dir} is a relative path",
            hint="give the whole path; a notebook server cannot know your folder",
        )
        for dataset in datasets
        if not Path(dataset.instance_data_dir).expanduser().is_absolute()
    ]
    if problems:
        raise InvalidDataset(problems[0].message, problems=problems, hint=problems[0].hint)
    return tuple(datasets)


def _with_reason(image: str, dataset: DatasetManifest) -> str:
    """An image without words, and why its caption stays here if there is one."""
    caption = str(PurePosixPath(image).with_suffix(spec.CAPTION_SUFFIX))
    kept = next((entry.reason for entry in dataset.withheld if entry.name == caption), "")
    return f"{image}: its caption stays here, {kept}" if kept else image


def _refused(problems: Sequence[spec.Problem]) -> InvalidConfig:
    found = [Problem(path=p.path, message=p.message, hint=p.hint) for p in problems]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return InvalidConfig(f"{found[0].path}: {found[0].message}{more}", problems=found, hint=found[0].hint)
