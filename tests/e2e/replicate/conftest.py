from __future__ import annotations

import pytest

from tests.e2e.replicate.house_kit import Nursery


@pytest.fixture(scope="session")
def nursery(tmp_path_factory):
    """Begins to load at once; whoever needs a server first waits for the rest."""
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()
