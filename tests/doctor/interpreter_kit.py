"""An interpreter whose packages are stand-ins that import at once: for tests of how they are looked at."""

from __future__ import annotations

import sys
from pathlib import Path

from simpletuner_trainer import __version__

WHOLE = {
    "simpletuner_trainer": f"__version__ = '{__version__}'",
    "torch": "__version__ = '2.6.0'\nclass version:\n    cuda = None",
    **dict.fromkeys(("accelerate", "boto3", "huggingface_hub", "numpy", "PIL", "safetensors"), "__version__ = '999'"),
    "diffusers": "__version__ = '999'\nStableDiffusionPipeline = 1",
    "transformers": "__version__ = '999'\nCLIPTextModel = 1",
    "peft": "__version__ = '999'\nLoraConfig = 1",
}
"""Packages that import at once, for an interpreter that has no others."""


def interpreter(folder: Path, **changed: str | None) -> str:
    """A Python with these packages alone; None leaves one out."""
    for name, text in (WHOLE | changed).items():
        if text is not None:
            (folder / "packages" / name).mkdir(parents=True)
            (folder / "packages" / name / "__init__.py").write_text(text)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}/packages" exec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    return str(python)
