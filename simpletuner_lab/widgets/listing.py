"""The list of jobs in a cell."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final

import traitlets as t

from simpletuner_lab.client import Client
from simpletuner_lab.services.views import JobPage
from simpletuner_lab.widgets.base import LabWidget
from simpletuner_lab.widgets.card import job_state, jobs_card
from simpletuner_lab.widgets.follower import Glance

_LOOK_S: Final = 0.5
_IDLE_LOOK_S: Final = 2.0
_ON_PAPER: Final = 10


class JobsWidget(LabWidget):
    """Every job of the lab, live."""

    bundle: ClassVar[str] = "jobs"
    view = t.Unicode("jobs").tag(sync=True)

    def __init__(self, client: Client | None = None) -> None:
        self._page: JobPage | None = None
        super().__init__(client)

    def __repr__(self) -> str:
        return "<jobs>" if self._page is None else f"<jobs: {self._page.total} in all>"

    def look(self, glance: Glance) -> float | None:
        """Tells the browser which jobs changed since the last look."""
        before, self._page = self._page, glance.recent()
        if before is not None:
            if before.total != self._page.total:
                self._tell(None, 0)
            known = _versions(before)
            for job_id, version in _versions(self._page).items():
                if known.get(job_id) != version:
                    self._tell(job_id, version)
            if _states(before) != _states(self._page):
                self._paper.replace(self._card(), repr(self))
        return _LOOK_S if any(job.is_active for job in self._page.jobs) else _IDLE_LOOK_S

    def _card(self) -> str:
        if self._page is None:
            self.look(Glance(self._line))
        page = self._page or JobPage(jobs=(), total=0)
        newest = sorted(page.jobs, key=lambda job: job.created_at, reverse=True)
        return jobs_card(newest[:_ON_PAPER], page.total)


def _versions(page: JobPage) -> Mapping[str, int]:
    return MappingProxyType({job.job_id: job.version for job in page.jobs})


def _states(page: JobPage) -> frozenset[tuple[str, str]]:
    return frozenset((job.job_id, job_state(job)) for job in page.jobs)
