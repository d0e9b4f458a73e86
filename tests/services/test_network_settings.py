"""A provider's way through the network, under the original's names for it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from simpletuner_lab.core import errors
from simpletuner_lab.services.codec import decode
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.network_settings import NetworkSettings, change_network, network_settings
from tests.services.remote_kit import away_lab

USUAL = NetworkSettings(
    ssl_verify=True,
    ssl_ca_bundle="",
    proxy_url="",
    http_timeout=30.0,
    webhook_ip_allowlist_enabled=False,
    webhook_allowed_ips=(),
)


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    with Lab.open(tmp_path, Surroundings(environment={"HOME": str(tmp_path)})) as opened:
        yield opened


def changed(lab: Lab, **given: Any) -> NetworkSettings:
    """As a PATCH with this body does it."""
    found = decode(NetworkSettings, given, what="body")
    return change_network(lab.setup, "replicate", found, frozenset(given))


def test_only_what_is_given_changes(lab: Lab) -> None:
    assert network_settings(lab.setup, "replicate") == USUAL
    found = changed(lab, proxy_url="http://proxy:3128", http_timeout=5)
    assert asdict(found) == asdict(USUAL) | {"proxy_url": "http://proxy:3128", "http_timeout": 5.0}
    kept = json.loads((lab.home.provider_settings / "replicate.json").read_text())
    assert kept == {"proxy": "http://proxy:3128", "timeout_s": 5.0}
    assert changed(lab) == found, "nothing is given"
    assert changed(lab, **asdict(found)) == found, "what was read may be written back"
    assert changed(lab, proxy_url=None, http_timeout=None) == USUAL, "null: the usual value"
    assert not changed(lab, ssl_verify=False).ssl_verify


def test_the_list_and_its_switch(lab: Lab) -> None:
    networks = ["203.0.113.0/24", "2001:db8::/32"]
    with pytest.raises(errors.InvalidRequest, match="needs a list"):
        changed(lab, webhook_ip_allowlist_enabled=True)
    found = changed(lab, webhook_allowed_ips=networks)
    assert (found.webhook_ip_allowlist_enabled, found.webhook_allowed_ips) == (True, tuple(networks))
    assert changed(lab, webhook_ip_allowlist_enabled=True, webhook_allowed_ips=networks) == found
    assert changed(lab, webhook_ip_allowlist_enabled=True) == found, "it is on"
    for wrong in (
        {"webhook_ip_allowlist_enabled": True, "webhook_allowed_ips": []},
        {"webhook_ip_allowlist_enabled": False, "webhook_allowed_ips": networks},
    ):
        with pytest.raises(errors.InvalidRequest):
            changed(lab, **wrong)
    assert network_settings(lab.setup, "replicate") == found
    assert changed(lab, webhook_ip_allowlist_enabled=False) == USUAL


def test_what_is_wrong_has_the_name_it_was_given(lab: Lab) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        changed(lab, proxy_url="proxy", http_timeout=0, ssl_ca_bundle="")
    assert sorted(one.path for one in refused.value.problems) == ["http_timeout", "proxy_url"]
    assert "proxy_url: 'proxy'" in refused.value.message
    assert refused.value.message.startswith("nothing was changed")
    with pytest.raises(errors.InvalidRequest, match="203"):
        changed(lab, webhook_allowed_ips=["203.0.113.1/24"])
    with pytest.raises(errors.SecretInConfig):
        changed(lab, proxy_url="http://hf_" + "Ab1" * 12)
    for wrong in ({"ssl_verify": "no"}, {"webhook_allowed_ips": "10.0.0.0/8"}, {"verify_tls": False}):
        with pytest.raises(errors.InvalidRequest):
            changed(lab, **wrong)
    assert network_settings(lab.setup, "replicate") == USUAL


def test_a_password_of_a_proxy_is_refused_and_not_repeated(lab: Lab) -> None:
    with pytest.raises(errors.SecretInConfig) as refused:
        changed(lab, proxy_url="http://ann:Tr0ub4dor@proxy:3128")
    told = refused.value.message + refused.value.hint + str(refused.value.problems)
    assert "proxy_url: holds a password" in told
    assert "Tr0ub4dor" not in told


def test_a_provider_without_them(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(errors.Conflict, match="no network settings"):
        network_settings(lab.setup, "local")
    with pytest.raises(errors.Conflict):
        change_network(lab.setup, "local", NetworkSettings(ssl_verify=False), frozenset({"ssl_verify"}))
    with pytest.raises(errors.ProviderNotFound):
        network_settings(lab.setup, "nobody")
    with pytest.raises(errors.ProviderUnavailable):
        network_settings(lab.setup, "simpletuner_io")
    with away_lab(tmp_path / "away") as away, pytest.raises(errors.Conflict):
        network_settings(away.lab.setup, "elsewhere")
