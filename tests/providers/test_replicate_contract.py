"""The Replicate provider keeps every promise, against an emulator on a real socket."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.core.provider import Archive, Provider, StartOrder
from simpletuner_lab.testing.provider_contract import Behaviour, MakeOrder, ProviderContract
from tests.providers.replicate_kit import Scene, scene, to_home


class TestReplicateProvider(ProviderContract):
    unknown_ref = "nosuchprediction0000000000"

    @pytest.fixture
    def scene(self, tmp_path: Path) -> Iterator[Scene]:
        """Each request moves the clock by a second: runs go on while they are asked for."""
        with scene(tmp_path, tick_s=1.0) as made:
            yield made

    @pytest.fixture
    def home(self, scene: Scene) -> Path:
        return scene.folder / "home"

    @pytest.fixture
    def provider(self, scene: Scene) -> Provider:
        return scene.provider()

    @pytest.fixture
    def make_order(self, provider: Provider, archive: Archive, tmp_path: Path) -> MakeOrder:
        """No folder of this machine: results go to an endpoint."""
        make = ProviderContract.make_order.__wrapped__(self, provider, archive, tmp_path)

        def elsewhere(behaviour: Behaviour, job_id: str = "", attempt: int = 1) -> StartOrder:
            return dataclasses.replace(make(behaviour, job_id, attempt), delivery=to_home())

        return elsewhere
