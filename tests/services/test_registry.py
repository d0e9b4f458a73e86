"""The registry finds providers through real entry points, and outlives whatever a stranger's does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from simpletuner_lab.core.errors import ProviderNotFound, ProviderUnavailable
from simpletuner_lab.core.provider import ProviderContext
from simpletuner_lab.providers.local import LocalProvider
from simpletuner_lab.services.registry import Registry

Install = Callable[..., None]

GOOD = """
from simpletuner_lab.providers.local import LocalProvider
class Good(LocalProvider):
    id = "stranger_good"
    label = "A stranger's"
"""
BAD = """
from simpletuner_lab.core.provider import Capabilities
class Nameless: pass
class NoMethods:
    id, label, capabilities, Settings = "stranger_bare", "Bare", Capabilities(remote=True), dict
    def check(self): pass
class OtherName:
    id, label, capabilities, Settings = "another", "Other", Capabilities(remote=True), dict
class Explodes:
    id, label, capabilities, Settings = "stranger_explodes", "Explodes", Capabilities(remote=True), dict
    check = options = upload = start = find = list = poll = cancel = discard = webhook = None
    def __init__(self, settings, context): raise RuntimeError("out of order")
"""
OURS = {
    "local": "simpletuner_lab.providers.local:LocalProvider",
    "simpletuner_io": "simpletuner_lab.providers.simpletuner_io:SimpleTunerIo",
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution on the path: its entry points, and a module with its code."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(distribution: str, points: Mapping[str, str], code: str = "") -> None:
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = {value}" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[simpletuner_lab.providers]\n{lines}\n")
        (tmp_path / f"{distribution}.py").write_text(code)

    return install


def load(home: Path) -> Registry:
    return Registry.load(
        lambda provider_id: ProviderContext(home=home / provider_id, environment={}),
        lambda _provider_id, settings: settings(),
    )


def test_loads_ours_and_a_strangers(install: Install, tmp_path: Path) -> None:
    install("ours_again", OURS)
    install("stranger_one", {"stranger_good": "stranger_one:Good"}, GOOD)
    registry = load(tmp_path)
    assert isinstance(registry.get("local"), LocalProvider)
    assert registry.get("stranger_good").label == "A stranger's"
    assert "stranger_good" in registry
    assert {"local", "stranger_good"} <= {provider.id for provider in registry}
    assert [provider.capabilities.remote for provider in registry] == sorted(
        provider.capabilities.remote for provider in registry
    )
    assert not [failed for failed in registry.broken if failed.id in {*OURS, "stranger_good"}]


def test_a_strangers_faults_are_reported_and_harm_nobody(install: Install, tmp_path: Path) -> None:
    install("ours_again", OURS)
    points = {
        "stranger_gone": "no_such_module:Provider",
        "stranger_nameless": "stranger_two:Nameless",
        "stranger_bare": "stranger_two:NoMethods",
        "stranger_other": "stranger_two:OtherName",
        "stranger_explodes": "stranger_two:Explodes",
    }
    install("stranger_two", points, BAD)
    registry = load(tmp_path)
    reasons = {failed.id: failed.reason for failed in registry.broken}
    assert points.keys() <= reasons.keys()
    assert "no_such_module" in reasons["stranger_gone"]
    assert "id, label" in reasons["stranger_nameless"]
    assert "options, upload" in reasons["stranger_bare"]
    assert "'another'" in reasons["stranger_other"]
    assert "out of order" in reasons["stranger_explodes"]
    assert "local" in registry
    with pytest.raises(ProviderUnavailable, match="out of order"):
        registry.get("stranger_explodes")


def test_no_stranger_takes_the_name_of_one_of_ours(install: Install, tmp_path: Path) -> None:
    install("a_stranger", {"local": "a_stranger:Good"}, GOOD)
    install("ours_again", OURS)
    registry = load(tmp_path)
    assert type(registry.get("local")) is LocalProvider
    assert [failed.id for failed in registry.broken if "a_stranger" in failed.reason] == ["local"]


def test_settings_that_cannot_be_read_break_one_provider(install: Install, tmp_path: Path) -> None:
    install("ours_again", OURS)
    install("stranger_one", {"stranger_good": "stranger_one:Good"}, GOOD)

    def settings_for(provider_id: str, settings: type) -> object:
        if provider_id == "stranger_good":
            raise ValueError("grace_s: is not a number")
        return settings()

    registry = Registry.load(lambda _id: ProviderContext(home=tmp_path, environment={}), settings_for)
    assert "local" in registry
    with pytest.raises(ProviderUnavailable, match="grace_s: is not a number"):
        registry.get("stranger_good")


def test_what_is_announced_is_shown_and_cannot_be_chosen(install: Install, tmp_path: Path) -> None:
    install("ours_again", OURS)
    registry = load(tmp_path)
    assert [soon.label for soon in registry.announced if soon.id == "simpletuner_io"] == ["SimpleTuner.io"]
    assert "simpletuner_io" not in registry
    with pytest.raises(ProviderUnavailable, match="coming soon"):
        registry.get("simpletuner_io")


def test_an_unknown_name_is_answered_with_the_known_ones(install: Install, tmp_path: Path) -> None:
    install("ours_again", OURS)
    with pytest.raises(ProviderNotFound) as caught:
        load(tmp_path).get("nowhere")
    assert "local" in caught.value.hint
