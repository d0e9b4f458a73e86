"""Estimates: own history first, then published figures, then the reason why there is none; always in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simpletuner_lab.core.cost import Rate, estimate_run
from simpletuner_lab.core.rates import TYPICAL, published

L40S = Rate(hardware="gpu-l40s", label="Nvidia L40S, 48 GB", usd_per_hour=3.51)
A100 = Rate(hardware="gpu-a100-large", label="Nvidia A100 (80GB), 80 GB", usd_per_hour=5.04)


@pytest.mark.parametrize("row", TYPICAL, ids=lambda row: row.label)
def test_a_row_of_the_table_is_what_it_says(row) -> None:
    found = published(family=row.family or "sd", kind=row.kind, steps=row.steps, images_a_step=1, rate=L40S)
    assert (found.seconds_low, found.seconds_high) == (row.seconds_low, row.seconds_high)
    assert row.label in found.reason
    assert row.as_of in found.reason


def test_between_and_beyond_the_rows() -> None:
    def time(steps: int, images: int = 1) -> tuple[float | None, float | None]:
        found = published(family="flux", kind="lora", steps=steps, images_a_step=images, rate=A100)
        return found.seconds_low, found.seconds_high

    assert time(1500) == (2700, 5400)
    assert time(500) == (900, 1800)
    assert time(4000) == (7200, 14400)
    assert time(1000, images=4) == (1800, 4 * 3600)


@pytest.mark.parametrize(
    ("family", "kind", "rate", "reason"),
    [
        ("flux", "lora", Rate(hardware="gpu-h100", label="Nvidia H100", usd_per_hour=5.5), "published for Nvidia H100"),
        ("flux", "lora", Rate(hardware="gpu-2x-l40s", label="2x Nvidia L40S", usd_per_hour=7.0), "for 2x Nvidia L40S"),
        ("sd", "lora", L40S, "published for lora of sd"),
    ],
)
def test_no_figures_and_why(family: str, kind: str, rate: Rate, reason: str) -> None:
    figures = published(family=family, kind=kind, steps=1000, images_a_step=1, rate=rate)
    found = estimate_run(steps=1000, rate=rate, past_step_s=(), published=figures)
    assert (found.seconds_low, found.usd_likely, found.usd_high) == (None, None, None)
    assert reason in found.basis


def test_own_history_goes_first() -> None:
    figures = published(family="flux", kind="lora", steps=1000, images_a_step=1, rate=L40S)
    by_figures = estimate_run(steps=1000, rate=L40S, past_step_s=(), published=figures)
    assert (by_figures.usd_low, by_figures.usd_high) == (pytest.approx(1.755), pytest.approx(3.51))
    own = estimate_run(steps=1000, rate=L40S, past_step_s=(0.5, 0.6), published=figures)
    assert own.basis == "median of 2 finished runs like this one"
    assert own.seconds_likely == pytest.approx(610)


@given(
    st.integers(1, 200_000), st.sampled_from(["flux", "sdxl", "sd", ""]), st.sampled_from(["lora", "full", ""]),
    st.integers(1, 64), st.sampled_from([L40S, A100]), st.lists(st.floats(1e-4, 1e4), max_size=9),
)  # fmt: skip
def test_the_range_is_in_order(steps: int, family: str, kind: str, images: int, rate: Rate, past: list[float]) -> None:
    figures = published(family=family, kind=kind, steps=steps, images_a_step=images, rate=rate)
    found = estimate_run(steps=steps, rate=rate, past_step_s=past, published=figures)
    if found.seconds_low is None:
        assert not past
        assert found.usd_low is None
        return
    assert 0 < found.seconds_low <= found.seconds_likely <= found.seconds_high
    assert 0 < found.usd_low <= found.usd_likely <= found.usd_high
    assert all(found.seconds_low <= one * steps <= found.seconds_high for one in past), "the past lies within"
