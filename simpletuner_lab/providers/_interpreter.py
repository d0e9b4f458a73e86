"""What a Python interpreter could train with, asked of it cheaply: nothing heavy is imported, torch least of all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simpletuner_lab.core.errors import ProviderUnavailable
from simpletuner_trainer import __version__ as trainer_version

_TIME_LIMIT_S: Final = 60.0

_QUESTION: Final = """
import importlib.metadata, importlib.util, json, os, platform, subprocess, sys

def version(module, distribution):
    if importlib.util.find_spec(module) is None:
        return None
    if module == "simpletuner_trainer":
        import simpletuner_trainer
        return simpletuner_trainer.__version__
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""

def gpus():
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return []
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return answer.stdout.splitlines() if answer.returncode == 0 else []

found = {name: version(name, name.replace("_", "-")) for name in ("torch", "diffusers", "peft", "simpletuner_trainer")}
cuda = found["torch"] is not None and not found["torch"].endswith("+cpu")
print(json.dumps({
    "packages": found,
    "gpus": gpus() if cuda else [],
    "mps": sys.platform == "darwin" and platform.machine() == "arm64",
    "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """An interpreter's packages and the hardware it would use."""

    missing: tuple[str, ...]
    trainer_version: str
    """Empty where the trainer is not installed."""
    device: str
    """`cuda`, `mps` or `cpu`."""
    device_label: str

    @property
    def problem(self) -> str:
        """Why nothing can be trained with it; empty when all is there."""
        if self.missing:
            return f"has no {', '.join(self.missing)}"
        if self.trainer_version != trainer_version:
            return f"has simpletuner-trainer {self.trainer_version}, and this lab speaks with {trainer_version}"
        return ""


class Python:
    """The interpreter that trainers run in; what it answers is kept once it is complete."""

    def __init__(self, named: str, environment: Mapping[str, str]) -> None:
        """`named` is a path, or a name on PATH, or empty for the lab's own; `environment` is what a trainer gets."""
        self._environment = dict(environment)
        self._answer: Interpreter | None = None
        self.path = _find(named, environment.get("PATH"))

    @property
    def is_there(self) -> bool:
        """Whether it is a program that may be run, wherever from."""
        return Path(self.path).is_absolute() and Path(self.path).is_file() and os.access(self.path, os.X_OK)

    def ask(self) -> Interpreter:
        """Runs it once.

        Raises:
            ProviderUnavailable: it does not run.
        """
        if self._answer is not None:
            return self._answer
        try:
            answer = subprocess.run(
                [self.path, "-c", _QUESTION], cwd="/", env=self._environment, stdin=subprocess.DEVNULL,
                capture_output=True, timeout=_TIME_LIMIT_S, check=True,
            )  # fmt: skip
            found = _read(json.loads(answer.stdout))
        except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            raise ProviderUnavailable(
                f"the interpreter {self.path} does not run: {error}", hint="name another in this provider's settings"
            ) from error
        if not found.problem:
            self._answer = found  # what is missing now may be installed the next minute
        return found

    @property
    def install_hint(self) -> str:
        """The command that brings what is missing."""
        return f"{self.path} -m pip install 'simpletuner-trainer[train]=={trainer_version}'"


def _find(named: str, path: str | None) -> str:
    if not named:
        return sys.executable
    expanded = str(Path(named).expanduser())
    return shutil.which(expanded, path=path) or expanded


def _read(found: dict[str, Any]) -> Interpreter:
    device, label = _device(found["gpus"], mps=found["mps"], cores=found["cores"])
    return Interpreter(
        missing=tuple(name for name, version in found["packages"].items() if version is None),
        trainer_version=found["packages"]["simpletuner_trainer"] or "",
        device=device,
        device_label=label,
    )


def _device(gpus: list[str], *, mps: bool, cores: int) -> tuple[str, str]:
    if gpus:
        return "cuda", gpus[0].strip() if len(gpus) == 1 else f"{len(gpus)} x {gpus[0].strip()}"
    if mps:
        return "mps", "Apple GPU"
    return "cpu", f"CPU, {cores} core{'s' if cores > 1 else ''}"
