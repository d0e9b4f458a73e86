"""The interpreter that trains: real imports in processes of their own, of packages that are broken in real ways."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from simpletuner_lab.doctor import packages as examined
from simpletuner_lab.doctor.finding import Finding, Status
from simpletuner_lab.doctor.packages import packages
from tests.doctor.interpreter_kit import interpreter

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/tmp"}

CUDA = """
__version__ = '2.6.0'
class version:
    cuda = '12.4'
class cuda:
    is_available = staticmethod(lambda: False)
"""


def found(folder: Path, **changed: str | None) -> dict[str, Finding]:
    return {finding.name: finding for finding in packages(interpreter(folder, **changed), ENVIRONMENT)}


def test_all_is_well(tmp_path: Path) -> None:
    findings = found(tmp_path)
    assert {finding.status for finding in findings.values()} == {Status.OK}
    assert list(findings) == ["trainer", "torch", "torchvision", "packages"]
    assert "torch 2.6.0, CPU build" in findings["torch"].message
    assert "none is needed" in findings["torchvision"].message


def test_a_torchvision_of_another_torch_beside_the_real_one(tmp_path: Path) -> None:
    """The classic: its C++ operators were built for a torch that is not there."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(
        "__version__ = '0.21.0'\nimport torch\ntorch.library.Library('torchvision', 'FRAGMENT')\n"
        "torch.library.register_fake('torchvision::nms')(lambda *a: None)\n"
    )
    (tmp_path / "torchvision-0.21.0.dist-info").mkdir()
    (tmp_path / "torchvision-0.21.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.21.0\n"
    )
    environment = ENVIRONMENT | {"PYTHONPATH": str(tmp_path)}
    findings = {finding.name: finding for finding in packages("", environment)}
    vision = findings["torchvision"]
    assert vision.status is Status.PROBLEM
    assert "operator torchvision::nms does not exist" in vision.message
    assert "torchvision 0.21.0 does not fit beside torch" in vision.message
    assert vision.fix == f"{sys.executable} -m pip uninstall -y torchvision"
    assert (findings["torch"].status, findings["trainer"].status) == (Status.OK, Status.OK)
    broken = [finding for name, finding in findings.items() if name in {"diffusers", "transformers", "peft"}]
    assert {finding.fix for finding in broken} <= {vision.fix}, "what it takes down has the same cure"


@pytest.mark.parametrize(
    ("changed", "name", "status", "message", "fix"),
    [
        ({"torch": None}, "torch", Status.WARNING, "has no torch", "simpletuner-trainer[train]"),
        ({"torch": "raise OSError('libcudart.so')"}, "torch", Status.PROBLEM, "libcudart.so", "--force-reinstall torch"),
        ({"torch": "import os; os._exit(3)"}, "torch", Status.PROBLEM, "ends the interpreter with 3", "torch"),
        ({"torch": "import os; os.kill(os.getpid(), 11)"}, "torch", Status.PROBLEM, "with -11", "torch"),
        ({"torch": CUDA}, "torch", Status.OK, "CUDA 12.4, no GPU is seen", ""),
        ({"simpletuner_trainer": None}, "trainer", Status.WARNING, "has no simpletuner-trainer", "pip install"),
        ({"simpletuner_trainer": "__version__ = '9.9'"}, "trainer", Status.PROBLEM, "9.9, and this lab", "pip install"),
        ({"diffusers": "__version__ = '0.1'\nStableDiffusionPipeline = 1"}, "diffusers", Status.PROBLEM, "0.1 is not diffusers", "pip install"),
        ({"peft": None}, "peft", Status.WARNING, "peft is not installed", "pip install"),
        ({"transformers": "__version__ = '999'"}, "transformers", Status.PROBLEM, "CLIPTextModel", "pip install"),
        ({"diffusers": "try:\n    import nothing_like_it\nexcept ImportError as error:\n    raise RuntimeError('lazy') from error"}, "diffusers", Status.PROBLEM, "nothing_like_it", "pip install"),
        ({"torchvision": "__version__ = '0.21.0'"}, "torchvision", Status.OK, "0.21.0 imports", ""),
    ],
)  # fmt: skip
def test_what_can_be_wrong(tmp_path: Path, changed, name: str, status: Status, message: str, fix: str) -> None:
    finding = found(tmp_path, **changed)[name]
    assert (finding.status, message in finding.message, fix in finding.fix) == (status, True, True), finding


def test_what_comes_after_a_crash_is_not_called_missing(tmp_path: Path) -> None:
    findings = found(tmp_path, torch="import os; os._exit(3)")
    assert "not reached, because torch" in findings["torchvision"].message


def test_an_import_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examined, "_PATIENCE_S", 1.5)
    assert "takes more than 2 s to import" in found(tmp_path, peft="import time; time.sleep(60)")["peft"].message


@pytest.mark.parametrize("python", ["/no/such/python", "false"])
def test_an_interpreter_that_does_not_run(python: str) -> None:
    (finding,) = packages(python, ENVIRONMENT)
    assert (finding.name, finding.status) == ("trainer", Status.PROBLEM)
    assert "does not run" in finding.message
