"""Model families: what the loop may ask of one, and where each is found. A new family is one file and one line here."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from PIL import Image

from simpletuner_trainer.base import SHIPPED, is_path
from simpletuner_trainer.errors import BadSpec, missing_package
from simpletuner_trainer.files import writing
from simpletuner_trainer.gate import gated_base, not_had
from simpletuner_trainer.spec import BUILTIN_TINY, SINGLE_FILE_SUFFIX

if TYPE_CHECKING:
    from simpletuner_trainer.spec import TrainConfig

FAMILIES: Final[Mapping[str, str]] = {
    "sd": "simpletuner_trainer.models.sd:StableDiffusion",
    "sdxl": "simpletuner_trainer.models.sdxl:StableDiffusionXL",
    "flux": "simpletuner_trainer.models.flux:Flux",
}
"""``module:class`` by `model_family`; a module is imported when it is asked for. Its pipeline: `base.PIPELINES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One picture to paint."""

    prompt: torch.Tensor
    """[rows, width]: what `Family.encode_prompt` says of the prompt."""
    negative: torch.Tensor
    """The same of the empty prompt."""
    size: tuple[int, int]
    """Width and height in pixels."""
    steps: int
    guidance: float
    seed: int


class Family(Protocol):
    """An architecture of latent diffusion: a frozen image encoder, a frozen text encoder, and a denoiser that learns."""

    identity: str
    """SHA-256 that tells this base from others: part of every cache key and of every checkpoint."""
    edge_multiple: int
    """Pixels: what image edges must be a multiple of."""
    native_edge: int
    """Pixels: edge of the square that the base was made for."""

    @classmethod
    def open(cls, base: Path, *, device: torch.device) -> Family:
        """Look at a diffusers folder, load nothing large yet. `BadSpec` when it is not of this family."""
        ...

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Mean and log-variance [2 * channels, h, w] of the latents of one image [3, H, W] in -1..1, fp32 on the CPU."""
        ...

    def encode_prompt(self, prompt: str) -> torch.Tensor:
        """Embeddings [rows, width] of one prompt in the family's own layout, fp32 on the CPU."""
        ...

    def release_encoders(self) -> None:
        """Free the memory of both encoders; they load again when they are asked."""
        ...

    def load_denoiser(self, dtype: torch.dtype) -> torch.nn.Module:
        """The part that learns, on the CPU, frozen."""
        ...

    def lora_targets(self, preset: str) -> Sequence[str]:
        """Suffixes of the module names that a LoRA preset adapts."""
        ...

    def latents(self, moments: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Draw latents [n, channels, h, w], as the denoiser sees them, from moments and standard normal noise."""
        ...

    def timesteps(self, quantiles: torch.Tensor, size: tuple[int, int], config: TrainConfig) -> torch.Tensor:
        """How noisy each image of a batch becomes [n], in the family's own unit, from uniform numbers in 0..1 (float64).

        `size` is height and width of the latents. A pure, rising function, so that numbers which are spread evenly over
        a batch (`schedule.quantiles`) give timesteps that are.
        """
        ...

    def losses(self, denoiser: torch.nn.Module, batch: Noised, config: TrainConfig) -> torch.Tensor:
        """The loss of each image [n], fp32."""
        ...

    def paint(self, denoiser: torch.nn.Module, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """Paint each request with the base's own scheduler and `denoiser` as it is now."""
        ...

    def save_lora(self, denoiser: torch.nn.Module, folder: Path, metadata: Mapping[str, str]) -> None:
        """Write the adapter as diffusers loads it (`load_lora_weights`), with `metadata` in the file's header."""
        ...

    def save_kohya(self, denoiser: torch.nn.Module, folder: Path, metadata: Mapping[str, str]) -> None:
        """Write the adapter under the names that kohya's sd-scripts and ComfyUI know (`spec.KOHYA_NAME`)."""
        ...

    def save_full(self, denoiser: torch.nn.Module, folder: Path) -> None:
        """Write a whole pipeline with the trained denoiser, as diffusers loads it (`from_pretrained`)."""
        ...

    def describe(self) -> Mapping[str, str]:
        """What `modelspec.*` and ``ss_*`` metadata say of the base."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Noised:
    """One micro-batch on the device; n images of one size."""

    latents: torch.Tensor
    """[n, channels, h, w]."""
    noise: torch.Tensor
    """Like the latents."""
    timesteps: torch.Tensor
    """[n]: what `Family.timesteps` says."""
    prompts: torch.Tensor
    """[n, rows, width]."""
    places: torch.Tensor
    """int64 [n, 6] in pixels: height and width of the image file, top and left of the crop in the scaled image, height
    and width of what was cut out."""


def open_family(name: str, base: Path, *, device: torch.device) -> Family:
    """Import a family's module and open a base with it."""
    module, _, class_name = FAMILIES[name].partition(":")
    try:
        family: type[Family] = getattr(importlib.import_module(module), class_name)
    except (ImportError, RuntimeError) as error:
        raise missing_package(error) from error
    return family.open(base, device=device)


def find_base(name: str, base_dir: Path) -> Path:
    """The base that ships, a folder or a .safetensors file (relative to the spec file), or a download from the Hub."""
    if name == BUILTIN_TINY:
        if not SHIPPED.is_dir():
            raise BadSpec(f"{BUILTIN_TINY} is not part of this installation", "install simpletuner-trainer anew")
        return SHIPPED
    folder = base_dir / Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.suffix == SINGLE_FILE_SUFFIX:
        if folder.is_file():
            return folder
        raise BadSpec(f"pretrained_model_name_or_path: the file {folder} is not there")
    if is_path(name):
        raise BadSpec(f"pretrained_model_name_or_path: the folder {folder} is not there")
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError

    network: Any = HfHubHTTPError.__bases__  # of whichever HTTP library this release is built on
    parts = ("unet", "transformer", "vae", "text_encoder*", "tokenizer*", "scheduler")
    wanted = ["model_index.json", *(f"{part}/*{end}" for part in parts for end in (".json", ".txt", ".safetensors"))]
    unwanted = ["*.fp16.*", "*.bf16.*", "*non_ema*"]
    try:
        with writing(f"the base {name}"):
            return Path(
                snapshot_download(
                    name,
                    allow_patterns=wanted,
                    ignore_patterns=unwanted,
                    endpoint=os.environ.get("HF_ENDPOINT") or None,
                )
            )
    except GatedRepoError as error:
        raise gated_base(name) from error
    except (*network, HFValidationError, OSError) as error:
        what = f"the base {name!r} is no folder and did not come from the Hugging Face Hub"
        hint = "check pretrained_model_name_or_path, and HF_TOKEN where the base is gated"
        raise not_had(what, error, hint) from error
