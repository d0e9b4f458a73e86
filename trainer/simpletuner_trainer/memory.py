"""What a run needs of the device's memory, by part, before it starts: an estimate, and what to change where it is not enough.

Rules: trainable numbers and their gradients are fp32; the optimizer's state is counted by what each of them keeps;
activations are what autograd keeps of one image of the largest micro-batch, looked at in one forward pass, times its
images. The libraries themselves, temporaries, and what the encoders take before training are not in it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import diffusers
import torch

from simpletuner_trainer import lora
from simpletuner_trainer.errors import OutOfMemory
from simpletuner_trainer.models import find_base, open_family

if TYPE_CHECKING:
    from simpletuner_trainer.spec import RunSpec, TrainConfig

DTYPES: Final = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Of the frozen weights, by `mixed_precision`."""

_NUMBER: Final = 4
"""Bytes of fp32."""
_KEPT_BY_OPTIMIZER: Final = {"adamw": 8, "prodigy": 16, "adamw_schedulefree": 8, "bnb-adamw8bit": 2}
"""Bytes for each trainable number: two moments; with Prodigy also its numerator and where it began."""
_LEAST_IN_8_BITS: Final = 4096
_CPU_ALLOCATOR: Final = "DefaultCPUAllocator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes by part."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int | None = None
    """None: not looked at yet."""

    @property
    def total(self) -> int:
        """All that is known."""
        return self.weights + self.gradients + self.optimizer + self.average + (self.activations or 0)

    def __str__(self) -> str:
        parts = {"weights": self.weights, "gradients": self.gradients, "optimizer": self.optimizer,
                 "average": self.average, "activations": self.activations}  # fmt: skip
        said = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in parts.items() if size)
        later = "" if self.activations is not None else "; activations are looked at when the run starts"
        return f"memory, estimated: {self.total / 1e6:,.1f} MB ({said}{later})"


def standing(parameters: Iterable[torch.nn.Parameter], config: TrainConfig) -> Need:
    """What stays through the whole of training."""
    every = list(parameters)
    learning = [parameter for parameter in every if parameter.requires_grad]
    numbers = sum(parameter.numel() for parameter in learning)
    return Need(
        weights=sum(parameter.numel() * parameter.element_size() for parameter in every),
        gradients=_NUMBER * numbers,
        optimizer=sum(_kept(parameter, config.optimizer) for parameter in learning),
        average=_NUMBER * numbers if config.use_ema else 0,
    )


def kept_of(forward: Callable[[], torch.Tensor], parameters: Iterable[torch.nn.Parameter]) -> int:
    """Bytes that autograd keeps of a forward pass beyond the parameters: each storage once."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    del result  # until here it held every storage, so no address was used twice
    return sum(kept.values())


def available(device: torch.device) -> int | None:
    """Free bytes of the device: of the GPU, or of this machine's memory. None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    return None


def relief(config: TrainConfig, device: torch.device) -> str:
    """What to change first, of what this config has not changed yet."""
    half, twice = config.train_batch_size // 2, 2 * config.gradient_accumulation_steps
    smaller = f"lower train_batch_size to {half} with gradient_accumulation_steps {twice}"
    steps = [
        (not config.gradient_checkpointing, "set gradient_checkpointing"),
        (half > 0, smaller),
        (device.type == "cuda" and config.mixed_precision == "no", "set mixed_precision to bf16"),
        (config.model_type == "full" and config.optimizer != "adafactor", "set optimizer to adafactor"),
        (config.model_type == "full", "set model_type to lora"),
        (config.use_ema, "leave use_ema out"),
        (True, "lower resolution"),
    ]
    first, *rest = [says for applies, says in steps if applies]
    return ", then ".join([f"first {first}", *rest]) if rest else first


@contextlib.contextmanager
def room(config: TrainConfig, device: torch.device, step: int) -> Iterator[None]:
    """`OutOfMemory` with what to change, in place of the allocator's own error."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and _CPU_ALLOCATOR not in str(error):
            raise
        says = str(error).splitlines()[0]
        raise OutOfMemory(f"the device's memory is full: {says}", relief(config, device), step=step) from error


def foreseen(run: RunSpec) -> Need | None:
    """What stays through training, from the base's config alone: no weights are loaded. None for a base that is not here.

    `BadSpec` where the base is not what the config says.
    """
    config = run.train.config
    if not run.has_base:
        return None
    base = find_base(config.pretrained_model_name_or_path, run.base_dir)
    if base.is_file():
        return None
    family = open_family(config.model_family, base, device=torch.device("cpu"))
    denoiser = _skeleton(base)
    if denoiser is None:
        return None
    if config.model_type == "lora":
        denoiser.to(DTYPES[config.mixed_precision])
        lora.attach(denoiser, config, family.lora_targets(config.lora_target))
    else:
        denoiser.requires_grad_(True)
    return standing(denoiser.parameters(), config)


def _skeleton(base: Path) -> torch.nn.Module | None:
    """The denoiser of a diffusers folder without its weights, on the meta device."""
    for part in ("unet", "transformer"):
        path = base / part / "config.json"
        if path.is_file():
            config = json.loads(path.read_text("utf-8"))
            with torch.device("meta"):
                made: torch.nn.Module = getattr(diffusers, config["_class_name"]).from_config(config)
            return made.requires_grad_(False)
    return None


def _kept(parameter: torch.nn.Parameter, optimizer: str) -> int:
    count = parameter.numel()
    if optimizer == "adafactor":  # a row and a column of a matrix, all of a vector
        count = count if parameter.dim() < 2 else count // parameter.shape[-1] + count // parameter.shape[-2]
        return _NUMBER * count
    if optimizer == "bnb-adamw8bit" and count < _LEAST_IN_8_BITS:
        return 2 * _NUMBER * count
    return _KEPT_BY_OPTIMIZER[optimizer] * count
