"""The model card: README.md with the front matter that the Hub reads, how to load the model, how it was made, samples.

A licence is not named: that of the base and of the images is not known here.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simpletuner_trainer import __version__
from simpletuner_trainer.spec import (
    BUILTIN_TINY,
    KOHYA_NAME,
    SINGLE_FILE_SUFFIX,
    RunSpec,
    TrainConfig,
    canonical_config,
)

_CLOSE: Final = (
    "Trained with simpletuner-trainer. `config.json` and `metrics.jsonl` beside this file say all of it, and "
    "`manifest.json` has the SHA-256 of every file."
)
_KOHYA: Final = "`{file}` is the same LoRA for ComfyUI, Forge and kohya's sd-scripts."
_PACKAGES: Final = ("torch", "diffusers", "peft", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What the metadata and the model card say of a training."""

    step: int
    images: int
    epochs: float
    size: tuple[int, int]
    """Width and height in pixels that most images are trained at."""


def model_card(run: RunSpec, made: Made, samples: Sequence[str]) -> str:
    """The whole file; `samples` are the names of the last images in `samples/`, one for each validation prompt."""
    config = run.train.config
    base, _ = shown_base(config.pretrained_model_name_or_path)
    shown = list(zip(config.validation_prompt, samples, strict=False))
    rows = "\n".join(f"| {key} | {value} |" for key, value in _facts(run, made, base).items())
    pictures = "\n\n".join(
        f"{prompt}\n\n![sample {index}](samples/{sample})" for index, (prompt, sample) in enumerate(shown)
    )
    parts = (
        "\n".join(["---", *_front_matter(run, shown), "---"]),
        f"# {config.tracker_run_name or run.job_id}",
        f"```python\n{_loading(run, base)}\n```",
        _KOHYA.format(file=KOHYA_NAME) if config.model_type == "lora" else "",
        f"| | |\n| --- | --- |\n{rows}",
        pictures,
        f"## Config\n\n```json\n{_shown_config(run, base)}\n```",
        _CLOSE,
    )
    return "\n\n".join(filter(None, parts)) + "\n"


def shown_base(name: str) -> tuple[str, bool]:
    """How a card names the base, and whether others can load it by that name; a folder's path is nobody's business."""
    if name == BUILTIN_TINY:
        return "simpletuner_trainer/assets/tiny_base", False
    is_path = name.startswith((".", "/", "~")) or name.count("/") != 1 or name.endswith(SINGLE_FILE_SUFFIX)
    return (Path(name).name, False) if is_path else (name, True)


def _front_matter(run: RunSpec, samples: Sequence[tuple[str, str]]) -> Iterator[str]:
    """YAML, in which every text is a JSON string: that is YAML too, whatever a prompt holds."""
    config = run.train.config
    base, public = shown_base(config.pretrained_model_name_or_path)
    lora = config.model_type == "lora"
    if public:
        yield f"base_model: {json.dumps(base)}"
        yield f"base_model_relation: {'adapter' if lora else 'finetune'}"
    yield "library_name: diffusers"
    yield "pipeline_tag: text-to-image"
    prompt = next((dataset.instance_prompt for dataset in run.train.datasets if dataset.instance_prompt), "")
    if prompt:
        yield f"instance_prompt: {json.dumps(prompt)}"
    yield "tags:"
    for tag in ("text-to-image", "diffusers", *(("lora", "template:sd-lora") if lora else ()), "simpletuner"):
        yield f"- {tag}"
    if samples:
        yield "widget:"
        for text, sample in samples:
            yield f"- text: {json.dumps(text)}"
            yield "  output:"
            yield f"    url: {json.dumps(f'samples/{sample}')}"


def _loading(run: RunSpec, base: str) -> str:
    config = run.train.config
    lora = config.model_type == "lora"
    prompt = config.validation_prompt[0] if config.validation_prompt else "a prompt"
    lines = [
        "from diffusers import DiffusionPipeline",
        "",
        f"pipeline = DiffusionPipeline.from_pretrained({json.dumps(base if lora else '.')})"
        + ("  # as a diffusers folder" if lora and base.endswith(SINGLE_FILE_SUFFIX) else ""),
        *(['pipeline.load_lora_weights(".", weight_name="pytorch_lora_weights.safetensors")'] if lora else []),
        f"image = pipeline({prompt!r}).images[0]",
    ]
    return "\n".join(lines)


def _shown_config(run: RunSpec, base: str) -> str:
    """The config without what is nobody's business: paths of this machine."""
    whole: dict[str, Any] = canonical_config(run.train)
    begun, single = run.train.config.init_lora, run.train.config.single_file_config
    config = {**whole["config"], "pretrained_model_name_or_path": base, "init_lora": begun and Path(begun).name,
              "single_file_config": single and shown_base(single)[0]}  # fmt: skip
    datasets = [
        {key: value for key, value in dataset.items() if key not in {"instance_data_dir", "cache_dir"}}
        for dataset in whole["dataloader"]
    ]
    return json.dumps({"config": config, "dataloader": datasets}, indent=1, ensure_ascii=False)


def _facts(run: RunSpec, made: Made, base: str) -> Mapping[str, str]:
    config = run.train.config
    kind = f"{'rs' if config.use_rslora else ''}{'DoRA' if config.use_dora else 'LoRA'}"
    targets = config.peft_lora_target_modules or config.lora_target
    shown = (targets if isinstance(targets, str) else ", ".join(targets)).replace("|", r"\|")
    lora = f"{kind}, rank {config.lora_rank}, alpha {config.alpha:g}, on {shown}"
    return {
        "base": f"`{base}`",
        "kind": lora if config.model_type == "lora" else "full fine-tune",
        "steps": f"{made.step} ({made.epochs:.1f} epochs of {made.images} images)",
        **({"begun from": f"`{Path(config.init_lora).name}`"} if config.init_lora else {}),
        "batch": f"{config.train_batch_size} x {config.gradient_accumulation_steps}",
        "learning rate": f"{config.learning_rate:g}, {config.lr_scheduler}, {config.lr_warmup_steps} steps of warm-up",
        "optimizer": config.optimizer,
        "weights": _averaging(config),
        "resolution": f"{config.resolution:g} ({config.resolution_type})" if config.resolution else "the base's own",
        "seed": str(config.seed),
        "plan": f"`{run.plan_digest}`" if run.plan_digest else "none",
        "made with": f"simpletuner-trainer {__version__}, {', '.join(_versions())}",
    }


def _averaging(config: TrainConfig) -> str:
    if config.optimizer == "adamw_schedulefree":
        return "averaged (Schedule-Free)"
    return f"averaged (EMA {config.ema_decay:g})" if config.use_ema else "as trained"


def _versions() -> Iterator[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
