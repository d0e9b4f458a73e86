"""What a second on Replicate's hardware costs, as its price list said on a date. Its API tells names alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from simpletuner_lab.core.cost import Rate

_PAGE: Final = "replicate.com/pricing"
_ACTIVE: Final = "time that a run is active; a private model's set-up and idle time cost too"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Of one kind of hardware, by its sku."""

    sku: str
    label: str
    vram_gb: int
    usd_per_s: float
    as_of: str
    """ISO date of the price list."""
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
