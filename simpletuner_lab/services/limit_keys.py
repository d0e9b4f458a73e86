"""The four keys of a provider's spend limit among its settings (contract §2.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from simpletuner_lab.core.spend import LimitAction, Period, SpendLimit
from simpletuner_lab.services.codec import decode
from simpletuner_lab.services.setting_fields import CHOICES, fields_of
from simpletuner_lab.services.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitKeys:
    """As they are given and answered."""

    cost_limit_enabled: bool = False
    """Whether there is a limit on what may be spent here."""
    cost_limit_amount: float = 0.0
    """US dollars in a period."""
    cost_limit_period: Period = field(default=Period.MONTHLY, metadata={CHOICES: tuple(Period)})
    """A day, a week from Monday, or a month of the calendar in your time zone."""
    cost_limit_action: LimitAction = field(default=LimitAction.WARN, metadata={CHOICES: tuple(LimitAction)})
    """Once it would be passed: warn, or block the submit."""


LIMIT_FIELDS: Final = fields_of(LimitKeys)
"""As forms draw them, after a provider's own."""

LIMIT_KEYS: Final = frozenset(field.name for field in LIMIT_FIELDS)


def limit_from(keys: Mapping[str, object]) -> SpendLimit:
    """The limit that they describe.

    Raises:
        InvalidRequest: a value that cannot be, each with its key.
    """
    found = decode(LimitKeys, keys, what="settings")
    return SpendLimit(
        enabled=found.cost_limit_enabled,
        amount_usd=found.cost_limit_amount,
        period=found.cost_limit_period,
        action=found.cost_limit_action,
    )


def limit_settings(limit: SpendLimit) -> dict[str, object]:
    """The keys that describe a limit."""
    return {
        "cost_limit_enabled": limit.enabled,
        "cost_limit_amount": limit.amount_usd,
        "cost_limit_period": limit.period.value,
        "cost_limit_action": limit.action.value,
    }


class LimitSettings:
    """The limit of a provider, in the keys that stand among its settings (contract §2.3)."""

    def __init__(self, store: Store, changed: Callable[[], None]) -> None:
        self._store = store
        self._changed = changed

    def read(self, provider_id: str) -> dict[str, object]:
        """The four keys."""
        return limit_settings(self._store.spending.limits().providers.get(provider_id, SpendLimit()))

    def prepare(self, provider_id: str, given: Mapping[str, object]) -> SpendLimit | None:
        """The limit with these keys set; None where none of them is one of its.

        Raises:
            InvalidRequest: a value that cannot be.
        """
        ours = {key: value for key, value in given.items() if key in LIMIT_KEYS}
        return limit_from(self.read(provider_id) | ours) if ours else None

    def write(self, provider_id: str, limit: SpendLimit) -> None:
        """Sets it, and tells whoever waits for money."""
        self._store.spending.change_limits(
            lambda limits: dataclasses.replace(limits, providers={**limits.providers, provider_id: limit})
        )
        self._changed()
