"""The interpreter that trains on this machine: torch, its companions and the trainer, as they import there.

They are imported in processes of their own: doctor neither pays for torch nor dies of it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from simpletuner_lab.doctor.finding import Finding, ok, problem, warning
from simpletuner_trainer import __version__ as trainer_version

_PATIENCE_S: Final = 180.0

_TRAINER: Final = "simpletuner_trainer"
_ALONE: Final = ("torchvision",)
"""Examined apart: where one is broken it breaks others, which are then found as they are without it or with it."""

_NAMES: Final = {"pillow": "PIL"}
"""Distributions whose package is called otherwise."""

_ATTRIBUTES: Final = {
    "diffusers": "StableDiffusionPipeline",
    "transformers": "CLIPTextModel",
    "peft": "LoraConfig",
}
"""What the trainer takes from packages that import lazily: without it a broken one looks whole."""

_MARK: Final = "::found "
"""Begins each line of the probe's that is not a package's own chatter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package as an interpreter imports it."""

    name: str
    version: str
    missing: bool
    error: str
    build: str


def packages(python: str, environment: Mapping[str, str]) -> list[Finding]:
    """Whether the interpreter `python` (empty: this one) can train."""
    path = shutil.which(str(Path(python).expanduser()), path=environment.get("PATH")) or python or sys.executable
    wanted = _requirements()
    names = ["accelerate", *(name for name in wanted if name not in {"torch", *_ALONE})]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(_probe, path, (_TRAINER, "torch", *_ALONE), environment)
        second = pool.submit(_probe, path, names, environment)
        try:
            found = first.result() | second.result()
        except (OSError, ValueError) as error:
            fix = "name another interpreter as `python` in the settings of this machine's provider"
            return [problem("trainer", f"{path} does not run: {error}", fix)]
    return list(_judged(found, wanted, path))


def _judged(found: Mapping[str, Package], wanted: Mapping[str, Requirement], path: str) -> Iterator[Finding]:
    install = f"{path} -m pip install 'simpletuner-trainer[train]=={trainer_version}'"
    yield _trainer(found[_TRAINER], path, install)
    yield _torch(found["torch"], path, install)
    vision = found["torchvision"]
    unfit = bool(vision.error) and not vision.missing
    uninstall = f"{path} -m pip uninstall -y torchvision"
    if unfit:
        message = f"torchvision {vision.version} does not fit beside torch {found['torch'].version}: {vision.error}"
        yield problem(
            "torchvision", f"{message}; the trainer needs none, but diffusers imports one that is there", uninstall
        )
    else:
        there = f"torchvision {vision.version} imports" if not vision.missing else "none, and none is needed"
        yield ok("torchvision", there)
    whole = []
    for name, package in found.items():
        if name in {_TRAINER, "torch", *_ALONE}:
            continue
        judged = _package(package, wanted.get(name), uninstall if unfit else install)
        if judged is None:
            whole.append(f"{name} {package.version}")
        else:
            yield judged
    if whole:
        yield ok("packages", ", ".join(whole))


def _trainer(found: Package, path: str, install: str) -> Finding:
    if found.missing:
        return warning("trainer", f"{path} has no simpletuner-trainer; nothing trains on this machine", install)
    if found.error:
        return problem("trainer", f"simpletuner-trainer does not import in {path}: {found.error}", install)
    if found.version != trainer_version:
        message = f"{path} has simpletuner-trainer {found.version}, and this lab speaks with {trainer_version}"
        return problem("trainer", message, install)
    return ok("trainer", f"simpletuner-trainer {found.version} in {path}")


def _torch(found: Package, path: str, install: str) -> Finding:
    if found.missing:
        return warning("torch", f"{path} has no torch; nothing trains on this machine", install)
    if found.error:
        return problem(
            "torch",
            f"torch {found.version} does not import: {found.error}",
            f"{path} -m pip install --force-reinstall torch",
        )
    return ok("torch", f"torch {found.version}, {found.build}")


def _package(found: Package, wanted: Requirement | None, install: str) -> Finding | None:
    """None where it imports and is new enough."""
    if found.missing:
        return warning(found.name, f"{found.name} is not installed; nothing trains on this machine", install)
    if found.error:
        return problem(found.name, f"{found.name} {found.version} does not import: {found.error}", install)
    try:
        fits = (
            wanted is None or not found.version or wanted.specifier.contains(Version(found.version), prereleases=True)
        )
    except InvalidVersion:
        fits = True
    if not fits:
        return problem(found.name, f"{found.name} {found.version} is not {wanted}", install)
    return None


def _requirements() -> dict[str, Requirement]:
    """What the trainer's extra `train` asks for, by the name of the package."""
    try:
        listed = [Requirement(line) for line in requires("simpletuner-trainer") or ()]
    except PackageNotFoundError:
        listed = []
    trains = [entry for entry in listed if entry.marker is None or entry.marker.evaluate({"extra": "train"})]
    return {_NAMES.get(entry.name.lower(), re.sub(r"[-.]", "_", entry.name)): entry for entry in trains}


def _probe(path: str, names: Sequence[str], environment: Mapping[str, str]) -> dict[str, Package]:
    """Imports packages one after another in an interpreter, and tells how each went. One may end the process."""
    distributions = {package: distribution for distribution, package in _NAMES.items()}
    order = [[name, distributions.get(name, name.replace("_", "-")), _ATTRIBUTES.get(name, "")] for name in names]
    probe = (
        Path(__file__).with_name("_probe.py").read_text("utf-8")
    )  # as text: its folder is none of that interpreter's
    command = [path, "-c", probe, _MARK, json.dumps(order)]
    try:
        done = subprocess.run(
            command, cwd="/", env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=_PATIENCE_S, check=False,
        )  # fmt: skip
        output, end = done.stdout, f"ends the interpreter with {done.returncode}: {_last_line(done.stderr)}"
    except subprocess.TimeoutExpired as late:
        heard = late.stdout or b""
        output = heard.decode(errors="replace") if isinstance(heard, bytes) else heard
        end = f"takes more than {_PATIENCE_S:.0f} s to import"
    said = [json.loads(line.removeprefix(_MARK)) for line in output.splitlines() if line.startswith(_MARK)]
    if not said:
        raise ValueError(end)
    return _heard(said, names, end)


def _heard(said: Sequence[Mapping[str, Any]], names: Sequence[str], end: str) -> dict[str, Package]:
    """Each package as reported; the one at which the process ended as the cause, those after it as not reached."""
    found = {entry["name"]: Package(**entry) for entry in said if "name" in entry}
    begun = [entry["begins"] for entry in said if "begins" in entry]
    for name in names:
        if name not in found:
            error = end if name == begun[-1] else f"not reached, because {begun[-1]} {end}"
            found[name] = Package(name=name, version="", missing=False, error=error, build="")
    return {name: found[name] for name in names}


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no word"
