"""What a second on Replicate's hardware costs, as its price list said on a date. Its API tells names alone.

A price that has changed since is told by a setting, `SKU=USD per second`, which counts instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from simpletuner_lab.core.cost import Rate
from simpletuner_lab.core.errors import Problem

_PAGE: Final = "replicate.com/pricing"
_ACTIVE: Final = "time that a run is active; a private model's set-up and idle time cost too"
_OWN: Final = "the setting prices"
_PRICE: Final = re.compile(r"\s*([a-z0-9][a-z0-9-]{0,63})\s*=\s*\$?([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*", re.ASCII)
_DEAREST_USD_PER_S: Final = 0.1
"""Eight H100 cost a ninth of it; a price that is meant for an hour is above it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Of one kind of hardware, by its sku."""

    sku: str
    label: str
    vram_gb: int
    usd_per_s: float
    as_of: str
    """ISO date of the price list; empty where a setting tells the price."""
    source: str = _PAGE

    def rate(self) -> Rate:
        """As plans and forms have it."""
        memory = f", {self.vram_gb} GB" if self.vram_gb else ""
        return Rate(
            hardware=self.sku,
            label=f"{self.label}{memory}",
            usd_per_hour=self.usd_per_s * 3600,
            as_of=self.as_of,
            source=f"{self.source}: {_ACTIVE}",
        )


def _price(sku: str, label: str, vram_gb: int, usd_per_s: float, as_of: str = "2026-05-04") -> Price:
    return Price(sku=sku, label=label, vram_gb=vram_gb, usd_per_s=usd_per_s, as_of=as_of)


_ONE: Final = (
    _price("cpu", "CPU", 0, 0.000100, "2026-11-18"),
    _price("gpu-t4", "Nvidia T4", 16, 0.000225),
    _price("gpu-l40s", "Nvidia L40S", 48, 0.000975),
    _price("gpu-a100-large", "Nvidia A100 (80GB)", 80, 0.001400),
    _price("gpu-h100", "Nvidia H100", 80, 0.001525),
)


def _several(sku: str, one: Price, count: int) -> Price:
    """The list prices several as so many times one."""
    return _price(sku, f"{count}x {one.label}", one.vram_gb * count, one.usd_per_s * count, one.as_of)


_BY_SKU: Final = {price.sku: price for price in _ONE}
_MANY: Final = (
    *(_several(f"gpu-{count}x-l40s", _BY_SKU["gpu-l40s"], count) for count in (2, 4, 8)),
    *(_several(f"gpu-a100-large-{count}x", _BY_SKU["gpu-a100-large"], count) for count in (2, 4, 8)),
    *(_several(f"gpu-h100-{count}x", _BY_SKU["gpu-h100"], count) for count in (2, 4, 8)),
)

RATES: Final[Mapping[str, Price]] = MappingProxyType({price.sku: price for price in (*_ONE, *_MANY)})
"""By sku, as the pricing page has them."""


def price_list(own: Sequence[str]) -> Mapping[str, Price]:
    """By sku: the list's prices, and before them those of the setting, of which one may be of hardware that is new."""
    found = dict(RATES)
    for sku, usd_per_s in (told for told in map(_told, own) if told is not None):
        known = RATES.get(sku) or _price(sku, sku, 0, usd_per_s)
        found[sku] = replace(known, usd_per_s=usd_per_s, as_of="", source=_OWN)
    return MappingProxyType(found)


def price_problems(own: Sequence[str], key: str) -> Iterator[Problem]:
    """What is wrong with the setting. No price is 0: what is free passes every spend limit."""
    seen: set[str] = set()
    for text in own:
        shown, told = repr(text[:100]), _told(text)
        if told is None:
            yield Problem(path=key, message=f"{shown} is not SKU=USD per second", hint="for example gpu-l40s=0.000975")
        elif not 0 < told[1] <= _DEAREST_USD_PER_S:
            message = f"{shown} is not over 0 and at most {_DEAREST_USD_PER_S:g} dollars a second"
            yield Problem(path=key, message=message, hint="the price of an hour, divided by 3600")
        elif told[0] in seen:
            yield Problem(path=key, message=f"{shown} is a second price of {told[0]}", hint="keep one of the two")
        else:
            seen.add(told[0])


def _told(text: str) -> tuple[str, float] | None:
    found = _PRICE.fullmatch(text)
    return (found[1], float(found[2])) if found else None
