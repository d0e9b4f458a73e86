"""What learns: the trainable parameters, their optimizer, clipping, the loss scale of fp16, and the average of the weights."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch

from simpletuner_trainer.errors import MissingPackage

if TYPE_CHECKING:
    from simpletuner_trainer.spec import TrainConfig

_CLASSES: Final = {
    "adamw": ("torch.optim", "AdamW", "train"),
    "adafactor": ("transformers.optimization", "Adafactor", "train"),
    "prodigy": ("prodigyopt", "Prodigy", "prodigy"),
    "adamw_schedulefree": ("schedulefree", "AdamWScheduleFree", "schedulefree"),
    "bnb-adamw8bit": ("bitsandbytes.optim", "AdamW8bit", "8bit"),
}
"""Module, class, and the extra of this package that brings it, by the config's `optimizer`."""

_EMA_WARMUP: Final = 10


def optimizer_class(name: str) -> Any:
    """The class behind the config's `optimizer`; `MissingPackage` says what to install."""
    module, class_name, extra = _CLASSES[name]
    try:
        return getattr(importlib.import_module(module), class_name)
    except (ImportError, RuntimeError) as error:
        message = f"optimizer {name} needs the package {module.partition('.')[0]}, which cannot be imported: {error}"
        raise MissingPackage(message, f"pip install 'simpletuner-trainer[{extra}]'") from error


def make_optimizer(parameters: Sequence[torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer that the config names. Its learning rate is set anew at every step."""
    cls = optimizer_class(config.optimizer)
    common: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.adam_weight_decay}
    adam = {**common, "betas": (config.adam_beta1, config.adam_beta2), "eps": config.adam_epsilon}
    more = dict(map(_setting, config.optimizer_config))
    made: torch.optim.Optimizer
    match config.optimizer:
        case "adamw":
            made = cls(parameters, fused=parameters[0].device.type in ("cpu", "cuda"), **adam, **more)
        case "adafactor":  # by the learning rate as it is, not by one of its own
            made = cls(parameters, scale_parameter=False, relative_step=False, warmup_init=False, **common, **more)
        case "prodigy":
            usual = {"use_bias_correction": True, "safeguard_warmup": config.lr_warmup_steps > 0}
            made = cls(parameters, **adam, **{**usual, **more})
        case _:
            made = cls(parameters, **adam, **more)
    return made


def _setting(setting: str) -> tuple[str, float | int | bool]:
    name, _, value = setting.partition("=")
    if value in ("true", "false"):
        return name, value == "true"
    number = float(value)
    return name, int(number) if name == "min_8bit_size" else number


class Learner:
    """The trainable parameters of a denoiser and everything that changes them.

    `state` and `restore` carry all of it, bit for bit, through a checkpoint.
    """

    def __init__(self, denoiser: torch.nn.Module, config: TrainConfig) -> None:
        self._names = [name for name, parameter in denoiser.named_parameters() if parameter.requires_grad]
        self._parameters = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
        self._config = config
        self._optimizer = make_optimizer(self._parameters, config)
        self._averages_itself = config.optimizer == "adamw_schedulefree"
        self._to_train_mode()
        device = self._parameters[0].device
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.mixed_precision == "fp16")
        self._average = [parameter.detach().clone() for parameter in self._parameters] if config.use_ema else []

    @property
    def size(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self._parameters)

    @property
    def identity(self) -> str:
        """SHA-256 of what a `state` is made of: it fits no learner of another identity."""
        shapes = [[name, list(parameter.shape)] for name, parameter in zip(self._names, self._parameters, strict=True)]
        parts = [shapes, self._config.optimizer, self._config.use_ema, self.scales_loss]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def scales_loss(self) -> bool:
        """Whether a gradient that is not finite means a smaller loss scale next time (fp16), not divergence."""
        return self._scaler.is_enabled()

    @property
    def is_finite(self) -> bool:
        """Whether every trained number is one: an update can overflow after a gradient that was finite."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self._parameters)

    @property
    def gradients(self) -> list[torch.Tensor]:
        """What `backward` has gathered, before clipping: the same shapes in every process of a run."""
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of one micro-batch."""
        self._scaler.scale(loss).backward()

    def clip(self) -> float:
        """Clip the gradients; their norm before that."""
        self._scaler.unscale_(self._optimizer)
        limit = self._config.max_grad_norm or float("inf")
        if self._config.grad_clip_method == "norm":
            return float(torch.nn.utils.clip_grad_norm_(self._parameters, limit))
        norm = float(torch.nn.utils.get_total_norm(self.gradients))
        torch.nn.utils.clip_grad_value_(self._parameters, limit)
        return norm

    def update(self, step: int, lr: float) -> None:
        """Change the weights, then their average. `step` counts from 0."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average:
            decay = min(self._config.ema_decay, (1 + step) / (_EMA_WARMUP + step))
            with torch.no_grad():
                torch._foreach_lerp_(self._average, list(self._parameters), 1.0 - decay)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights in place for as long as the block runs: of EMA, or Schedule-Free's own.

        Afterwards the trained ones are back bit for bit, which the optimizer's own way back does not promise.
        """
        if not self._average and not self._averages_itself:
            yield
            return
        trained = [parameter.detach().clone() for parameter in self._parameters]
        try:
            if self._averages_itself:
                self._optimizer.eval()
            else:
                self._assign(self._average)
            yield
        finally:
            self._assign(trained)
            self._to_train_mode()

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, the optimizer's state and the average by parameter, and the numbers of optimizer and loss scale."""
        state: dict[str, torch.Tensor] = {}
        for name, parameter in zip(self._names, self._parameters, strict=True):
            state[f"weight/{name}"] = parameter.detach()
            for key, value in self._optimizer.state.get(parameter, {}).items():
                kind = "tensor" if isinstance(value, torch.Tensor) else "number"
                state[f"{kind}/{key}/{name}"] = _packed(value)
        for key, value in self._optimizer.param_groups[0].items():
            if isinstance(value, bool | int | float) and key != "lr" and value != self._optimizer.defaults.get(key):
                state[f"group/{key}"] = _packed(value)
        state |= {f"average/{name}": average for name, average in zip(self._names, self._average, strict=False)}
        for key, value in self._scaler.state_dict().items():
            state[f"scaler/{key}"] = torch.tensor(float(value), dtype=torch.float64)
        return state

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over a `state`; the parameters are those it was made from."""
        self._assign([state[f"weight/{name}"] for name in self._names])
        index_of = {name: index for index, name in enumerate(self._names)}
        groups = self._optimizer.state_dict()["param_groups"]
        of_parameters: defaultdict[int, dict[str, Any]] = defaultdict(dict)
        for path, value in state.items():
            kind, _, key = path.partition("/")
            key, _, name = key.partition("/")
            if kind in ("tensor", "number"):
                of_parameters[index_of[name]][key] = value if kind == "tensor" else value.item()
            elif kind == "group":
                groups[0][key] = value.item()
        self._optimizer.load_state_dict({"state": dict(of_parameters), "param_groups": groups})
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

    def _to_train_mode(self) -> None:
        if self._averages_itself:
            for group in self._optimizer.param_groups:
                group["train_mode"] = True


def _packed(value: Any) -> torch.Tensor:
    """A tensor as it is, a number as a tensor from which `item` gives the same number of the same type."""
    if isinstance(value, torch.Tensor):
        return value
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
