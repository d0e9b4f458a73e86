"""Predictions as runs: created once, found again when the answer was lost, listed, read, cancelled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from simpletuner_lab.core.errors import LabError, ProviderFailure, ProviderUnavailable, ProviderUncertain
from simpletuner_lab.core.provider import ListedRun, RunTag, StartOrder
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers import _replicate_prediction as rp
from simpletuner_lab.providers._http import Api, NotDone, NotThere, Unreadable, reading
from simpletuner_lab.providers._replicate_files import SETTLES_S, cursor_of
from simpletuner_lab.providers._replicate_inputs import (
    DATA_INPUTS,
    inputs,
    life_s,
    read_tag,
    tag_text,
)
from simpletuner_lab.providers._replicate_notes import Notes, Outcome, StartNote, reference
from simpletuner_lab.providers._replicate_targets import Targets
from simpletuner_lab.providers._replicate_trial import is_trial

EVENTS: Final = ("start", "output", "logs", "completed")
"""All that a webhook can tell, always asked for by name: what is sent otherwise is not agreed on."""

_CLOCKS_S: Final = 900.0
"""How far Replicate's clock and ours may differ: the list is read back so far behind the first try."""
_MOST_PAGES: Final = 50
_LISTED_PAGES: Final = 5
_AGAIN: Final = "it is looked up again in a moment"


class Runs:
    """The predictions of our targets.

    Args:
        api: the provider's.
        targets: which models they are of.
        notes: what was started from here.
        now: the time.
    """

    def __init__(self, api: Api, targets: Targets, notes: Notes, now: Callable[[], float]) -> None:
        self._api = api
        self._targets = targets
        self._notes = notes
        self._now = now

    def create(self, order: StartOrder, *, version: str, data_url: str, run_limit_s: float, token: Secret) -> str:
        """Starts it and returns its id. Asked once: where no answer comes, `find` decides what became of it.

        Raises:
            ProviderUnavailable: what became of it is not known, or nothing and it may be tried again.
            LabError: nothing was started.
        """
        now = self._now()
        wanted = life_s(order.deadline_s, run_limit_s, order.limit_s)
        given = inputs(order, data_url)
        note = StartNote(
            job_id=order.tag.job_id, attempt=order.tag.attempt, target=order.target, model=self._targets.model(order.target),
            hardware=order.hardware, data_url=data_url, life_s=wanted, tried_at=self._first_try(order.tag, now),
            last_tried_at=now, usd_per_s=self._targets.usd_per_s(order.hardware),
        )  # fmt: skip
        body = {"version": version, "input": given}
        if order.webhook_url:
            body |= {"webhook": order.webhook_url, "webhook_events_filter": list(EVENTS)}
        self._notes.write(note)
        try:
            told = self._api.post(
                "/v1/predictions",
                token,
                body,
                headers={"Cancel-After": f"{wanted}s"},
                hide=tuple(order.secrets.values()),
            )
            ref = reference(rp.parse(told).id)
        except Unreadable as error:
            raise ProviderUnavailable(
                f"{error.message}: whether the run was started is not known", hint=_AGAIN
            ) from error
        except LabError as error:
            if isinstance(error, NotDone) or not isinstance(error, ProviderUnavailable):
                self._notes.write(dataclasses.replace(note, outcome=Outcome.REFUSED))
            raise
        self._notes.write(dataclasses.replace(note, outcome=Outcome.STARTED, ref=ref))
        return ref

    def find(self, tag: RunTag, token: Callable[[], Secret]) -> str | None:
        """The prediction of this attempt; None where there is none, for certain.

        Raises:
            ProviderUnavailable: it cannot be told now.
            ProviderUncertain: it cannot be told any more.
        """
        note = self._notes.start(tag)
        if note is None or note.outcome is Outcome.REFUSED:
            return None  # no create leaves without a note
        if note.ref:
            return note.ref
        try:
            found = self._look(note, token())
        except (ProviderUnavailable, ProviderUncertain):
            raise
        except ProviderFailure as error:
            message = f"whether the run was started cannot be told: {error.message}"
            raise ProviderUnavailable(message, hint=error.hint) from error
        if found is not None:
            self._notes.write(dataclasses.replace(note, outcome=Outcome.STARTED, ref=found))
            return found
        if self._now() - note.last_tried_at < SETTLES_S:
            raise ProviderUnavailable("a start whose answer was lost may still arrive at Replicate", hint=_AGAIN)
        return None

    def get(self, ref: str, token: Secret) -> rp.Prediction | None:
        """As it is now; None where there is none of this id, for certain.

        Raises:
            ProviderUnavailable: it cannot be told.
        """
        try:
            return rp.parse(self._api.get(f"/v1/predictions/{reference(ref)}", token))
        except NotThere:
            return self._still_listed(ref, token)

    def cancel(self, ref: str, token: Secret) -> None:
        """Asks for its end; one that has ended, or is not there, stays as it is."""
        try:
            self._api.post(f"/v1/predictions/{reference(ref)}/cancel", token)
        except (NotThere, Unreadable):  # it has been asked; the next poll says what it came to
            return

    def newest(self, token: Secret) -> Sequence[ListedRun]:
        """The newest of our targets."""
        found = []
        for page in self._pages(token, _LISTED_PAGES):
            found += [self._listed(one) for one in page if self._targets.of(one, None) and not is_trial(one.input)]
        return found

    def lives(self, job_id: str, token: Secret) -> bool:
        """Whether a run of the job has not ended.

        Raises:
            ProviderUnavailable: it cannot be told now.
        """
        for note in self._notes.of_job(job_id):
            try:
                ref = note.ref if note.outcome is not Outcome.SENT else self.find(note.tag, lambda: token)
            except ProviderUncertain:  # if there was one, it is long over
                continue
            one = self.get(ref, token) if ref else None
            if one is not None and not one.ended:
                return True
        return False

    def _first_try(self, tag: RunTag, now: float) -> float:
        before = self._notes.start(tag)
        return now if before is None or before.outcome is Outcome.REFUSED else before.tried_at

    def _look(self, note: StartNote, token: Secret) -> str | None:
        """Walks the list back to a time at which the first try cannot have arrived yet."""
        others = {one.ref for one in self._notes.of_job(note.job_id) if one.tag != note.tag}
        since = note.tried_at - _CLOCKS_S
        unsure = ""
        for page in self._pages(token, _MOST_PAGES, strict=True):
            for one in page:
                if one.id in others or one.model not in {"", note.model} or is_trial(one.input):
                    continue
                if _is_of(one, note):
                    return one.id
                untold = one.data_removed or _is_bare(one, note)
                if untold and (one.created_at or since) >= since and self._notes.started(one.id) is None:
                    unsure = one.id
            if any(one.created_at is not None and one.created_at < since for one in page):
                break
        if unsure:
            raise ProviderUncertain(
                f"prediction {unsure} may be this run: Replicate has nothing that would tell", hint="look at it there"
            )
        return None

    def _still_listed(self, ref: str, token: Secret) -> rp.Prediction | None:
        """One that is not there by itself may be all the same: a run that is given up too soon is paid for twice."""
        note = self._notes.started(ref)
        since = 0.0 if note is None else note.tried_at - _CLOCKS_S
        for page in self._pages(token, _MOST_PAGES, strict=True):
            for one in page:
                if one.id == ref:
                    return one
            if any(one.created_at is not None and one.created_at < since for one in page):
                break
        if note is not None and self._now() - note.last_tried_at < SETTLES_S:
            raise ProviderUnavailable(f"prediction {ref} is not there yet", hint=_AGAIN)
        return None

    def _pages(self, token: Secret, most: int, *, strict: bool = False) -> Iterator[list[rp.Prediction]]:
        """The list, the newest first. `strict`: one that does not end within so many pages cannot be told from.

        Raises:
            ProviderUncertain: it does not.
        """
        query: dict[str, str] = {}
        for _ in range(most):
            told = self._api.get("/v1/predictions", token, **query)
            with reading("Replicate"):
                page = [rp.parse(one) for one in told["results"]]
            yield page
            cursor = cursor_of(told.get("next"))
            if not cursor:
                return
            query = {"cursor": cursor}
        if strict:
            raise ProviderUncertain(
                "the list of predictions is too long to find one start in", hint="look for it there"
            )

    def _listed(self, one: rp.Prediction) -> ListedRun:
        note = self._notes.started(one.id)
        hardware = self._targets.hardware(note)
        meant = self._targets.meaning(one, note)
        return ListedRun(
            ref=one.id, tag=note.tag if note else read_tag(one.input.get("tag")), target=self._targets.of(one, note), state=meant.state,
            raw_state=one.status, hardware=hardware, created_at=one.created_at or 0.0, started_at=one.started_at,
            completed_at=one.completed_at, cost_usd=self._targets.cost_usd(rp.metered_s(one, self._now()), note), error=meant.error,
        )  # fmt: skip


def _is_of(one: rp.Prediction, note: StartNote) -> bool:
    """By its tag, else by the address of its data where the tag did not survive: they are this job's alone."""
    if (tag := one.input.get("tag")) is not None:
        return bool(tag == tag_text(note.tag))
    early = one.created_at is not None and one.created_at < note.tried_at - _CLOCKS_S
    return bool(note.data_url) and not early and one.input.get(DATA_INPUTS[note.target]) == note.data_url


def _is_bare(one: rp.Prediction, note: StartNote) -> bool:
    """Whether neither tag nor data tell it from this run, which was given no data of ours."""
    return not note.data_url and "tag" not in one.input and DATA_INPUTS[note.target] not in one.input
