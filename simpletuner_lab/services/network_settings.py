"""A provider's way through the network under the names that users of the original know (contract §2.3, SPEC P7).

They are settings like its others, kept and checked where those are: this says which is which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.errors import Conflict, InvalidRequest
from simpletuner_lab.services.original_names import NETWORK_NAMES, in_their_names
from simpletuner_lab.services.provider_setup import ProviderSetup
from simpletuner_lab.services.provider_views import ProviderConfig

_LIST: Final = "webhook_allowed_ips"
_SWITCH: Final = "webhook_ip_allowlist_enabled"


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
        setting = NETWORK_NAMES[name]
        if setting not in usual:
            if value is None:  # as it was read
                continue
            raise InvalidRequest(f"{provider_id} has no setting {name}", hint=f"it has {', '.join(_of(before))}")
        wanted[setting] = usual[setting] if value is None else value
    try:
        return _seen(setup.change(provider_id, wanted) if wanted else before)
    except InvalidRequest as error:
        raise in_their_names(error, {setting: name for name, setting in NETWORK_NAMES.items()}) from error


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
    values: dict[str, object] = {name: found.config[NETWORK_NAMES[name]] for name in _of(found)}
    if not values:
        raise Conflict(f"{found.provider} has no network settings", hint="it is not reached over a network by them")
    if _LIST in values:
        values[_SWITCH] = bool(values[_LIST])
        values[_LIST] = tuple(found.config[_LIST])  # type: ignore[arg-type]
    return NetworkSettings(**values)  # type: ignore[arg-type]


def _of(found: ProviderConfig) -> list[str]:
    return [name for name, setting in NETWORK_NAMES.items() if setting in found.config]
