"""What to train, on what, and how: SimpleTuner-style config and data sets, checked.

Pure standard library: the lab checks the same documents, through `simpletuner_trainer.spec`, before anything is sent.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from simpletuner_trainer import unsupported
from simpletuner_trainer.conflicts import noise_conflicts, optimizer_conflicts, warmup_conflicts
from simpletuner_trainer.dataloader import RESOLUTION_TYPES, DatasetConfig, parse_datasets, resolution_problems
from simpletuner_trainer.fields import (
    Problem,
    SpecError,
    boolean,
    choice,
    integer,
    modules,
    number,
    option,
    optional,
    options_of,
    read_options,
    settings,
    several,
    size,
    text,
    texts,
    without_none,
)

BUILTIN_TINY: Final = "builtin:tiny"
"""Names the tiny base that ships with this package, as `pretrained_model_name_or_path`."""

SINGLE_FILE_SUFFIX: Final = ".safetensors"
"""Of a `pretrained_model_name_or_path` that is one file in its authors' layout."""

RESUME_DESPITE: Final = ("config", "data", "threads", "world_size")
"""What may differ from the checkpoint's, where the config says so."""


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
        "constant_with_warmup",
        choice("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"),
    )
    lr_warmup_steps: int = option(0, integer(least=0))
    lr_num_cycles: int = option(1, integer(least=1))
    """Of `cosine_with_restarts`."""
    lr_power: float = option(1.0, number(above=0, most=100))
    """Of `polynomial`."""
    lr_end: float = option(0.0, number(least=0, most=10))
    """What every scheduler that falls ends at."""
    optimizer: str = option("adamw", choice("adamw", "adafactor", "prodigy", "adamw_schedulefree", "bnb-adamw8bit"))
    optimizer_config: tuple[str, ...] = option((), settings)
    """``name=value`` of what the optimizer has beyond the `adam_*` options: `contradictions.SETTINGS`."""
    adam_beta1: float = option(0.9, number(least=0, most=0.999999), aliases=("optimizer_beta1",))
    adam_beta2: float = option(0.999, number(least=0, most=0.999999), aliases=("optimizer_beta2",))
    adam_epsilon: float = option(1e-8, number(above=0))
    adam_weight_decay: float = option(1e-2, number(least=0))
    max_grad_norm: float = option(1.0, number(least=0))
    """0: gradients are not clipped."""
    grad_clip_method: str = option("norm", choice("norm", "value"))
    """What `max_grad_norm` limits: the norm over all gradients, or each number of them."""
    mixed_precision: str = option("no", choice("no", "bf16", "fp16", also={"fp32": "no"}))
    dynamo_mode: str = option("no", choice("no", "default", "reduce-overhead", "max-autotune", also={"disable": "no"}))
    """torch.compile on CUDA; elsewhere it costs more than it gains and is left aside."""
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
    torch_num_threads: int = option(0, integer(least=0, most=1024), shapes_weights=False)
    """0: torch's own choice. Checkpoints note the number by themselves."""

    resolution: float | None = option(None, optional(number(above=0)))
    """Edge in pixels, megapixels where the type is `area`; None: the base's own size."""
    resolution_type: str = option("pixel_area", choice(*RESOLUTION_TYPES))
    minimum_image_size: float | None = option(None, optional(number(least=0)))
    """Smaller images are left out; measured as `resolution_type` says."""
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

    resume_despite: tuple[str, ...] = option((), several(choice(*RESUME_DESPITE)), shapes_weights=False)
    """In what the run may differ from the checkpoint that it goes on from; none: such a checkpoint is refused."""

    output_dir: str = option("", optional(text), shapes_weights=False)
    tracker_run_name: str = option("", optional(text), shapes_weights=False)
    tracker_project_name: str = option("", optional(text), shapes_weights=False)
    report_to: str | None = option(None, optional(choice("none")), shapes_weights=False)

    @property
    def alpha(self) -> float:
        """The LoRA's alpha; the update is scaled by alpha / rank."""
        return float(self.lora_rank) if self.lora_alpha is None else self.lora_alpha


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
    datasets, wrong = parse_datasets(dataloader, checked.resolution_type)
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
    if steps:
        problems += warmup_conflicts(config, steps)
    problems += (
        _base_conflicts(config) + noise_conflicts(config) + optimizer_conflicts(config) + _lora_conflicts(config)
    )
    return problems + resolution_problems("config", config.resolution, config.resolution_type)


def _base_conflicts(config: TrainConfig) -> list[Problem]:
    if config.single_file_config is None or config.pretrained_model_name_or_path.endswith(SINGLE_FILE_SUFFIX):
        return []
    hint = "leave it out: a folder and a repository have their own configuration"
    return [Problem("config.single_file_config", f"is set and the base is not a {SINGLE_FILE_SUFFIX} file", hint)]


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
