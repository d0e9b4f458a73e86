"""The wheel has what JupyterLab and the widgets load, so that whoever installs it needs no Node.js."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from what `make js` made."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        ".",
    ]
    environment = os.environ | {"SKIP_JUPYTER_BUILDER": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_it_has_both_halves_of_the_javascript(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    built = {path.name for path in (ROOT / "simpletuner_lab" / "static").iterdir()}
    assert {name.rpartition("/")[2] for name in names if name.startswith("simpletuner_lab/static/")} == built
    (package,) = [name for name in names if name.endswith("labextensions/simpletuner-lab/package.json")]
    folder = package.removesuffix("package.json")
    entry = json.loads(wheel.read(package))["jupyterlab"]["_build"]["load"]
    assert {f"{folder}{entry}", f"{folder}install.json", f"{folder}schemas/simpletuner-lab/plugin.json"} <= set(names)
    assert len(names) == len(set(names))
    assert not [name for name in names if name.startswith("simpletuner_lab/labextension")]


def test_it_switches_the_server_extension_on(wheel: zipfile.ZipFile) -> None:
    (name,) = [
        name for name in wheel.namelist() if name.endswith("etc/jupyter/jupyter_server_config.d/simpletuner_lab.json")
    ]
    assert json.loads(wheel.read(name)) == {"ServerApp": {"jpserver_extensions": {"simpletuner_lab": True}}}


def test_it_has_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    kinds = {".py", ".yaml", ".typed"}
    package = ROOT / "simpletuner_lab"
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.suffix in kinds or path.name == "py.typed" or path.parent.name == "LC_MESSAGES"
    }
    assert ours - set(wheel.namelist()) == set()
