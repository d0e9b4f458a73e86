"""What a push of the image reads: cog.yaml, the requirements, and the schema that `cog build` would write."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator
from packaging.requirements import Requirement

from simpletuner_lab.testing.replicate_emulator import cog_model

ROOT = Path(__file__).resolve().parents[2]
TRAINER = ROOT / "trainer"
PYTHON = ROOT / ".venv-cog16" / "bin" / "python"

TEXT = {"type": "string"}
TEXTS = {"type": ["array", "null"], "items": TEXT}
COG_YAML = {
    "type": "object",
    "additionalProperties": False,
    "required": ["build", "predict"],
    "properties": {
        "build": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "gpu": {"type": "boolean"},
                "cuda": TEXT,
                "cudnn": TEXT,
                "python_version": {"type": ["string", "number"]},
                "python_requirements": TEXT,
                "system_packages": TEXTS,
                "pre_install": TEXTS,
                "run": {"type": ["array", "null"], "items": {"type": ["string", "object"]}},
            },
        },
        "image": TEXT,
        "predict": TEXT,
        "environment": TEXTS,
    },
}
"""The members of Cog's published `config_schema_v1.0.json` that are there in all its versions, with their types."""


@pytest.mark.skipif(
    not PYTHON.exists() and not os.environ.get("CI_REQUIRE_ALL"), reason="no Cog 0.16 here: make .venv-cog16/.stamp"
)
@pytest.mark.parametrize("folder", [TRAINER, ROOT / "tests" / "testing" / "cog_model"], ids=["trainer", "test-model"])
def test_the_schema_is_what_cog_makes_of_the_predictor(folder: Path) -> None:
    """Where it is not: `python -m cog.command.openapi_schema > .cog/openapi_schema.json` there, with that Python."""
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(PYTHON), "-m", "cog.command.openapi_schema"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((folder / ".cog" / "openapi_schema.json").read_text("utf-8"))


def test_the_inputs_and_the_output_are_those_of_the_provider() -> None:
    (version,) = cog_model("ann/simpletuner-trainer", TRAINER).versions
    assert (list(version.inputs), version.required) == (["data", "spec", "secrets", "tag"], ("spec",))
    assert [name for name, one in version.inputs.items() if one.get("x-cog-secret")] == ["secrets"]
    assert (version.inputs["data"]["format"], version.output["type"]) == ("uri", "string")


@pytest.mark.parametrize("folder", [TRAINER, ROOT / "tests" / "testing" / "cog_model"], ids=["trainer", "test-model"])
def test_cog_yaml_is_what_cog_reads(folder: Path) -> None:
    config = yaml.safe_load((folder / "cog.yaml").read_text("utf-8"))
    assert [error.message for error in Draft7Validator(COG_YAML).iter_errors(config)] == []
    file, _, name = config["predict"].partition(":")
    assert f"class {name}(" in (folder / file).read_text("utf-8")
    assert (folder / config["build"].get("python_requirements", file)).is_file()


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_the_image_has_what_the_trainer_needs_at_the_tested_versions() -> None:
    extras = tomllib.loads((TRAINER / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    needed = {Requirement(one).name for extra in extras.values() for one in extra}
    image, tested = pins(TRAINER / "requirements-cog.txt"), pins(ROOT / "constraints.txt")
    assert set(image) == needed
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert f"TORCH       ?= torch=={image.pop('torch')}\n" in makefile
    assert image == {name: tested[name] for name in image}
