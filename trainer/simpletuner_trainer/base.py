"""What the JSON files of a base on this disk say of it: which family it is of, what it predicts, which sizes it takes.

Pure standard library: the lab asks the same questions, through `simpletuner_trainer.spec`, before anything is sent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simpletuner_trainer.config import BUILTIN_TINY, SINGLE_FILE_SUFFIX, TrainConfig
from simpletuner_trainer.fields import Problem

PIPELINES: Final[Mapping[str, str]] = {
    "sd": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "flux": "FluxPipeline",
}
"""What ``model_index.json`` of a base calls its class, by `model_family`: says which family a base is of."""

SHIPPED: Final = Path(__file__).parent / "assets" / "tiny_base"
"""The folder that `BUILTIN_TINY` names."""

_PATCHED_LATENTS: Final = 128
"""Edge of the latents that FluxPipeline paints unless it is told otherwise."""

_WHOLE_BYTES: Final = 64 << 20
_END_BYTES: Final = 1 << 20

_KEY: Final = "config.pretrained_model_name_or_path"
_BETA_SCHEDULES: Final = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace")
"""Of DDPMScheduler, which training takes its noise from."""
_NOISED: Final = ("sd", "sdxl")
"""Families that learn by a schedule of betas."""
_WEIGHTS: Final = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2")
_MOST_HEADER_BYTES: Final = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """The sizes that a base takes, in pixels."""

    multiple: int
    """What image edges must be a multiple of."""
    native: int
    """Edge of the square that the base was made for."""


USUAL_EDGES: Final[Mapping[str, Edges]] = {
    "sd": Edges(multiple=64, native=512),
    "sdxl": Edges(multiple=32, native=1024),
    "flux": Edges(multiple=16, native=1024),
}
"""Of the published bases, by `model_family`: for a base that is not on this disk."""


def is_path(name: str) -> bool:
    """Whether `pretrained_model_name_or_path` can only be a path, never an id of the Hub."""
    return name.startswith((".", "/", "~")) or name.endswith(SINGLE_FILE_SUFFIX)


def local_folder(name: str, base_dir: Path | None) -> Path | None:
    """The base's folder on this disk; None where it is not here. Without `base_dir` relative names are not looked for."""
    folder = _place(name, base_dir)
    return folder if folder is not None and folder.is_dir() else None


def _place(name: str, base_dir: Path | None) -> Path | None:
    """Where on this disk the base would be."""
    if name == BUILTIN_TINY:
        return SHIPPED
    path = Path(name).expanduser()
    if path.is_absolute():
        return path
    return None if base_dir is None else base_dir / path


def folder_identity(folder: Path, parts: Sequence[str]) -> str:
    """SHA-256 over the files of a base's `parts`; of a file above 64 MiB only its size, first and last MiB count."""
    digest = hashlib.sha256()
    for part in parts:
        for path in sorted((folder / part).rglob("*")):
            if path.suffix in (".json", ".safetensors", ".txt"):
                digest.update(_content_of(path, path.relative_to(folder).as_posix()))
    return digest.hexdigest()


def file_identity(path: Path) -> str:
    """The same of one file, whatever its name."""
    return hashlib.sha256(_content_of(path, "")).hexdigest()


def _content_of(path: Path, name: str) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        content = file.read(size if size <= _WHOLE_BYTES else _END_BYTES)
        if size > _WHOLE_BYTES:
            file.seek(size - _END_BYTES)
            content += file.read()
    return json.dumps([name, size]).encode() + content


def identity_here(name: str, base_dir: Path) -> str | None:
    """SHA-256 that tells the folder or file which `name` means from others; None where it is not on this disk."""
    place = _place(name, base_dir)
    if place is None or not place.exists():
        return None
    return folder_identity(place, [""]) if place.is_dir() else file_identity(place)


def pipeline_of(folder: Path) -> str:
    """The class that ``model_index.json`` names; `ValueError` where there is none that can be read."""
    try:
        named = json.loads((folder / "model_index.json").read_text("utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"model_index.json: {error}") from error
    return str(named)


def base_problems(config: TrainConfig, base_dir: Path | None = None, *, trains_here: bool) -> list[Problem]:
    """What is wrong with the files that the config names, as far as this disk tells. A base of the Hub is not looked at.

    `base_dir` is where relative paths start, if that is known; `trains_here`: a path that is not here is nowhere.
    """
    return [*_base_problems(config, base_dir, trains_here=trains_here), *_begun_problems(config, base_dir, trains_here)]


def _begun_problems(config: TrainConfig, base_dir: Path | None, trains_here: bool) -> list[Problem]:
    """Of the LoRA to begin from, where it is to lie on this disk."""
    if config.init_lora is None or not trains_here:
        return []
    path = Path(config.init_lora).expanduser()
    if not path.is_absolute() and base_dir is None:
        return [Problem("config.init_lora", f"{config.init_lora} is a relative path", "give the whole path")]
    missing = not ((base_dir or Path()) / path).is_file()
    return [Problem("config.init_lora", f"{config.init_lora} is not there")] if missing else []


def _base_problems(config: TrainConfig, base_dir: Path | None, *, trains_here: bool) -> list[Problem]:
    name = config.pretrained_model_name_or_path
    place, folder = _place(name, base_dir), local_folder(name, base_dir)
    if folder is None:
        absent = trains_here and is_path(name) and (place is None or not place.exists())
        hint = f"give the whole path of a diffusers folder or a {SINGLE_FILE_SUFFIX} file, or an id of the Hugging Face Hub"
        if absent:
            return [Problem(_KEY, f"{name} is not there", hint)]
        return _file_problems(place) if place is not None and place.is_file() else []
    try:
        pipeline = pipeline_of(folder)
    except ValueError as error:
        return [Problem(_KEY, f"is a folder without a pipeline ({error})", "it needs a model_index.json")]
    expected = PIPELINES[config.model_family]
    if pipeline == expected:
        return _folder_problems(folder, config.model_family)
    fitting = next((family for family, made in PIPELINES.items() if made == pipeline), None)
    hint = f"set model_family to {fitting}" if fitting else f"supported: {', '.join(PIPELINES.values())}"
    return [Problem("config.model_family", f"is {config.model_family} and the base is a {pipeline}", hint)]


def _file_problems(path: Path) -> list[Problem]:
    fault = torn(path) if path.suffix == SINGLE_FILE_SUFFIX else ""
    return [Problem(_KEY, f"is damaged: {path.name} {fault}", "download or copy it anew")] if fault else []


def _folder_problems(folder: Path, family: str) -> list[Problem]:
    problems = [Problem(_KEY, f"is damaged: {fault}", "download or copy it anew") for fault in torn_weights(folder)]
    if family in _NOISED:
        try:
            wrong = schedule_fault(_read(folder / "scheduler" / "scheduler_config.json"))
        except (OSError, ValueError):
            return problems
        if wrong:
            problems.append(Problem(_KEY, wrong, "a base of this family noises by betas, as DDPM does"))
    return problems


def schedule_fault(scheduler: Mapping[str, Any]) -> str:
    """Why training cannot noise as this configuration says (sd, sdxl); empty where it can.

    Every scheduler with DDPM's betas noises alike, however it paints: DDIM, PNDM, Euler, DPM-Solver, UniPC, LCM and more.
    """
    name = str(scheduler.get("_class_name", ""))
    flows = "FlowMatch" in name or scheduler.get("use_flow_sigmas")
    if flows or scheduler.get("prediction_type") == "flow_prediction":
        return f"the base's scheduler ({name}) is of flow matching"
    if name.startswith("EDM"):
        return f"the base's scheduler ({name}) scales its noise as EDM does"
    if scheduler.get("snr_shift_scale") is not None:
        return f"the base's scheduler ({name}) shifts its noise (snr_shift_scale)"
    if scheduler.get("trained_betas"):
        return ""
    absent = [key for key in ("beta_schedule", "beta_start", "beta_end") if scheduler.get(key) is None]
    if absent:
        return f"the base's scheduler ({name}) has no {absent[0]}"
    if (schedule := scheduler["beta_schedule"]) not in _BETA_SCHEDULES:
        return f"the base's scheduler ({name}) has the beta_schedule {schedule!r}, which DDPM does not know"
    return ""


def torn_weights(folder: Path) -> list[str]:
    """Which weights of a diffusers folder are cut short or are no safetensors, by their headers; a fault a file."""
    files = [
        path for part in _WEIGHTS for path in sorted((folder / part).glob("*.safetensors")) if "." not in path.stem
    ]
    return [f"{path.relative_to(folder).as_posix()} {fault}" for path in files if (fault := torn(path))]


def torn(path: Path) -> str:
    """Whether a safetensors file is other than its header says, without reading the weights; empty where it is whole."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, _MOST_HEADER_BYTES):
                return "is cut short, or no safetensors file"
            header = json.loads(file.read(length))
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "has a header that cannot be read"
    whole = 8 + length + max(ends, default=0)
    return "" if size == whole else f"has {size:,} bytes and its header speaks of {whole:,}"


def edges_of(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> Edges:
    """The sizes that a UNet over a VAE takes, by both configurations."""
    pixels_per_latent = 2 ** (len(vae["block_out_channels"]) - 1)
    return Edges(
        multiple=pixels_per_latent * 2 ** (len(unet["block_out_channels"]) - 1),
        native=int(unet["sample_size"]) * pixels_per_latent,
    )


def edges_of_patches(vae: Mapping[str, Any]) -> Edges:
    """The sizes that a transformer over 2 x 2 patches of a VAE's latents takes; nothing in it says what it was made for."""
    pixels_per_latent = 2 ** (len(vae["block_out_channels"]) - 1)
    return Edges(multiple=2 * pixels_per_latent, native=_PATCHED_LATENTS * pixels_per_latent)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFacts:
    """What is known of a base without loading it."""

    folder: Path | None
    """None: it is not on this disk."""
    pipeline: str
    predicts: str
    """As its scheduler says; empty where that is not known."""
    edges: Edges | None
    measured: bool
    """Whether `edges` are this base's own; otherwise they are usual for its family."""


def look_at(config: TrainConfig, base_dir: Path) -> BaseFacts:
    """The facts of the config's base, those of its family where it is not on this disk."""
    folder = local_folder(config.pretrained_model_name_or_path, base_dir)
    usual = USUAL_EDGES.get(config.model_family)
    unknown = BaseFacts(
        folder=folder, pipeline=PIPELINES[config.model_family], predicts="", edges=usual, measured=False
    )
    if folder is None:
        return unknown
    try:
        scheduler = _read(folder / "scheduler" / "scheduler_config.json")
        vae, unet = _read(folder / "vae" / "config.json"), folder / "unet" / "config.json"
        edges = edges_of(_read(unet), vae) if unet.is_file() else edges_of_patches(vae)
    except (OSError, ValueError, KeyError, TypeError):
        return unknown
    flows = str(scheduler.get("_class_name", "")).startswith("FlowMatch")
    predicts = "the flow from picture to noise" if flows else str(scheduler.get("prediction_type", "epsilon"))
    if scheduler.get("rescale_betas_zero_snr"):
        predicts += ", zero terminal SNR"
    return BaseFacts(folder=folder, pipeline=unknown.pipeline, predicts=predicts, edges=edges, measured=True)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found
