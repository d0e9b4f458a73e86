"""What training has cost, in a cell."""

from __future__ import annotations

from typing import ClassVar, Final

from simpletuner_lab.client import Client
from simpletuner_lab.services.money_views import SpendView
from simpletuner_lab.widgets.base import LabWidget
from simpletuner_lab.widgets.card import spend_card
from simpletuner_lab.widgets.follower import Glance

_LOOK_S: Final = 5.0
"""Nobody watches cents."""


class SpendWidget(LabWidget):
    """What was spent by day, provider and job, where the limits stand, and how they are changed."""

    bundle: ClassVar[str] = "spend"

    def __init__(self, client: Client | None = None) -> None:
        self._found: SpendView | None = None
        super().__init__(client)

    def __repr__(self) -> str:
        return "<spend>" if self._found is None else f"<spend: ${self._found.total_usd:.2f} in {self._found.days} days>"

    def look(self, glance: Glance) -> float | None:
        """Tells the browser that something was spent since the last look."""
        before, self._found = self._found, glance.spend()
        if before not in {None, self._found}:
            self._tell(None, 0)
            self._paper.replace(self._card(), repr(self))
        return _LOOK_S

    def _card(self) -> str:
        if self._found is None:
            self._found = Glance(self._line).spend()
        return spend_card(self._found)
