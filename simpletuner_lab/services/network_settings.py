"""A provider's way through the network under the names that users of the original know (contract §2.3, SPEC P7).

They are settings like its others, kept and checked where those are: this says which is which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from simpletuner_lab.core.errors import Conflict, InvalidRequest, Problem
from simpletuner_lab.services.provider_setup import ProviderSetup
from simpletuner_lab.services.provider_views import ProviderConfig

_SETTINGS: Final = {
    "ssl_verify": "verify_tls",
    "ssl_ca_bundle": "ca_bundle",
    "proxy_url": "proxy",
    "http_timeout": "timeout_s",
    "webhook_allowed_ips": "webhook_allowed_ips",
}
_LIST: Final = "webhook_allowed_ips"
_SWITCH: Final = "webhook_ip_allowlist_enabled"


_OTHERS: Final = {"version_override": "version", "hardware_profile": "hardware"}
_MINUTES: Final = ("max_runtime_minutes", "run_limit_s")
_OURS: Final[Mapping[str, str]] = {**_SETTINGS, **_OTHERS, _MINUTES[0]: _MINUTES[1]}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """How a provider is reached, and who may send its webhooks. Null: this provider has no such setting."""

    ssl_verify: bool | None = None
    ssl_ca_bundle: str | None = None
    """A PEM file; empty: the usual certificates."""
    proxy_url: str | None = None
    """Empty: that of the environment."""
    http_timeout: float | None = None
    """Seconds that an answer may take."""
    webhook_ip_allowlist_enabled: bool | None = None
    """Whether the list below has an entry; false, when it is set, empties the list."""
    webhook_allowed_ips: tuple[str, ...] | None = None


def network_settings(setup: ProviderSetup, provider_id: str) -> NetworkSettings:
    """As they are.

    Raises:
        ProviderNotFound, ProviderUnavailable: there is no such provider, or it is coming soon.
        InvalidRequest: the file that keeps them cannot be read.
        Conflict: it has none of them.
    """
    return _seen(setup.config(provider_id))


def change_network(
    setup: ProviderSetup, provider_id: str, given: NetworkSettings, names: frozenset[str]
) -> NetworkSettings:
    """Sets those of `given` that are named; null in one: its usual value again. Refused as a whole, or in force as a whole.

    Raises:
        ProviderNotFound, ProviderUnavailable, Conflict: as of `network_settings`.
        InvalidRequest: the provider has no such setting, a value cannot be, or the list and its switch differ.
        SecretInConfig: one of them looks like a secret.
    """
    before = setup.config(provider_id)
    now = _seen(before)
    usual = {field.name: field.default for field in before.fields}
    wanted: dict[str, object] = {}
    for name, value in _given(given, names, now).items():
        setting = _SETTINGS[name]
        if setting not in usual:
            if value is None:  # as it was read
                continue
            raise InvalidRequest(f"{provider_id} has no setting {name}", hint=f"it has {', '.join(_of(before))}")
        wanted[setting] = usual[setting] if value is None else value
    try:
        return _seen(setup.change(provider_id, wanted) if wanted else before)
    except InvalidRequest as error:
        raise _in_their_names(error, {setting: name for name, setting in _SETTINGS.items()}) from error


def change_config(setup: ProviderSetup, provider_id: str, given: Mapping[str, object]) -> ProviderConfig:
    """Sets settings under our names or the original's; null under one of the original's: its usual value again.

    Raises:
        ProviderNotFound, InvalidRequest, SecretInConfig: as of `ProviderSetup.change`, under the names that were given.
    """
    wanted = in_our_names(given)
    theirs = {_OURS[name]: name for name in given if _OURS.get(name, name) != name}
    if nulls := [name for name in theirs if wanted[name] is None]:
        usual = {field.name: field.default for field in setup.config(provider_id).fields}
        wanted |= {name: usual[name] for name in nulls if name in usual}
    try:
        return setup.change(provider_id, wanted)
    except InvalidRequest as error:
        if not theirs:
            raise
        raise _in_their_names(error, theirs) from error


def in_our_names(given: Mapping[str, object]) -> dict[str, object]:
    """Settings under our names, where the original has others for them; what it does not know stays as it is.

    Raises:
        InvalidRequest: a setting is given under both.
    """
    twice = [name for name in given if _OURS.get(name, name) != name and _OURS[name] in given]
    if twice:
        problems = [Problem(path=name, message=f"is {_OURS[name]}, which is given too") for name in twice]
        raise InvalidRequest(f"{twice[0]} is {_OURS[twice[0]]}: give one of the two", problems=problems)
    return {_OURS.get(name, name): _in_seconds(name, value) for name, value in given.items()}


def _in_seconds(name: str, value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value * 60 if name == _MINUTES[0] and is_number else value  # type: ignore[operator]


def _given(given: NetworkSettings, names: frozenset[str], now: NetworkSettings) -> dict[str, object]:
    """What is to be set, without the switch, which is nothing but whether there is a list.

    Raises:
        InvalidRequest: the list and its switch differ.
    """
    wanted: dict[str, object] = {name: getattr(given, name) for name in sorted(names - {_SWITCH})}
    switch = given.webhook_ip_allowlist_enabled
    if switch is None:
        return wanted
    if _LIST in wanted and bool(wanted[_LIST]) is not switch:
        raise InvalidRequest(f"{_SWITCH} and {_LIST} say different things", hint=f"give {_LIST} alone: empty is off")
    if switch and not (wanted.get(_LIST) or now.webhook_allowed_ips):
        raise InvalidRequest(f"{_SWITCH} needs a list to be on", hint=f"give {_LIST}; that alone switches it on")
    return wanted if switch or now.webhook_allowed_ips is None else wanted | {_LIST: ()}


def _seen(found: ProviderConfig) -> NetworkSettings:
    values: dict[str, object] = {name: found.config[_SETTINGS[name]] for name in _of(found)}
    if not values:
        raise Conflict(f"{found.provider} has no network settings", hint="it is not reached over a network by them")
    if _LIST in values:
        values[_SWITCH] = bool(values[_LIST])
        values[_LIST] = tuple(found.config[_LIST])  # type: ignore[arg-type]
    return NetworkSettings(**values)  # type: ignore[arg-type]


def _of(found: ProviderConfig) -> list[str]:
    return [name for name, setting in _SETTINGS.items() if setting in found.config]


def _in_their_names(error: InvalidRequest, names: Mapping[str, str]) -> InvalidRequest:
    """A refusal that calls each setting what its caller does."""
    plain = [replace(one, path=one.path.removeprefix("settings.")) for one in error.problems]
    problems = [replace(one, path=names.get(one.path, one.path)) for one in plain]
    if not problems:
        return error
    told = "; ".join(f"{one.path}: {one.message}" for one in problems)
    return type(error)(f"nothing was changed, for a new setting cannot be: {told}", hint=error.hint, problems=problems)
