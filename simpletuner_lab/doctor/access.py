"""What opens doors, and what stands in them: providers, tokens (whether they are there, never which), proxies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from simpletuner_lab.core.errors import LabError
from simpletuner_lab.core.provider import Provider, ProviderContext
from simpletuner_lab.doctor.finding import Finding, ok, warning
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.provider_settings import ProviderSettings
from simpletuner_lab.services.registry import Registry

_LOOPBACK: Final = "127.0.0.1"


def registry_of(home: Home, environment: Mapping[str, str]) -> Registry:
    """The providers that are installed, with their settings in this home."""
    return Registry.load(
        lambda provider_id: ProviderContext(
            home=home.provider_state(provider_id), environment=environment, secrets=home.secrets
        ),
        ProviderSettings(home.provider_settings).read,
    )


def provider_findings(registry: Registry) -> Iterator[Finding]:
    """Whether each provider can be used now, in its own words."""
    for provider in registry:
        yield _provider(provider)
    for broken in registry.broken:
        yield warning(
            f"provider {broken.id}", f"cannot be loaded: {broken.reason}", "mend its settings, or reinstall it"
        )


def interpreters(home: Home, registry: Registry) -> list[str]:
    """The interpreters that providers run trainers in on this machine: a provider with a setting `python` does so."""
    settings = ProviderSettings(home.provider_settings)
    found = (
        str(settings.read(provider.id, provider.Settings).python)
        for provider in registry
        if "python" in {field.name for field in dataclasses.fields(provider.Settings)}
    )
    return list(dict.fromkeys(found)) or [""]


def token_findings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether there is a token of the Hugging Face Hub."""
    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    if environment.get("HF_TOKEN"):
        yield ok("HF_TOKEN", "is set")
    elif (Path(home).expanduser() / "token").is_file():
        yield ok("HF_TOKEN", "is not set; a stored login of the Hugging Face Hub is there")
    else:
        yield ok("HF_TOKEN", "is not set; only gated and private models need it")


def proxy_findings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether a proxy stands between this machine and itself."""
    settings = _proxy_settings(environment)
    direct = {entry.strip() for entry in settings.pop("no_proxy", "").split(",")}
    caught = sorted(settings.keys() & {"http_proxy", "all_proxy"})
    if caught and not direct & {"*", _LOOPBACK}:
        yield warning(
            "proxy",
            f"{', '.join(caught)} catches {_LOOPBACK} too: other programs do not reach your notebook server through it",
            "export no_proxy=127.0.0.1,localhost,::1",
        )
    else:
        yield ok("proxy", f"none stands before {_LOOPBACK}")


def _provider(provider: Provider) -> Finding:
    name = f"provider {provider.id}"
    try:
        check = provider.check()
    except LabError as error:
        return warning(name, error.message, error.hint)
    if check.ready:
        return ok(name, check.message or "ready")
    if check.unused:
        return ok(name, f"is not set up: {check.message}")
    return warning(name, check.message, check.hint)


def _proxy_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """By names in small letters, which win over those in capitals."""
    capitals = {name.lower(): value for name, value in environment.items() if name.isupper()}
    small = {name: value for name, value in environment.items() if name.islower()}
    return {name: value for name, value in (capitals | small).items() if name.endswith("_proxy") and value}
