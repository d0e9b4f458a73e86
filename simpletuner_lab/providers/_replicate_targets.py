"""Which model a target runs, and what a prediction of it comes to."""

from __future__ import annotations

from simpletuner_lab.core.errors import ProviderFailure
from simpletuner_lab.providers import _replicate_prediction as rp
from simpletuner_lab.providers._replicate_inputs import COG, SIMPLETUNER
from simpletuner_lab.providers._replicate_notes import StartNote
from simpletuner_lab.providers._replicate_settings import ReplicateSettings


class Targets:
    """The targets of some settings."""

    def __init__(self, settings: ReplicateSettings) -> None:
        self._settings = settings

    def model(self, target: str) -> str:
        """OWNER/NAME of what a target runs.

        Raises:
            ProviderFailure: there is no such target.
        """
        if target == COG and self._settings.image:
            return self._settings.image_model
        if target == SIMPLETUNER:
            return self._settings.model
        raise ProviderFailure(f"Replicate has no target {target!r}", hint="see the settings image and model")

    def of(self, one: rp.Prediction, note: StartNote | None) -> str:
        """Of which target it is: by its note, else by its model; empty: of none."""
        if note is not None:
            return note.target
        if self._settings.image and one.model == self._settings.image_model:
            return COG
        return SIMPLETUNER if one.model == self._settings.model else ""

    def hardware(self, note: StartNote | None) -> str:
        """What it runs on."""
        return note.hardware if note else self._settings.hardware

    def usd_per_s(self, hardware: str) -> float | None:
        """What it costs by the settings; None where they do not know it."""
        price = self._settings.price_list.get(hardware)
        return None if price is None else price.usd_per_s

    def cost_usd(self, metered_s: float | None, note: StartNote | None) -> float | None:
        """What so many seconds of a run cost: by the price of its start, else by today's. None: time or price is not known."""
        noted = None if note is None else note.usd_per_s
        usd_per_s = self.usd_per_s(self.hardware(note)) if noted is None else noted
        return None if metered_s is None or usd_per_s is None else metered_s * usd_per_s

    def meaning(self, one: rp.Prediction, note: StartNote | None) -> rp.Meaning:
        """What it comes to."""
        deadline = None if note is None or one.created_at is None else one.created_at + note.life_s
        return rp.meaning(
            one, returns_code=self.of(one, note) == COG, deadline=deadline, run_limit_s=self._settings.run_limit_s
        )
