"""A provider's settings under the names that users of the original know (contract §2.3): which of ours each of them is.

What the original keeps there and this does not is refused with where it is told here, never swallowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from simpletuner_lab.core.errors import InvalidRequest, Problem
from simpletuner_lab.services.provider_setup import ProviderSetup
from simpletuner_lab.services.provider_views import ProviderConfig

NETWORK_NAMES: Final[Mapping[str, str]] = {
    "ssl_verify": "verify_tls",
    "ssl_ca_bundle": "ca_bundle",
    "proxy_url": "proxy",
    "http_timeout": "timeout_s",
    "webhook_allowed_ips": "webhook_allowed_ips",
}
_MINUTES: Final = "max_runtime_minutes"
_PRICES: Final = "hardware_info"
_OURS: Final[Mapping[str, str]] = {
    **NETWORK_NAMES,
    "version_override": "version",
    "hardware_profile": "hardware",
    "api_base_url": "base_url",
    _MINUTES: "run_limit_s",
    _PRICES: "prices",
}

_SIGNED: Final = "webhook_require_signature"
_AT_THE_PROXY: Final = "a limit of requests belongs before the server: docs/exposing.md shows it for a proxy"
_ELSEWHERE: Final[Mapping[str, str]] = {
    _SIGNED: "a webhook without a valid signature is never taken: leave it out, or true",
    "webhook_url": "one address for all providers: SimpleTunerLabApp.public_url, paths are added",
    "preferences": "JupyterLab keeps its own, in the settings editor",
    "org_id": "it is of SimpleTuner.io, which is not open yet",
    **{f"{what}_rate_limit_{part}": _AT_THE_PROXY for what in ("webhook", "s3") for part in ("max", "window")},
}


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
        raise in_their_names(error, theirs) from error


def in_our_names(given: Mapping[str, object]) -> dict[str, object]:
    """Settings under our names, where the original has others for them; what it does not know stays as it is.

    What the original keeps and this does not is left out where it says what is so anyway (null, empty, signatures required).

    Raises:
        InvalidRequest: a setting is given under both names, or is none of a provider's here.
    """
    twice = [name for name in given if _OURS.get(name, name) != name and _OURS[name] in given]
    if twice:
        problems = [Problem(path=name, message=f"is {_OURS[name]}, which is given too") for name in twice]
        raise InvalidRequest(f"{twice[0]} is {_OURS[twice[0]]}: give one of the two", problems=problems)
    elsewhere = [name for name in given if name in _ELSEWHERE and not _says_nothing(name, given[name])]
    if elsewhere:
        problems = [
            Problem(path=name, message="is no setting of a provider here", hint=_ELSEWHERE[name]) for name in elsewhere
        ]
        told = "; ".join(f"{one.path} {one.message}: {one.hint}" for one in problems)
        raise InvalidRequest(f"nothing was changed: {told}", problems=problems, hint=problems[0].hint)
    return {_OURS.get(name, name): _in_our_form(name, value) for name, value in given.items() if name not in _ELSEWHERE}


def in_their_names(error: InvalidRequest, names: Mapping[str, str]) -> InvalidRequest:
    """A refusal that calls each setting what its caller does; `names` are theirs by ours."""
    plain = [replace(one, path=one.path.removeprefix("settings.")) for one in error.problems]
    problems = [replace(one, path=names.get(one.path, one.path)) for one in plain]
    if not problems:
        return error
    told = "; ".join(f"{one.path}: {one.message}" for one in problems)
    return type(error)(f"nothing was changed, for a new setting cannot be: {told}", hint=error.hint, problems=problems)


def _says_nothing(name: str, value: object) -> bool:
    return value in ((None, True) if name == _SIGNED else (None, "", {}))


def _in_our_form(name: str, value: object) -> object:
    if name == _MINUTES:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value * 60 if is_number else value  # type: ignore[operator]
    return _prices(value) if name == _PRICES and isinstance(value, Mapping) else value


def _prices(given: Mapping[str, object]) -> list[str]:
    """`{SKU: {"name", "cost_per_second"}}`, as the original has it. Names of hardware are not kept: ours stand.

    Raises:
        InvalidRequest: an entry is not that.
    """
    wrong = [sku for sku, told in given.items() if not _is_price(told)]
    if wrong:
        problems = [Problem(path=f"{_PRICES}.{sku}", message="is not {name, cost_per_second}") for sku in wrong]
        hint = f'for example {{"{_PRICES}": {{"gpu-l40s": {{"name": "L40S", "cost_per_second": 0.000975}}}}}}'
        raise InvalidRequest(f"{problems[0].path} {problems[0].message}", problems=problems, hint=hint)
    return [f"{sku}={told['cost_per_second']!r}" for sku, told in given.items()]  # type: ignore[index]


def _is_price(told: object) -> bool:
    if not isinstance(told, Mapping) or not set(told) <= {"name", "cost_per_second"}:
        return False
    price = told.get("cost_per_second")
    return isinstance(price, int | float) and not isinstance(price, bool)
