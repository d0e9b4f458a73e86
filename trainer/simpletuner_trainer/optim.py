"""What learns: the trainable parameters, AdamW, clipping, the loss scale of fp16, and the average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from simpletuner_trainer.spec import TrainConfig

_MOMENTS: Final = ("exp_avg", "exp_avg_sq")
_EMA_WARMUP: Final = 10


class Learner:
    """The trainable parameters of a denoiser and everything that changes them.

    `state` and `restore` carry all of it, bit for bit, through a checkpoint.
    """

    def __init__(self, denoiser: torch.nn.Module, config: TrainConfig) -> None:
        self._names = [name for name, parameter in denoiser.named_parameters() if parameter.requires_grad]
        self._parameters = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
        self._config = config
        device = self._parameters[0].device
        self._adamw = torch.optim.AdamW(
            self._parameters,
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            eps=config.adam_epsilon,
            weight_decay=config.adam_weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.mixed_precision == "fp16")
        self._average = [parameter.detach().clone() for parameter in self._parameters] if config.use_ema else []

    @property
    def size(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self._parameters)

    @property
    def scales_loss(self) -> bool:
        """Whether a gradient that is not finite means a smaller loss scale next time (fp16), not divergence."""
        return self._scaler.is_enabled()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of one micro-batch."""
        self._scaler.scale(loss).backward()

    def clip(self) -> float:
        """Clip the gradients; their norm before that."""
        self._scaler.unscale_(self._adamw)
        limit = self._config.max_grad_norm or float("inf")
        return float(torch.nn.utils.clip_grad_norm_(self._parameters, limit))

    def update(self, step: int, lr: float) -> None:
        """Change the weights, then their average. `step` counts from 0."""
        for group in self._adamw.param_groups:
            group["lr"] = lr
        self._scaler.step(self._adamw)
        self._scaler.update()
        self._adamw.zero_grad(set_to_none=True)
        if self._average:
            decay = min(self._config.ema_decay, (1 + step) / (_EMA_WARMUP + step))
            with torch.no_grad():
                torch._foreach_lerp_(self._average, list(self._parameters), 1.0 - decay)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights in place for as long as the block runs (nothing without EMA)."""
        if not self._average:
            yield
            return
        trained = [parameter.detach().clone() for parameter in self._parameters]
        try:
            self._assign(self._average)
            yield
        finally:
            self._assign(trained)

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, both moments and the average by name, and the scalars of AdamW and of the loss scale."""
        state: dict[str, torch.Tensor] = {}
        for name, parameter in zip(self._names, self._parameters, strict=True):
            state[f"weight/{name}"] = parameter.detach()
            moments = self._adamw.state.get(parameter, {})
            state |= {f"{moment}/{name}": moments[moment] for moment in _MOMENTS if moment in moments}
            if "step" in moments:
                state["adamw_step"] = moments["step"]
        state |= {f"average/{name}": average for name, average in zip(self._names, self._average, strict=False)}
        for key, value in self._scaler.state_dict().items():
            state[f"scaler/{key}"] = torch.tensor(float(value), dtype=torch.float64)
        return state

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over a `state`; the parameters are those it was made from."""
        self._assign([state[f"weight/{name}"] for name in self._names])
        if "adamw_step" in state:
            for name, parameter in zip(self._names, self._parameters, strict=True):
                moments = {moment: state[f"{moment}/{name}"].to(parameter.device) for moment in _MOMENTS}
                on_device = state["adamw_step"].to(parameter.device).clone()
                self._adamw.state[parameter] = {"step": on_device, **moments}
        for name, average in zip(self._names, self._average, strict=False):
            average.copy_(state[f"average/{name}"])
        scale = {key.removeprefix("scaler/"): value.item() for key, value in state.items() if key.startswith("scaler/")}
        if scale:
            self._scaler.load_state_dict({key: int(value) if "track" in key or "interval" in key else value
                                          for key, value in scale.items()})  # fmt: skip

    @torch.no_grad()
    def _assign(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)
