"""A provider's settings under the original's names for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simpletuner_lab.core import errors
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.original_names import change_config, in_our_names


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    with Lab.open(tmp_path, Surroundings(environment={"HOME": str(tmp_path)})) as opened:
        yield opened


def test_a_config_is_taken_under_the_originals_names(lab: Lab) -> None:
    given = {"http_timeout": 60, "max_runtime_minutes": 45, "hardware_profile": "gpu-h100", "image": "ann/trainer"}
    config = lab.setup.change("replicate", in_our_names(given)).config
    assert (config["timeout_s"], config["run_limit_s"]) == (60.0, 2700.0)
    assert (config["hardware"], config["image"]) == ("gpu-h100", "ann/trainer")
    with pytest.raises(errors.InvalidRequest, match="proxy_url is proxy: give one of the two"):
        in_our_names({"proxy_url": "", "proxy": ""})
    for wrong in ("soon", True, None):
        with pytest.raises(errors.InvalidRequest, match="run_limit_s"):
            lab.setup.change("replicate", in_our_names({"max_runtime_minutes": wrong}))


def test_null_and_what_is_wrong_under_the_originals_names(lab: Lab) -> None:
    before = lab.setup.config("replicate").config
    change_config(lab.setup, "replicate", {"http_timeout": 60, "max_runtime_minutes": 45, "proxy_url": "http://p:1"})
    nulls = {"http_timeout": None, "max_runtime_minutes": None, "proxy_url": None}
    assert change_config(lab.setup, "replicate", nulls).config == before
    with pytest.raises(errors.InvalidRequest) as refused:
        change_config(lab.setup, "replicate", {"http_timeout": 0, "proxy_url": "proxy", "ca_bundle": 3})
    assert {one.path for one in refused.value.problems} <= {"http_timeout", "proxy_url", "ca_bundle"}
    assert "timeout_s" not in refused.value.message
    assert change_config(lab.setup, "replicate", {}).config == before


NOWHERE = {
    "webhook_url": "https://lab.example/hook",
    "preferences": {"theme": "dark"},
    "webhook_require_signature": False,
    "webhook_rate_limit_max": 100,
    "webhook_rate_limit_window": 60,
    "s3_rate_limit_max": 100,
    "s3_rate_limit_window": 60,
    "org_id": "acme",
}
"""What the original keeps there and is not a provider's setting here."""


def test_what_is_no_setting_here_is_refused_with_where_it_is(lab: Lab) -> None:
    before = lab.setup.config("replicate").config
    for name, value in NOWHERE.items():
        with pytest.raises(errors.InvalidRequest) as refused:
            change_config(lab.setup, "replicate", {name: value, "http_timeout": 60})
        (problem,) = refused.value.problems
        assert problem.path == name
        assert problem.hint
        assert problem.hint in refused.value.message
    with pytest.raises(errors.InvalidRequest) as refused:
        change_config(lab.setup, "replicate", NOWHERE)
    assert [one.path for one in refused.value.problems] == list(NOWHERE)
    assert lab.setup.config("replicate").config == before


def test_what_is_so_anyway_is_taken(lab: Lab) -> None:
    before = lab.setup.config("replicate").config
    nulls = dict.fromkeys(NOWHERE) | {"webhook_require_signature": True, "preferences": {}, "webhook_url": ""}
    assert change_config(lab.setup, "replicate", nulls).config == before
    assert change_config(lab.setup, "replicate", {"webhook_require_signature": None}).config == before


def test_an_address_and_prices(lab: Lab) -> None:
    told = {"gpu-l40s": {"name": "L40S", "cost_per_second": 0.001}, "gpu-b200": {"cost_per_second": 2e-05}}
    given = {"api_base_url": "https://gateway.example", "hardware_info": told, "hardware_profile": "gpu-b200"}
    config = change_config(lab.setup, "replicate", given).config
    assert config["base_url"] == "https://gateway.example"
    assert config["prices"] == ["gpu-l40s=0.001", "gpu-b200=2e-05"]
    assert config["hardware"] == "gpu-b200"
    with pytest.raises(errors.InvalidRequest, match="no price here"):
        change_config(lab.setup, "replicate", {"hardware_info": None})
    assert change_config(lab.setup, "replicate", dict.fromkeys(given)).config["prices"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"gpu-l40s": 0.001},
        {"gpu-l40s": {"name": "L40S"}},
        {"gpu-l40s": {"cost_per_second": "0.001"}},
        {"gpu-l40s": {"cost_per_second": True}},
        {"gpu-l40s": {"cost_per_second": 0.001, "cost_per_hour": 3.6}},
        {"gpu-l40s": {"cost_per_second": 0}},
        {"gpu-l40s": {"cost_per_second": -1}},
        {"gpu-l40s": {"cost_per_second": 3.51}},
        {"gpu-l40s": {"cost_per_second": float("nan")}},
        {"a b": {"cost_per_second": 0.001}},
    ],
)
def test_a_price_that_cannot_be_is_refused(lab: Lab, wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        change_config(lab.setup, "replicate", {"hardware_info": wrong})
    assert all(one.path.startswith("hardware_info") for one in refused.value.problems)
    assert refused.value.hint
    assert lab.setup.config("replicate").config["prices"] == []
