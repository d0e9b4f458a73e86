"""What came of a job, for those who go on in Python: its curve, its files, and the model in diffusers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self, overload

import numpy as np
from numpy.typing import NDArray

from simpletuner_lab.client import Client
from simpletuner_lab.core.errors import InvalidRequest, LabError, OutputNotFound
from simpletuner_lab.core.job import JobState
from simpletuner_lab.services.views import JobView, MetricsView, OutputsView
from simpletuner_trainer import spec

_LORA: Final = "pytorch_lora_weights.safetensors"


class JobFailed(LabError):
    """A job that was waited for failed, or was cancelled. `job` is its last state, `reason` the failure's code."""

    code: ClassVar[str] = "job_failed"
    status: ClassVar[int] = 409

    def __init__(self, job: JobView) -> None:
        said = "" if job.error is None else f": {job.error.message}"
        super().__init__(
            f"job {job.job_id} {_ENDED[job.status]}{said}", hint="" if job.error is None else job.error.hint
        )
        self.job = job
        self.reason = str(job.status) if job.error is None else job.error.code


_ENDED: Final = {JobState.FAILED: "failed", JobState.CANCELLED: "was cancelled"}


class PackageMissing(LabError):
    """What this needs is not installed here, or is broken."""

    code: ClassVar[str] = "missing_package"


def finished(job: JobView) -> JobView:
    """The job itself, if it is completed.

    Raises:
        JobFailed: it ended in another way.
    """
    if job.status in _ENDED:
        raise JobFailed(job)
    return job


# ------------------------------------------------------------ the curve


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metrics:
    """A job's curve at full resolution: one entry an optimiser step, NaN where a value is not known."""

    job_id: str
    step: NDArray[np.int64]
    loss: NDArray[np.float64]
    lr: NDArray[np.float64]
    grad_norm: NDArray[np.float64]

    @classmethod
    def of(cls, view: MetricsView) -> Self:
        """The arrays of a view."""
        return cls(
            job_id=view.job_id,
            step=np.array(view.step, np.int64),
            loss=np.array(view.loss, np.float64),
            lr=np.array(view.lr, np.float64),
            grad_norm=np.array(view.grad_norm, np.float64),
        )

    def __len__(self) -> int:
        return len(self.step)

    def __repr__(self) -> str:
        return f"<metrics of job {self.job_id}: {len(self)} steps of loss, lr, grad_norm>"

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each step.

        Raises:
            PackageMissing: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise PackageMissing("pandas is not installed here", hint="pip install pandas") from error
        columns = {"loss": self.loss, "lr": self.lr, "grad_norm": self.grad_norm}
        return pd.DataFrame(columns, index=pd.Index(self.step, name="step"))


# ------------------------------------------------------------ files


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeliveredFiles(Sequence[Path]):
    """Paths of what a job delivered, in order; `verified` once each was compared with its checksum on arrival."""

    paths: tuple[Path, ...]
    folder: Path
    verified: bool

    @classmethod
    def of(cls, view: OutputsView) -> Self:
        """The files of a view."""
        folder = Path(view.folder)
        return cls(paths=tuple(folder / output.path for output in view.outputs), folder=folder, verified=view.verified)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | Sequence[Path]:
        return self.paths[index]

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        state = "every checksum verified" if self.verified else "not verified yet"
        lines = [f"{len(self)} files in {self.folder}, {state}"]
        return "\n".join([*lines, *(f"  {path.relative_to(self.folder)}" for path in self)])


# ------------------------------------------------------------ the model


def load_pipeline(client: Client, job_id: str, **options: Any) -> Any:
    """The job's model as a diffusers pipeline: the base with the LoRA on it, or the fine-tuned model itself.

    `options` go to diffusers' `from_pretrained` (`torch_dtype=`, `safety_checker=None`). `pipeline.disable_lora()`
    shows the base beside it.

    Raises:
        OutputNotFound: the job has no verified result, or its files lie on another machine.
        PackageMissing: torch or diffusers is not installed here.
        InvalidRequest: the base is not to be found.
    """
    delivered = client.outputs(job_id)
    if not delivered.verified:
        raise OutputNotFound(f"job {job_id} has no result", hint="wait until it is completed")
    folder = Path(delivered.folder)
    if not folder.is_dir():
        raise OutputNotFound(f"{folder} is not on this machine", hint="copy it from the machine of the server")
    plan = client.detail(job_id).plan
    try:
        config = spec.parse(plan.config, plan.dataloader).config
    except spec.SpecError as error:
        raise InvalidRequest(
            f"our trainer did not make {folder}", hint="load its files as its own trainer says"
        ) from error
    diffusers = _diffusers()
    lora = config.model_type == "lora"
    source = _base(config.pretrained_model_name_or_path) if lora else folder
    with _only_errors("diffusers", "transformers"):
        pipeline = diffusers.from_pretrained(str(source), **options)
        if lora:
            pipeline.load_lora_weights(str(folder), weight_name=_LORA)
    return pipeline


@contextlib.contextmanager
def _only_errors(*libraries: str) -> Iterator[None]:
    """What they say while they load is no news here: which encoders a LoRA leaves alone, which packages are not there."""
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in libraries}
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)


def _diffusers() -> Any:
    try:
        from diffusers import DiffusionPipeline
    except (ImportError, RuntimeError) as error:  # RuntimeError: torch is there, and something beside it is broken
        raise _missing(error) from error
    return DiffusionPipeline


def _base(name: str) -> Path:
    """Where the trainer itself finds the base."""
    try:
        from simpletuner_trainer.errors import TrainerError
        from simpletuner_trainer.models import find_base
    except (ImportError, RuntimeError) as error:
        raise _missing(error) from error
    try:
        base = find_base(name, Path.cwd())
    except TrainerError as error:
        raise InvalidRequest(error.message, hint=error.hint) from error
    if base.is_file():
        hint = "open it with from_single_file of its diffusers pipeline, then load_lora_weights"
        raise InvalidRequest(f"the base {base.name} is one file, not a folder", hint=hint)
    return base


def _missing(error: Exception) -> PackageMissing:
    return PackageMissing(
        f"the model cannot be loaded here: {error}",
        hint="pip install 'simpletuner-lab[local]'; stcloud doctor says what is broken",
    )
