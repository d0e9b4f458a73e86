"""What a spec comes to, without training: every option and where it comes from, the buckets, the steps, what is written.

No torch. The images are looked at (their headers, their captions) as training itself looks at them; that needs Pillow.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from simpletuner_trainer.base import BaseFacts, look_at
from simpletuner_trainer.buckets import Size, aim_of, aspect_pick, bucket_size
from simpletuner_trainer.conflicts import warmup_conflicts
from simpletuner_trainer.errors import missing_package
from simpletuner_trainer.fields import SpecError, options_of
from simpletuner_trainer.spec import KOHYA_NAME, DatasetConfig, FolderDestination, HubDestination, RunSpec, TrainConfig

if TYPE_CHECKING:
    from simpletuner_trainer.data import Inventory

GIVEN: Final = "given"
DEFAULT: Final = "default"
_BASE: Final = "the base's"
_USUAL: Final = "usual for the family"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One option as the run has it."""

    name: str
    value: Any
    """A plain JSON value."""
    source: str
    """`GIVEN`, `DEFAULT`, or what it follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Images of one data set that are trained at one size."""

    width: int
    height: int
    images: int
    """Each once, whatever the repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPlan:
    """One data set."""

    id: str
    settings: tuple[Setting, ...]
    images: int
    captions: int
    repeats: int
    """Times that each image is seen in an epoch."""
    buckets: tuple[Bucket, ...]
    """None where neither base nor config says a size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How long it goes. An epoch is every image as often as its data set repeats it."""

    batches_per_epoch: int
    """Micro-batches; a batch has one size, so the last of each size may be smaller."""
    steps_per_epoch: float
    total: int
    epochs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Files that the run leaves."""

    name: str
    what: str
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything that is known of a run before it begins."""

    config: tuple[Setting, ...]
    base: BaseFacts
    datasets: tuple[DatasetPlan, ...]
    notes: tuple[str, ...]
    """What a person should know of the data."""
    steps: Steps | None
    """None where the buckets are not known."""
    output: str
    written: tuple[Written, ...]
    """Under `output`."""


def explain(run: RunSpec, document: Mapping[str, Any]) -> Explanation:
    """Look at everything that `run`, read from `document`, rests on. `BadData` where the data cannot be trained on.

    `SpecError` where the epochs come to fewer steps than the warm-up.
    """
    from_config, from_datasets = _given(document)
    config, base = run.train.config, look_at(run.train.config, run.base_dir)
    stock = _take_stock(run)
    plans = tuple(
        _dataset_plan(dataset, config, base, stock, from_datasets.get(dataset.id, frozenset()))
        for dataset in run.train.datasets
    )
    shared = any(dataset.probability is not None for dataset in run.train.datasets)
    steps = _steps(config, plans, shared=shared) if all(plan.buckets for plan in plans) else None
    return Explanation(
        config=tuple(_settings(config, from_config, _followed(config, base, plans))),
        base=base,
        datasets=plans,
        notes=() if stock is None else stock.notes,
        steps=steps,
        output=str(run.work_dir / "output"),
        written=tuple(_written(run, steps)),
    )


def _given(document: Mapping[str, Any]) -> tuple[frozenset[str], Mapping[str, frozenset[str]]]:
    """Names of the options that the document itself sets: of the config, and of each data set by id."""
    entries = [_named(DatasetConfig, entry) for entry in document["dataloader"]]
    ids = [entry.get("id", entry.get("--id")) for entry in document["dataloader"]]
    return _named(TrainConfig, document["config"]), dict(zip(ids, entries, strict=True))


def _named(cls: type[Any], values: Mapping[str, Any]) -> frozenset[str]:
    owner = {name: field for field, made in options_of(cls).items() for name in (field, *made.aliases)}
    names = (key.removeprefix("--") for key in values)
    return frozenset(owner[name] for name in names if name in owner)


def _settings(
    values: TrainConfig | DatasetConfig, given: frozenset[str], followed: Mapping[str, tuple[Any, str]]
) -> Iterator[Setting]:
    """In the order of the documentation; an option that was left open has the value that it follows."""
    for name in options_of(type(values)):
        value = getattr(values, name)
        if value is None and name in followed:
            yield Setting(name=name, value=followed[name][0], source=followed[name][1])
        else:
            value = list(value) if isinstance(value, tuple) else value
            yield Setting(name=name, value=value, source=GIVEN if name in given else DEFAULT)


def _followed(config: TrainConfig, base: BaseFacts, plans: Sequence[DatasetPlan]) -> dict[str, tuple[Any, str]]:
    """What options are that the config leaves open."""
    found: dict[str, tuple[Any, str]] = {"validation_seed": (config.seed, "seed")}
    if config.model_type == "lora":
        found["lora_alpha"] = (config.alpha, "lora_rank")
    if base.edges is not None:
        found["resolution"] = (base.edges.native, _BASE if base.measured else _USUAL)
    sizes: Counter[Size] = Counter()
    for plan in plans:
        sizes.update({(one.width, one.height): one.images * plan.repeats for one in plan.buckets})
    if sizes:
        most = max(sorted(sizes), key=lambda size: sizes[size])
        found["validation_resolution"] = (list(most), "most images")
    return found


def _take_stock(run: RunSpec) -> Inventory | None:
    """The images; None where they are still in an archive."""
    if run.data is not None and not run.data_root.is_dir():
        return None
    try:
        from simpletuner_trainer.data import take_stock
    except ImportError as error:
        raise missing_package(error) from error
    return take_stock(run)


def _dataset_plan(
    dataset: DatasetConfig, config: TrainConfig, base: BaseFacts, stock: Inventory | None, given: frozenset[str]
) -> DatasetPlan:
    pictures = [] if stock is None else [picture for picture in stock.pictures if picture.dataset == dataset.id]
    counts: Counter[Size] = Counter()
    followed: dict[str, tuple[Any, str]] = {"minimum_image_size": (config.minimum_image_size, "config")}
    if base.edges is not None:
        aim = aim_of(dataset, config, base.edges)
        counts.update(bucket_size(picture.size, aim, aspect_pick(config.seed, picture.sha256)) for picture in pictures)
        source = "config" if config.resolution is not None else _BASE if base.measured else _USUAL
        followed |= {"resolution": (aim.resolution, source), "resolution_type": (aim.resolution_type, source)}
    return DatasetPlan(
        id=dataset.id,
        settings=tuple(_settings(dataset, given, followed)),
        images=len(pictures),
        captions=sum(len(picture.captions) for picture in pictures),
        repeats=dataset.repeats + 1,
        buckets=tuple(Bucket(width=size[0], height=size[1], images=count) for size, count in sorted(counts.items())),
    )


def _steps(config: TrainConfig, plans: Sequence[DatasetPlan], *, shared: bool) -> Steps:
    """Images of one size share a bucket whichever data set they are of, unless each set has a share of its own."""
    by_size: Counter[tuple[str, int, int]] = Counter()
    for plan in plans:
        for bucket in plan.buckets:
            by_size[plan.id if shared else "", bucket.width, bucket.height] += bucket.images * plan.repeats
    batches = sum(math.ceil(count / config.train_batch_size) for count in by_size.values())
    accumulate = config.gradient_accumulation_steps
    total = config.max_train_steps or math.ceil(config.num_train_epochs * batches / accumulate)
    if problems := warmup_conflicts(config, total):
        raise SpecError(problems)
    return Steps(
        batches_per_epoch=batches, steps_per_epoch=batches / accumulate, total=total,
        epochs=total * accumulate / batches,
    )  # fmt: skip


def _written(run: RunSpec, steps: Steps | None) -> Iterator[Written]:
    config, end = run.train.config, "at the end"
    total = config.max_train_steps or (steps.total if steps else 0)
    if config.model_type == "lora":
        yield Written(name="pytorch_lora_weights.safetensors", what="the LoRA, for diffusers", when=end)
        yield Written(name=KOHYA_NAME, what="the same for kohya's sd-scripts and ComfyUI", when=end)
    else:
        yield Written(name="model_index.json and its folders", what="the whole pipeline, for diffusers", when=end)
    yield Written(name="README.md", what="the model card", when=end)
    yield Written(name="config.json", what="this config, defaults written out", when=end)
    yield Written(name="metrics.jsonl", what="loss, learning rate and gradient norm of each step", when=end)
    yield Written(name="manifest.json", what="SHA-256 of every file, last of all", when=end)
    if config.validation_prompt:
        interval = config.validation_step_interval
        times = {0, total, *(range(interval, total, interval) if interval else ())}
        images = _number(len(config.validation_prompt) * len(times), "image") if total else "images"
        yield Written(name="samples/", what=images, when=_every(interval, "before the first and after the last"))
    interval, most = config.checkpoint_step_interval, config.checkpoints_total_limit
    made = math.ceil(total / interval) if interval else 1
    what = f"the last {most} of {made}" if made > most else _number(made, "checkpoint") if made else "checkpoints"
    yield Written(name="../checkpoints/", what=what, when=_every(interval, "when it ends or is stopped"))
    if where := _destination(run):
        yield Written(name=where, what="a copy of all this", when="as it is written")


def _every(interval: int, beside: str) -> str:
    return f"every {interval} steps, {beside}" if interval else beside


def _destination(run: RunSpec) -> str:
    match run.destination:
        case None:
            return ""
        case FolderDestination(path=path):
            return path
        case HubDestination(repo_id=repo_id):
            return f"hub:{repo_id}"
        case bucket:
            return f"s3://{bucket.bucket}/{bucket.prefix}"


# ------------------------------------------------------------------------------------------------------------- as text


def to_text(told: Explanation) -> str:
    """For people: aligned, one option a line, what was given marked."""
    base = told.base
    edges = base.edges
    own = "" if base.measured else f" ({_USUAL}: the base is not on this disk)"
    facts = [
        ("folder", str(base.folder) if base.folder else "not on this disk"),
        ("pipeline", base.pipeline),
        *([("predicts", base.predicts)] if base.predicts else []),
        *([("made for", f"{edges.native} px, edges in multiples of {edges.multiple}{own}")] if edges else []),
    ]
    parts = [_section("config", _lines(told.config)), _section("base", _columns(facts))]
    for plan in told.datasets:
        parts.append(_section(f"data set {plan.id}", _lines(plan.settings)))
        counted = [(f"{one.width} x {one.height}", _number(one.images, "image")) for one in plan.buckets]
        title = (
            f"  {_number(plan.images, 'image')}, {_number(plan.captions, 'caption')}, each {plan.repeats} x an epoch"
        )
        parts.append("\n".join([title, *(f"  {line}" for line in _columns(counted))]))
    parts.append(_section("steps", _columns(_step_facts(told))))
    if told.notes:
        parts.append(_section("notes", [f"  {note}" for note in told.notes]))
    rows = [(one.name, one.what, one.when) for one in told.written]
    parts.append(_section(f"written to {told.output}", _columns(rows)))
    return "\n\n".join(parts)


def _step_facts(told: Explanation) -> list[tuple[str, str]]:
    steps = told.steps
    if steps is None:
        total = next(line.value for line in told.config if line.name == "max_train_steps")
        unknown = "known once the images and the base are on this disk"
        return [("an epoch", unknown), ("in all", f"{total} steps" if total else unknown)]
    each = _number(steps.batches_per_epoch, "batch", "batches")
    return [
        ("an epoch", f"{each}, {steps.steps_per_epoch:g} steps"),
        ("in all", f"{steps.total} steps, {steps.epochs:.4g} epochs"),
    ]


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *lines])


def _lines(settings: Sequence[Setting]) -> list[str]:
    """Name, source and value in columns."""
    return _columns([(line.name, line.source, _shown(line.value)) for line in settings])


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of one length, indented; the last column is not padded."""
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    return [
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]])
        for row in rows
    ]


def _shown(value: Any) -> str:
    if value is None or value in ("", []):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or f'{one}s'}"


# ------------------------------------------------------------------------------------------------------------- as JSON


def to_json(told: Explanation) -> str:
    """For machines: the members of `Explanation`; a path is a text."""
    return json.dumps(_plain(told), indent=2, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
