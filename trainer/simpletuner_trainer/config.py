"""What to train, on what, and how: SimpleTuner-style config and data sets, checked.

Pure standard library: the lab checks the same documents, through `simpletuner_trainer.spec`, before anything is sent.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from simpletuner_trainer import unsupported
from simpletuner_trainer.conflicts import base_conflicts, noise_conflicts
from simpletuner_trainer.fields import (
    Problem,
    SpecError,
    anything,
    boolean,
    choice,
    integer,
    matching,
    modules,
    number,
    option,
    optional,
    options_of,
    read_options,
    size,
    text,
    texts,
    without_none,
)

BUILTIN_TINY: Final = "builtin:tiny"
"""Names the tiny base that ships with this package, as `pretrained_model_name_or_path`."""

IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
"""Lower-case suffixes of files that are read as images."""
CAPTION_SUFFIX: Final = ".txt"
"""`textfile` captions: ``image.png`` has its captions in ``image.txt``, one a line."""
METADATA_NAME: Final = "metadata.jsonl"
"""`metadata` captions: one JSON object a line with ``file_name`` and ``text``, at the data set's root."""

_RESOLUTION_TYPES: Final = ("pixel", "area", "pixel_area")
_MIN_EDGE_PX: Final = 16
_MAX_EDGE_PX: Final = 16_384
_LEAST_PRODIGY_RATE: Final = 0.01
"""A rate below is meant for another optimizer: Prodigy multiplies the one that it finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """`config.json`: what to train and how. Names and values as SimpleTuner has them, where it has them."""

    model_family: str = option("sd", choice("sd", "sdxl", "flux", also={"sd1x": "sd", "sd2x": "sd", "legacy": "sd"}))
    model_type: str = option("lora", choice("lora", "full"))
    pretrained_model_name_or_path: str = option("", text, required=True)
    """A diffusers folder, a .safetensors file, a Hub id, or `BUILTIN_TINY`."""
    single_file_config: str | None = option(None, optional(text))
    """Of a base in one file: the diffusers folder or Hub id that says how its parts are put together."""

    lora_type: str = option("standard", choice("standard"))
    lora_rank: int = option(16, integer(least=1, most=4096))
    lora_alpha: float | None = option(None, optional(number(above=0)))
    """None: the rank, so that the update is not scaled."""
    lora_dropout: float = option(0.0, number(least=0, most=0.99))
    lora_target: str = option("attention", choice("attention", "all"))
    """`attention`: query, key, value and output projections. `all`: every linear and convolution of each block."""
    peft_lora_target_modules: tuple[str, ...] | str | None = option(None, optional(modules))
    """Instead of `lora_target`: ends of module names as a list, or one regular expression over whole names."""
    lora_init_type: str = option("default", choice("default", "gaussian"))
    use_rslora: bool = option(False, boolean)
    """Scale the update by alpha over the square root of the rank (arXiv 2312.03732)."""
    use_dora: bool = option(False, boolean)
    """Train each target's magnitude beside its direction (arXiv 2402.09353)."""
    init_lora: str | None = option(None, optional(text))
    """A LoRA in diffusers' format, of the same rank, alpha and targets, to begin from; relative to the spec file."""

    max_train_steps: int = option(0, integer(least=0, most=100_000_000))
    num_train_epochs: int = option(0, integer(least=0, most=1_000_000))
    """Exactly one of the two is above 0."""
    train_batch_size: int = option(4, integer(least=1, most=4096))
    gradient_accumulation_steps: int = option(1, integer(least=1, most=4096))
    gradient_checkpointing: bool = option(False, boolean)
    learning_rate: float = option(1e-4, number(above=0, most=10))
    lr_scheduler: str = option(
        "constant_with_warmup", choice("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts")
    )
    lr_warmup_steps: int = option(0, integer(least=0))
    lr_num_cycles: int = option(1, integer(least=1))
    """Of `cosine_with_restarts`."""
    optimizer: str = option("adamw", choice("adamw", "adafactor", "prodigy", "adamw_schedulefree", "bnb-adamw8bit"))
    adam_beta1: float = option(0.9, number(least=0, most=0.999999), aliases=("optimizer_beta1",))
    adam_beta2: float = option(0.999, number(least=0, most=0.999999), aliases=("optimizer_beta2",))
    adam_epsilon: float = option(1e-8, number(above=0))
    adam_weight_decay: float = option(1e-2, number(least=0))
    max_grad_norm: float = option(1.0, number(least=0))
    """0: gradients are not clipped."""
    mixed_precision: str = option("no", choice("no", "bf16", "fp16", also={"fp32": "no"}))
    snr_gamma: float | None = option(None, optional(number(above=0)))
    """Min-SNR loss weighting (arXiv 2303.09556); None: every timestep weighs the same."""
    flow_schedule_shift: float = option(3.0, number(least=0, most=100))
    """Flow matching: above 1 trains noisier images more, below 1 less; 0: not shifted (arXiv 2403.03206, 5.3.2)."""
    flow_schedule_auto_shift: bool = option(False, boolean)
    """The shift that the base paints a picture of that size with, instead."""
    flow_sigmoid_scale: float = option(1.0, number(above=0, most=100))
    """Noise levels before the shift are the sigmoid of a normal number times this."""
    flow_use_uniform_schedule: bool = option(False, boolean)
    """Every noise level as often as any other, before the shift."""
    flux_guidance_mode: str = option("constant", choice("constant"))
    flux_guidance_value: float = option(1.0, number(least=0, most=100))
    """What a base that was distilled with guidance is told in training."""
    use_ema: bool = option(False, boolean)
    ema_decay: float = option(0.995, number(least=0, most=0.999999))
    seed: int = option(42, integer(least=0, most=2**63 - 1))
    torch_num_threads: int = option(0, integer(least=0, most=1024))
    """0: torch's own choice. An exact resume needs the same number again."""

    resolution: float | None = option(None, optional(number(above=0)))
    """Edge in pixels, megapixels where the type is `area`; None: the base's own size."""
    resolution_type: str = option("pixel_area", choice(*_RESOLUTION_TYPES))
    minimum_image_size: float | None = option(None, optional(number(least=0)))
    """Smaller images are left out: shorter edge in pixels, or megapixels where the type is `area`."""
    caption_dropout_probability: float = option(0.1, number(least=0, most=1))

    validation_prompt: tuple[str, ...] = option((), texts, aliases=("validation_prompts",), shapes_weights=False)
    """One prompt or a list; none: no validation images."""
    validation_step_interval: int = option(100, integer(least=0), aliases=("validation_steps",), shapes_weights=False)
    """0: only before the first step and after the last."""
    validation_resolution: tuple[int, int] | None = option(None, optional(size), shapes_weights=False)
    """Width and height in pixels, as a number or ``"512x768"``; None: the size that most images are trained at."""
    validation_guidance: float = option(7.5, number(least=0, most=100), shapes_weights=False)
    validation_num_inference_steps: int = option(30, integer(least=1, most=1000), shapes_weights=False)
    validation_seed: int | None = option(None, optional(integer(least=0, most=2**63 - 1)), shapes_weights=False)
    """None: `seed`."""

    checkpoint_step_interval: int = option(
        500, integer(least=0), aliases=("checkpointing_steps",), shapes_weights=False
    )
    """0: only when the run is stopped."""
    checkpoints_total_limit: int = option(5, integer(least=1), shapes_weights=False)
    resume_from_checkpoint: str | None = option("latest", optional(choice("latest")), shapes_weights=False)
    """None: the first attempt of a job starts anew whatever the work folder holds; later attempts always go on."""

    output_dir: str = option("", optional(text), shapes_weights=False)
    tracker_run_name: str = option("", optional(text), shapes_weights=False)
    tracker_project_name: str = option("", optional(text), shapes_weights=False)
    report_to: str | None = option(None, optional(choice("none")), shapes_weights=False)

    @property
    def alpha(self) -> float:
        """The LoRA's alpha; the update is scaled by alpha / rank."""
        return float(self.lora_rank) if self.lora_alpha is None else self.lora_alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetConfig:
    """One image data set of the dataloader list."""

    id: str = option(
        "",
        matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "1 to 64 of A-Z a-z 0-9 . _ -, not starting with . _ -"),
        required=True,
    )
    type: str = option("local", choice("local"))
    dataset_type: str = option("image", choice("image"))
    instance_data_dir: str = option("", text, required=True)
    disabled: bool = option(False, boolean)

    caption_strategy: str = option("textfile", choice("textfile", "filename", "instanceprompt", "metadata"))
    instance_prompt: str | None = option(None, optional(text))
    prepend_instance_prompt: bool = option(False, boolean)
    only_instance_prompt: bool = option(False, boolean)
    disable_multiline_split: bool = option(False, boolean)
    """False: each line of a caption file is a caption of its own."""

    repeats: int = option(0, integer(least=0, most=100_000))
    """Times more than once that each image is seen in an epoch."""
    crop: bool = option(False, boolean)
    crop_style: str = option("random", choice("center", "random", also={"centre": "center"}))
    crop_aspect: str = option("square", choice("square", "preserve"))
    resolution: float | None = option(None, optional(number(above=0)))
    resolution_type: str | None = option(None, optional(choice(*_RESOLUTION_TYPES)))
    minimum_image_size: float | None = option(None, optional(number(least=0)))
    cache_dir_vae: str | None = option(None, optional(text), shapes_weights=False)
    """Accepted for SimpleTuner's sake; caches live in the work folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _TextEmbeds:
    """SimpleTuner's entry that places the text cache; checked, then dropped: caches live in the work folder."""

    id: str = option("", text, required=True)
    type: str = option("local", choice("local"))
    dataset_type: str = option("text_embeds", choice("text_embeds"))
    default: bool = option(False, boolean)
    disabled: bool = option(False, boolean)
    cache_dir: str | None = option(None, optional(text))
    write_batch_size: object = option(None, anything)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    """A checked config and its enabled image data sets."""

    config: TrainConfig
    datasets: tuple[DatasetConfig, ...]


def parse(config: Mapping[str, Any], dataloader: Sequence[Mapping[str, Any]]) -> TrainSpec:
    """Check both documents; `SpecError` holds every problem of both."""
    good, problems = read_options(TrainConfig, config, "config", refused=unsupported.CONFIG_KEYS)
    checked = TrainConfig(**without_none(TrainConfig, good))
    seen = {problem.path.removeprefix("config.").removeprefix("--") for problem in problems}
    problems += [problem for problem in _conflicts(checked) if problem.path.removeprefix("config.") not in seen]
    datasets, wrong = _parse_datasets(dataloader, checked.resolution_type)
    problems += wrong
    if problems:
        raise SpecError(problems)
    return TrainSpec(config=checked, datasets=datasets)


def _conflicts(config: TrainConfig) -> list[Problem]:
    problems = []
    steps, epochs = config.max_train_steps, config.num_train_epochs
    if (steps > 0) == (epochs > 0):
        message = "and num_train_epochs are both set" if steps else "or num_train_epochs must be set"
        problems.append(
            Problem("config.max_train_steps", message, "one of the two is above 0, the other 0 or left out")
        )
    if steps and config.lr_warmup_steps >= steps:
        hint = f"max_train_steps is {steps}: the full learning rate would never be reached"
        problems.append(Problem("config.lr_warmup_steps", f"is {config.lr_warmup_steps}", hint))
    problems += (
        _optimizer_conflicts(config) + _lora_conflicts(config) + noise_conflicts(config) + base_conflicts(config)
    )
    return problems + _resolution_problems("config", config.resolution, config.resolution_type)


def _optimizer_conflicts(config: TrainConfig) -> list[Problem]:
    problems = []
    if config.optimizer == "prodigy" and config.learning_rate < _LEAST_PRODIGY_RATE:
        hint = "prodigy finds the rate itself and multiplies it by this one: 1 is usual"
        problems.append(Problem("config.learning_rate", f"is {config.learning_rate:g} and optimizer is prodigy", hint))
    if config.optimizer == "adamw_schedulefree":
        if not config.lr_scheduler.startswith("constant"):
            message = f"is {config.lr_scheduler} and optimizer is adamw_schedulefree"
            hint = "it needs no decay: constant or constant_with_warmup"
            problems.append(Problem("config.lr_scheduler", message, hint))
        if config.use_ema:
            hint = "it averages the weights already: leave use_ema out"
            problems.append(Problem("config.use_ema", "is set and optimizer is adamw_schedulefree", hint))
        if config.adam_beta1 == 0:
            hint = "it averages by this number: 0.9 is usual"
            problems.append(Problem("config.adam_beta1", "is 0 and optimizer is adamw_schedulefree", hint))
    return problems


def _lora_conflicts(config: TrainConfig) -> list[Problem]:
    chosen = config.peft_lora_target_modules
    if config.model_type != "lora":
        asked = {"init_lora": config.init_lora, "use_dora": config.use_dora, "use_rslora": config.use_rslora,
                 "peft_lora_target_modules": chosen}  # fmt: skip
        hint = "leave it out, or set model_type to lora"
        return [
            Problem(f"config.{key}", "is of a LoRA and model_type is full", hint) for key, set_ in asked.items() if set_
        ]
    if chosen is not None and config.lora_target != TrainConfig.__dataclass_fields__["lora_target"].default:
        hint = "keep one of the two"
        return [Problem("config.peft_lora_target_modules", f"is set beside lora_target {config.lora_target}", hint)]
    return []


def _resolution_problems(path: str, resolution: float | None, resolution_type: str) -> list[Problem]:
    if resolution is None:
        return []
    if resolution_type == "area":
        most_megapixels = 64
        if resolution > most_megapixels:
            hint = "`area` counts megapixels; `pixel_area` takes the edge of a square in pixels"
            return [Problem(f"{path}.resolution", f"is {resolution:g} megapixels", hint)]
    elif not _MIN_EDGE_PX <= resolution <= _MAX_EDGE_PX or not float(resolution).is_integer():
        hint = f"`{resolution_type}` counts whole pixels of an edge, {_MIN_EDGE_PX} to {_MAX_EDGE_PX}"
        return [Problem(f"{path}.resolution", f"is {resolution:g}", hint)]
    return []


def _parse_datasets(dataloader: object, resolution_type: str) -> tuple[tuple[DatasetConfig, ...], list[Problem]]:
    if not isinstance(dataloader, list | tuple):
        return (), [Problem("dataloader", "is not a list of data sets")]
    datasets: list[DatasetConfig] = []
    problems: list[Problem] = []
    owners: dict[str, int] = {}
    for index, entry in enumerate(dataloader):
        path = f"dataloader[{index}]"
        kind = _entry_kind(entry)
        good, wrong = read_options(kind, entry, path, refused=unsupported.DATASET_KEYS)
        dataset_id = good.get("id", "")
        if dataset_id and owners.setdefault(dataset_id.lower(), index) != index:
            other = owners[dataset_id.lower()]
            wrong.append(Problem(f"{path}.id", f"is {dataset_id!r}, as dataloader[{other}]", "ids differ beyond case"))
        if kind is DatasetConfig:
            dataset = DatasetConfig(**good)
            wrong += _dataset_conflicts(dataset, path, resolution_type)
            if not dataset.disabled:
                datasets.append(dataset)
        problems += wrong
    if not datasets and not problems:
        problems.append(Problem("dataloader", "has no image data set", "add one with type local and instance_data_dir"))
    return tuple(datasets), problems


def _entry_kind(entry: object) -> type[Any]:
    if isinstance(entry, Mapping):
        named = entry.get("dataset_type", entry.get("--dataset_type"))
        return _TextEmbeds if named == "text_embeds" else DatasetConfig
    return DatasetConfig


def _dataset_conflicts(dataset: DatasetConfig, path: str, resolution_type: str) -> list[Problem]:
    problems = []
    needs = (
        dataset.caption_strategy == "instanceprompt" or dataset.only_instance_prompt or dataset.prepend_instance_prompt
    )
    if needs and not dataset.instance_prompt:
        why = (
            "caption_strategy is instanceprompt" if dataset.caption_strategy == "instanceprompt" else "it is to be used"
        )
        problems.append(Problem(f"{path}.instance_prompt", f"is missing and {why}"))
    if dataset.resolution_type is not None and dataset.resolution is None:
        problems.append(Problem(f"{path}.resolution", "is missing beside resolution_type", "set both or neither"))
    return problems + _resolution_problems(path, dataset.resolution, dataset.resolution_type or resolution_type)


def canonical_config(spec: TrainSpec) -> dict[str, Any]:
    """The whole of it as plain JSON values, defaults written out: the same meaning gives the same document."""
    return {"config": _plain(spec.config), "dataloader": [_plain(dataset) for dataset in spec.datasets]}


def config_hash(spec: TrainSpec) -> str:
    """SHA-256 over the options that shape the trained weights; paths, prompts to validate and intervals do not.

    What the images are is not in it: data has a hash of its own (`data.Inventory.digest`).
    """
    config = {
        name: value for name, value in _plain(spec.config).items() if options_of(TrainConfig)[name].shapes_weights
    }
    datasets = [
        {name: value for name, value in _plain(dataset).items() if options_of(DatasetConfig)[name].shapes_weights}
        for dataset in spec.datasets
    ]
    for dataset in datasets:
        del dataset["instance_data_dir"]
    document = json.dumps([config, datasets], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(document.encode()).hexdigest()


def _plain(value: TrainConfig | DatasetConfig) -> dict[str, Any]:
    return {name: list(item) if isinstance(item, tuple) else item for name, item in dataclasses.asdict(value).items()}


def parse_metadata_jsonl(document: str) -> dict[str, tuple[str, ...]]:
    """Captions by relative POSIX path from the text of a `metadata.jsonl`; several lines a file are several captions.

    Raises `ValueError` with the line's number.
    """
    captions: dict[str, tuple[str, ...]] = {}
    for index, line in enumerate(document.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            raise ValueError(f"{METADATA_NAME}, line {index}: not JSON") from None
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("file_name", "text")):
            raise ValueError(f"{METADATA_NAME}, line {index}: needs the strings `file_name` and `text`")
        name = str(PurePosixPath(entry["file_name"]))
        captions[name] = (*captions.get(name, ()), entry["text"])
    return captions
