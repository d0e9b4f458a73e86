"""The submit form in a cell: the plan in it, a button to agree, and after that the job."""

from __future__ import annotations

import secrets
import time
from typing import Any, ClassVar, Final

from simpletuner_lab.client import Client
from simpletuner_lab.core.errors import InvalidRequest, JobActive
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.codec import decode
from simpletuner_lab.services.forms import RequestForm
from simpletuner_lab.services.views import JobView, PlanView
from simpletuner_lab.widgets.card import plan_card
from simpletuner_lab.widgets.follower import Glance
from simpletuner_lab.widgets.run import LOOK_S, RunWidget
from simpletuner_lab.widgets.saved import saved_request

_PATIENCE: Final = 20
_LONGEST_LOOK_S: Final = 10.0
"""A form that nobody touched for a time t is looked at every t / _PATIENCE seconds, at least so often: forms that were
shown by a cell and replaced when it ran again cost next to nothing."""


class SubmitWidget(RunWidget):
    """A training that waits for consent: the button's, or `submit(approve=DIGEST)`."""

    bundle: ClassVar[str] = "submit"

    def __init__(self, asked: SubmitRequest | None, client: Client | None = None) -> None:
        self._touched_at = time.monotonic()
        self._planned: tuple[dict[str, Any], PlanView] | None = None
        request = None if asked is None else saved_request(asked)
        super().__init__(client, request=request, key=secrets.token_hex(16))

    def __repr__(self) -> str:
        if self.job_id or self.request is None:
            return super().__repr__()
        return f"<training {self.request['config_name']!r} on {self.request['provider']}, not submitted>"

    @property
    def plan(self) -> PlanView:
        """What a submit would send, to whom, for how much, and the digest to approve. Asked for once per request."""
        request = self.request
        if self._planned is None or self._planned[0] != request:
            asked = self._asked()
            self._planned = (request, self._line.ask(lambda client: client.plan(asked)))
            self._paper.replace(self._card(), repr(self))
        return self._planned[1]

    def submit(self, *, approve: str | None = None) -> JobView:
        """Agrees from code: to the digest of the plan that was read.

        Raises:
            ConsentRequired: nobody agreed to this plan.
            PlanChanged: what would leave now is not what was agreed to.
            JobActive: it was submitted before.
        """
        if self.job_id:
            raise JobActive(f"this was submitted as job {self.job_id}", hint="make another form for another job")
        asked = self._asked()
        job = self._line.ask(lambda client: client.submit(asked, approve=approve, key=self.key, entry="widget"))
        self._adopt(job.job_id)
        return job

    def look(self, glance: Glance) -> float | None:
        """Before there is a job: has the browser submitted it over REST, while the kernel could not hear of it?"""
        self._learn(glance)
        if self.job_id:
            return super().look(glance)
        if self._waiters:
            return LOOK_S
        return min(max(LOOK_S, (time.monotonic() - self._touched_at) / _PATIENCE), _LONGEST_LOOK_S)

    def _follow(self) -> None:
        self._touched_at = time.monotonic()
        super()._follow()

    def _learn(self, glance: Glance) -> None:
        if self.job_id or not self.key:
            return
        found = glance.by_key(self.key)
        if found is not None:
            self._adopt(found.job_id)

    def _adopt(self, job_id: str) -> None:
        with self._lock:
            self.job_id = job_id

    def _answered(self, verb: str, value: Any) -> None:
        if verb == "submit":
            self._adopt(value["job_id"])
        elif not self.job_id:
            self._follow()
        super()._answered(verb, value)

    def _asked(self) -> SubmitRequest:
        """The request as the form has it now."""
        if self.request is None:
            raise InvalidRequest("the form is empty", hint="submit(config, data) fills it")
        return decode(RequestForm, self.request, what="request").request()

    def _card(self) -> str:
        if self.job_id:
            return super()._card()
        current = self._planned is not None and self._planned[0] == self.request
        return plan_card(self.request, self._planned[1] if self._planned and current else None)
