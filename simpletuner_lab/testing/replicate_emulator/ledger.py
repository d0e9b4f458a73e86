"""What predictions have cost: what a lab's own books are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.testing.replicate_emulator.records import Hardware, Prediction, Status

RULE: Final = "public: metrics.predict_time x price; setup, queue and idle are free, aborted is 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One line: so many seconds of a prediction on some hardware."""

    prediction_id: str
    owner: str
    model: str
    hardware: str
    status: Status
    seconds: float
    usd: float
    at: float


class Ledger:
    """One line for each prediction that has ended, by the rule for public models."""

    def __init__(self, hardware: Mapping[str, Hardware]) -> None:
        self._hardware = hardware
        self.charges: list[Charge] = []

    def book(self, prediction: Prediction, at: float) -> None:
        """Enters what has just ended; one that never began costs nothing."""
        seconds = 0.0
        if prediction.status is not Status.ABORTED:
            seconds = float(prediction.metrics.get("predict_time", 0.0))
        sku = prediction.version.hardware
        self.charges.append(
            Charge(
                prediction_id=prediction.id, owner=prediction.owner, model=prediction.model, hardware=sku,
                status=prediction.status, seconds=seconds, usd=seconds * self._hardware[sku].usd_per_s, at=at,
            )
        )  # fmt: skip

    def total_usd(self, owner: str | None = None) -> float:
        """Of one account, or of all."""
        return sum(charge.usd for charge in self.charges if owner in {None, charge.owner})
