"""The local provider keeps every promise, with real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from simpletuner_lab.core.provider import Provider
from simpletuner_lab.testing.provider_contract import ProviderContract
from tests.providers.local_kit import local_provider


class TestLocalProvider(ProviderContract):
    @pytest.fixture
    def provider(self, home: Path) -> Provider:
        return local_provider(home)
