"""Prices at Replicate: those of our list, and those that a setting tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.providers._replicate_settings import ReplicateSettings
from simpletuner_lab.testing.replicate_emulator import Step
from tests.providers.replicate_kit import IMAGE, Scene, ended, scene


@pytest.fixture
def replicate(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def test_a_price_of_a_setting_counts_for_runs_that_start_from_then_on(replicate: Scene) -> None:
    """A run costs what its plan said an hour costs, whatever the setting says when it is looked at."""
    replicate.emulator.play(IMAGE, [Step(after_s=100, log="x\n"), ended()])
    before = replicate.provider()
    first = replicate.begin(before)
    after = replicate.provider(prices=("gpu-l40s=0.002", "gpu-b200 = $0.004"))
    rate = after.options().rates[0]
    assert (rate.hardware, rate.usd_per_hour, rate.as_of) == ("gpu-l40s", pytest.approx(7.2), "")
    assert rate.label == before.options().rates[0].label
    assert "the setting prices" in rate.source
    second = replicate.begin(after, replicate.order(attempt=2))
    replicate.emulator.advance(300)
    for run, usd_per_s in ((first, 0.000975), (second, 0.002)):
        snapshot = after.poll(run.ref, "")
        assert snapshot.metered_s == pytest.approx(101)
        assert snapshot.cost_usd == pytest.approx(snapshot.metered_s * usd_per_s)
    new = replicate.provider(prices=("gpu-b200=0.004",), hardware="gpu-b200").options().rates[0]
    assert (new.label, new.usd_per_hour) == ("gpu-b200", pytest.approx(14.4))


@pytest.mark.parametrize(
    ("price", "why"),
    [
        ("gpu-l40s", "is not SKU=USD per second"),
        ("gpu-l40s=", "is not SKU=USD per second"),
        ("gpu-l40s=-1", "is not SKU=USD per second"),
        ("gpu-l40s=nan", "is not SKU=USD per second"),
        ("=0.1", "is not SKU=USD per second"),
        ("gpu-l40s=0", "is not over 0"),
        ("gpu-l40s=1e-999", "is not over 0"),
        ("gpu-l40s=3.51", "is not over 0 and at most 0.1 dollars a second"),
    ],
)
def test_a_price_that_cannot_be_is_refused(price: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        ReplicateSettings(prices=(price,))
    assert [one.path for one in refused.value.problems] == ["prices"]
    with pytest.raises(InvalidRequest, match="second price of gpu-l40s"):
        ReplicateSettings(prices=("gpu-l40s=0.001", "gpu-l40s=0.002"))
