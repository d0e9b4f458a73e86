"""How the user's own tokens and keys stand: which there are, where, and how old (contract §2.4). Never a part of one."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.destination import HUB_TOKEN, S3_ACCESS_KEY, S3_SECRET_KEY, S3_SESSION_TOKEN
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.tokens import Tokens

STALE_DAYS: Final = 90
"""One that is older should be made anew."""
EARLY_WARNING_PERCENT: Final = 75
"""Of these days, after which it is worth a word."""
_DAY_S: Final = 24 * 3600.0
_DESTINATIONS: Final = {
    HUB_TOKEN: "Hugging Face Hub",
    S3_ACCESS_KEY: "S3",
    S3_SECRET_KEY: "S3",
    S3_SESSION_TOKEN: "S3",
}


class CredentialState(enum.StrEnum):
    """Whether there is one."""

    SET = "set"
    MISSING = "missing"
    UNUSABLE = "unusable"
    """There is one, and `problem` says why it counts for nothing. Whether its issuer accepts it is not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCredential:
    """One token or key of the user, without any part of it."""

    name: str
    """Of the variable, of the keyring's entry, and of the file."""
    provider: str | None
    """Whose it is; null: of a destination."""
    used_for: str
    state: CredentialState
    source: str | None
    """`environment`, `keyring`, `file`, or `login` (that of `hf auth login`); null where it is missing."""
    age_days: float | None
    """Since its file was written; null where no file has it: then nobody here knows its age."""
    is_stale: bool
    is_early_warning: bool
    """It will soon be stale."""
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialList:
    """All that this lab may look for."""

    credentials: tuple[KnownCredential, ...]
    stale_after_days: int = STALE_DAYS
    early_warning_percent: int = EARLY_WARNING_PERCENT


def credentials(registry: Registry, tokens: Tokens) -> CredentialList:
    """Those of each provider that has one, then those of destinations."""
    found = [_seen(tokens, name, owner, label) for owner, label, name in _of_providers(registry)]
    found += [_seen(tokens, name, None, label) for name, label in _DESTINATIONS.items()]
    return CredentialList(credentials=tuple(found))


def _of_providers(registry: Registry) -> Iterator[tuple[str, str, str]]:
    for provider_id in (*(one.id for one in registry), *(one.id for one in registry.broken)):
        try:
            cls = registry.class_of(provider_id)
        except LabError:  # it was never loaded, so nobody knows what it wants
            continue
        if name := str(getattr(cls, "token_name", "")):
            yield provider_id, str(cls.label), name


def _seen(tokens: Tokens, name: str, provider: str | None, used_for: str) -> KnownCredential:
    place = tokens.whereabouts(name)
    days = None if place.age_s is None else place.age_s / _DAY_S
    state = CredentialState.MISSING if not place.source else CredentialState.SET
    stale, soon = days is not None and days >= STALE_DAYS, STALE_DAYS * EARLY_WARNING_PERCENT / 100
    return KnownCredential(
        name=name,
        provider=provider,
        used_for=used_for,
        state=CredentialState.UNUSABLE if place.problem else state,
        source=place.source or None,
        age_days=None if days is None else round(days, 2),
        is_stale=stale,
        is_early_warning=days is not None and soon <= days and not stale,
        problem=place.problem,
    )
