"""Run in another interpreter, which may have nothing of ours: imports packages one by one and tells how each went.

`python -c TEXT MARK '[["torch", "torch", ""], ["PIL", "pillow", ""]]'`: name, distribution, and what to take from it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import sys
from typing import Any


def root(error: BaseException) -> BaseException:
    """What an error came from: packages that import lazily wrap the true one."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def build_of(torch: Any) -> str:
    """What a torch computes on."""
    for label, release in (("CUDA", torch.version.cuda), ("ROCm", getattr(torch.version, "hip", None))):
        if release:
            return f"{label} {release}, {'a GPU is there' if torch.cuda.is_available() else 'no GPU is seen'}"
    return "CPU build"


def look(name: str, distribution: str, attribute: str) -> dict[str, Any]:
    """One package."""
    found = {"name": name, "version": "", "missing": False, "error": "", "build": ""}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found["version"] = importlib.metadata.version(distribution)
    try:
        module = importlib.import_module(name)
        if attribute:
            getattr(module, attribute)
        found["version"] = str(getattr(module, "__version__", found["version"]))
        if name == "torch":
            found["build"] = build_of(module)
    except BaseException as error:  # noqa: BLE001 - whatever an import can raise is what is asked for
        found["missing"] = isinstance(error, ModuleNotFoundError) and error.name == name
        found["error"] = f"{type(error).__name__}: {root(error)}"
    return found


def main(mark: str, order: str) -> None:
    """Tells what begins before it begins: the process may end there."""
    for name, distribution, attribute in json.loads(order):
        sys.stdout.write(mark + json.dumps({"begins": name}) + "\n")
        sys.stdout.flush()
        sys.stdout.write(mark + json.dumps(look(name, distribution, attribute)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
