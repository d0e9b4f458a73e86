"""Fixtures of the trainer's tests."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simpletuner_lab.testing.tiny_bases import make_base, make_flux_base, make_xl_base
from tests.trainer.trainer_kit import Job


@pytest.fixture(scope="session")
def micro_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion of a few thousand parameters."""
    return make_base(tmp_path_factory.mktemp("base") / "micro")


@pytest.fixture(scope="session")
def xl_base(micro_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion XL of a few thousand parameters."""
    return make_xl_base(tmp_path_factory.mktemp("base") / "xl", micro_base)


@pytest.fixture(scope="session")
def flux_base(micro_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FLUX.1-dev of a few thousand parameters."""
    return make_flux_base(tmp_path_factory.mktemp("base") / "flux", micro_base)


@pytest.fixture(scope="session")
def schnell_base(micro_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FLUX.1-schnell of a few thousand parameters: without guidance."""
    return make_flux_base(tmp_path_factory.mktemp("base") / "schnell", micro_base, guided=False)


@pytest.fixture
def job(tmp_path: Path, micro_base: Path) -> Iterator[Callable[..., Job]]:
    """Make jobs by name; signal handlers that a run in this process sets are put back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def make(name: str = "job", **parts: Any) -> Job:
        return Job(folder=tmp_path / name, base=micro_base, **parts)

    yield make
    for number, handler in handlers.items():
        signal.signal(number, handler)
