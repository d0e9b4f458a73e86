"""What a prediction says of its time, and what its silence means."""

from __future__ import annotations

import pytest

from simpletuner_lab.providers import _replicate_prediction as rp


@pytest.mark.parametrize(
    ("status", "more", "metered_s"),
    [
        ("failed", {"completed_at": "2026-01-01T00:05:00Z"}, 0.0),  # its machine could not be set up
        ("canceled", {"completed_at": "2026-01-01T00:05:00Z"}, 0.0),
        ("succeeded", {"completed_at": "2026-01-01T00:05:00Z"}, None),
        ("canceled", {}, None),  # an answer that says next to nothing
        ("failed", {}, None),
        ("failed", {"completed_at": "2026-01-01T00:05:00Z", "started_at": "2026-01-01T00:04:00Z"}, 60.0),
    ],
)
def test_a_run_that_never_began_is_told_by_its_times(
    status: str, more: dict[str, str], metered_s: float | None
) -> None:
    assert rp.metered_s(rp.parse({"id": "a", "status": status} | more), now=0.0) == metered_s
