from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.outside_kit import Outside, server_with_outside


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """A notebook server under `/user/ann/` with a second listener."""
    with server_with_outside(tmp_path_factory.mktemp("outside")) as running:
        yield running
