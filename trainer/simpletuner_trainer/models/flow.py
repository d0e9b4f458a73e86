"""Flow matching (arXiv 2210.02747, 2403.03206): a straight line from the picture at sigma 0 to noise at sigma 1.

The denoiser learns the line's direction, noise minus latents. How often which sigma is trained is the config's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simpletuner_trainer.spec import TrainConfig

_SHIFTS: Final = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
"""diffusers' own, where the base's scheduler does not say."""


def sigmas(quantiles: torch.Tensor, config: TrainConfig, *, auto_shift: float) -> torch.Tensor:
    """Sigmas of `quantiles` (uniform in 0..1): uniform too, or the sigmoid of a scaled normal; then shifted; fp32 [n].

    `auto_shift` is the shift that `flow_schedule_auto_shift` means here.
    """
    drawn = quantiles if config.flow_use_uniform_schedule else _logit_normal(quantiles, config.flow_sigmoid_scale)
    shift = auto_shift if config.flow_schedule_auto_shift else config.flow_schedule_shift
    return (shifted(drawn, shift) if shift > 0 else drawn).float()


def shifted(values: torch.Tensor, shift: float) -> torch.Tensor:
    """Sigmas moved towards noise (shift above 1) or towards the picture; 0 and 1 stay."""
    return shift * values / (1.0 + (shift - 1.0) * values)


def shift_for(tokens: int, scheduler: Mapping[str, Any]) -> float:
    """The shift that a base's scheduler paints a picture of so many tokens with.

    One for all sizes (schnell), or a line through two points (`use_dynamic_shifting`: dev), or e to that line.
    """
    if not scheduler.get("use_dynamic_shifting", False):
        return float(scheduler.get("shift", 1.0))
    known = {key: float(scheduler.get(key, value)) for key, value in _SHIFTS.items()}
    slope = (known["max_shift"] - known["base_shift"]) / (known["max_image_seq_len"] - known["base_image_seq_len"])
    mu = known["base_shift"] + slope * (tokens - known["base_image_seq_len"])
    return mu if scheduler.get("time_shift_type") == "linear" else math.exp(mu)


def noisy(latents: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """The point of the line at each image's sigma."""
    spread = levels.reshape(-1, *(1,) * (latents.ndim - 1))
    return (1.0 - spread) * latents + spread * noise


def _logit_normal(quantiles: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.sigmoid(scale * torch.special.ndtri(quantiles))
