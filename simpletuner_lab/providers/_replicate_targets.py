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

    def meaning(self, one: rp.Prediction, note: StartNote | None) -> rp.Meaning:
        """What it comes to."""
        deadline = None if note is None or one.created_at is None else one.created_at + note.life_s
        return rp.meaning(
            one, returns_code=self.of(one, note) == COG, deadline=deadline, run_limit_s=self._settings.run_limit_s
        )
