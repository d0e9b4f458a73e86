"""What every base in a diffusers folder has in common: its parts on disk, an AutoencoderKL, and how results are written."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import diffusers
import torch
from diffusers import AutoencoderKL
from safetensors import SafetensorError

from simpletuner_trainer import kohya, lora
from simpletuner_trainer.base import PIPELINES, folder_identity, torn_weights
from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.spec import KOHYA_NAME

_ANEW: Final = "download or copy it anew"


class DiffusersFolder:
    """Half of a `models.Family`: a subclass adds the prompts, the loss, and the pipeline's call."""

    pipeline_class: ClassVar[Any]
    parts: ClassVar[tuple[str, ...]]
    """Folders of a base."""
    denoiser_part: ClassVar[str] = "unet"
    """The one of them that learns."""

    def __init__(self, base: Path, *, device: torch.device) -> None:
        self._base, self._device = base, device
        self._vae: Any = None
        self._text_encoder: Any = None
        self._tokenizer: Any = None
        vae = read_config(base, "vae")
        self._latent_channels = int(vae["latent_channels"])
        self._latent_scale = float(vae.get("scaling_factor") or 0.18215)
        self._latent_shift = float(vae.get("shift_factor") or 0.0)
        if vae.get("latents_mean") is not None or vae.get("latents_std") is not None:
            raise BadSpec("the base's VAE shifts its latents (latents_mean)", "such a base cannot be trained here")
        self._pixels_per_latent = 2 ** (len(vae["block_out_channels"]) - 1)
        self.identity = folder_identity(base, self.parts)

    @classmethod
    def open(cls, base: Path, *, device: torch.device) -> Self:
        """Check that `base` is a folder of this family's pipeline, with every part."""
        try:
            pipeline = json.loads((base / "model_index.json").read_text("utf-8")).get("_class_name", "")
        except (OSError, ValueError) as error:
            raise BadSpec(f"{base} is not a diffusers folder: {error}", "it needs a model_index.json") from error
        missing = [part for part in cls.parts if not (base / part).is_dir()]
        if pipeline != cls.pipeline_class.__name__:
            fitting = [name for name, made in PIPELINES.items() if made == pipeline]
            hint = f"set model_family to {fitting[0]}" if fitting else f"supported: {', '.join(PIPELINES.values())}"
            raise BadSpec(f"the base {base} is a {pipeline}, not a {cls.pipeline_class.__name__}", hint)
        if missing:
            raise BadSpec(f"the base {base} lacks {', '.join(missing)}", _ANEW)
        if damaged := torn_weights(base):
            raise BadSpec(f"the base {base} is damaged: {'; '.join(damaged)}", _ANEW)
        return cls(base, device=device)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Mean and log-variance [2 * channels, H / f, W / f]."""
        if self._vae is None:
            self._vae = self._load_vae()
        with torch.no_grad():
            moments = self._vae.encode(pixels[None].to(self._device)).latent_dist.parameters
        return torch.as_tensor(moments[0].float().cpu())

    def release_encoders(self) -> None:
        """Drop them; validation loads the VAE again, which costs less than holding it through training."""
        self._vae = self._text_encoder = self._tokenizer = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def latents(self, moments: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Sample the VAE's posterior (log-variance clamped as diffusers does), shift and scale."""
        mean, log_variance = moments.chunk(2, dim=1)
        drawn = mean + torch.exp(0.5 * log_variance.clamp(-30.0, 20.0)) * noise
        return (drawn - self._latent_shift) * self._latent_scale

    def save_lora(self, denoiser: torch.nn.Module, folder: Path, metadata: Mapping[str, str]) -> None:
        """``pytorch_lora_weights.safetensors``; alpha and targets travel in its header."""
        self.pipeline_class.save_lora_weights(
            folder,
            save_function=lora.writer({self.denoiser_part: denoiser}, metadata),
            **{f"{self.denoiser_part}_lora_layers": lora.state_of(denoiser)},
        )

    def save_kohya(self, denoiser: torch.nn.Module, folder: Path, metadata: Mapping[str, str]) -> None:
        """The file of `kohya`, of a U-Net."""
        kohya.write(folder / KOHYA_NAME, kohya.unet(denoiser), {"ss_network_module": "networks.lora", **metadata})

    def save_full(self, denoiser: torch.nn.Module, folder: Path) -> None:
        """The base's folder with the trained denoiser in it."""
        for part in self.parts:
            if part != self.denoiser_part:
                shutil.copytree(self._base / part, folder / part, dirs_exist_ok=True)
        shutil.copyfile(self._base / "model_index.json", folder / "model_index.json")
        denoiser.save_pretrained(folder / self.denoiser_part)

    def _load_scheduler(self) -> Any:
        """The one that the base paints with."""
        scheduler_class = getattr(diffusers, read_config(self._base, "scheduler")["_class_name"])
        return scheduler_class.from_pretrained(self._base, subfolder="scheduler")

    def _load_vae(self) -> Any:
        with loading("vae"):
            vae = AutoencoderKL.from_pretrained(self._base, subfolder="vae", torch_dtype=torch.float32)
        return vae.to(self._device).requires_grad_(False)


@contextlib.contextmanager
def loading(part: str) -> Iterator[None]:
    """`BadSpec` where the files of a part cannot be loaded: absent, damaged, or not of the shapes its config says."""
    try:
        yield
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadSpec(f"the base's {part} cannot be loaded: {why}", _ANEW) from error


def read_config(base: Path, part: str) -> dict[str, Any]:
    """A part's configuration; `BadSpec` when it cannot be read."""
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    try:
        config: dict[str, Any] = json.loads((base / part / name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadSpec(f"the base's {part}/{name} cannot be read: {error}") from error
    return config
