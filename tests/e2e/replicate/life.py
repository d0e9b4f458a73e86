"""The life of a lab as a state machine: what people do, what Replicate does, and what breaks, in any order."""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.testing.replicate_emulator import Fault, Shape, Status, WebhookFault, signature
from tests.e2e.replicate.house_kit import Died, Nursery, Refused, house
from tests.e2e.replicate.plays import WAYS
from tests.e2e.replicate.truth import Witness

MOST_JOBS = 3
_ROUTES = (
    "predictions.create", "predictions.get", "predictions.list", "predictions.cancel", "files.create", "files.get",
    "files.delete", "files.list", "account.get", "models.get", "webhooks.secret",
)  # fmt: skip
_FAULTS = (
    {"lost": True}, {"truncated": True}, {"html": True}, {"status": 503, "html": True}, {"status": 429, "retry_after_s": 30},
    *({"status": status} for status in (500, 502, 503, 429, 401, 402, 404, 409, 422)),
    {"shown_status": "pondering"}, {"logs_tail": 40}, {"shape": Shape.YEAR_2024},
)  # fmt: skip
_WEBHOOKS = (
    {"dropped": True}, {"duplicate": True}, {"reordered": True}, {"late_s": 90.0}, {"bad_signature": True},
    {"old_timestamp": True}, {"rotated": True},
)  # fmt: skip

Trouble = tuple[Any, ...]
"""What Replicate does, and the particulars of it."""
_TROUBLES = st.one_of(
    st.tuples(st.just("answers"), st.just("predictions.create"), st.sampled_from(_FAULTS), st.sampled_from([1, 2])),
    st.tuples(st.just("answers"), st.sampled_from(_ROUTES), st.sampled_from(_FAULTS), st.sampled_from([1, 2, 4])),
    st.tuples(st.just("holds"), st.sampled_from(_ROUTES)),
    st.tuples(st.just("calls back"), st.sampled_from(_WEBHOOKS), st.sampled_from([1, 2, 5])),
    st.tuples(st.just("lets wait"), st.sampled_from([0.0, 10.0, 120.0])),
    st.tuples(st.just("has the shape"), st.sampled_from(Shape)),
    st.just(("aborts",)),
)
_SECONDS = st.sampled_from([0, 1, 3, 5, 8, 20, 60, 300, 900])


class Life(RuleBasedStateMachine):
    """A house of its own. At the end all is mended, time passes until nothing is under way, and all must be right.

    What is drawn depends on nothing that is timed by threads, so that a failure can be run again and be made short:
    whether our server still lives is known to nobody before it is asked, and a rule that finds it dead does nothing.

    The rules are few: of many, hypothesis leaves out some at random in each life, and a life of faults alone or of
    waiting alone shows nothing.
    """

    def __init__(self, nursery: Nursery) -> None:
        super().__init__()
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="life-")))
        self.lab = self._stack.enter_context(house(nursery, folder, timeout_s=1.0))
        self.lab.after_a_pass = self._let_go
        self.witness = Witness(self.lab)
        self._submitted: list[str] = []
        """Ids of jobs; empty for one that was refused."""
        self._asked = 0
        self._mortal = False
        """Somebody has killed our server, or will, since it began."""
        self._broken = False
        self._held: list[Fault] = []

    # ------------------------------------------------------------ what people do

    @initialize(trouble=st.none() | _TROUBLES, how=st.sampled_from(WAYS), seconds=_SECONDS)
    def begin(self, trouble: Trouble | None, how: str, seconds: int) -> None:
        """A life without a job would show nothing."""
        if trouble is not None:
            self.go_wrong(trouble)
        self.submit(how, seconds)

    @precondition(lambda self: len(self._submitted) < MOST_JOBS)
    @rule(how=st.sampled_from(WAYS), seconds=_SECONDS)
    def submit(self, how: str, seconds: int) -> None:
        request = self._request(how)
        self._submitted.append("")
        digest = self._ask("plan", request)
        if digest is not None:
            self.witness.consented.add(digest)
            job = self._ask("submit", request, digest, None)
            self._submitted[-1] = job.id if job else ""
        self.pass_time(seconds)

    @rule(approve=st.sampled_from([None, "sha256:" + "0" * 64]))
    def submit_without_consent(self, approve: str | None) -> None:
        with suppress(Died):
            before = len(self.lab.jobs())
            with pytest.raises(Refused) as told:
                self.lab.ask("submit", self._request("quick"), approve, None)
            # without an answer from Replicate there is no plan, and so nothing to agree to
            assert told.value.code in {"consent_required", "plan_changed"} or self._broken, told.value
            assert len(self.lab.jobs()) == before

    @rule(which=st.integers(0, MOST_JOBS - 1), seconds=_SECONDS)
    def cancel(self, which: int, seconds: int) -> None:
        if job_id := self._submitted[which % len(self._submitted)]:
            self._ask("cancel", job_id)
        self.pass_time(seconds)

    @rule(seconds=_SECONDS)
    def pass_time(self, seconds: int) -> None:
        with suppress(Died):
            self.lab.pass_time(seconds)

    # ------------------------------------------------------------ what Replicate does

    @rule(trouble=_TROUBLES)
    def go_wrong(self, trouble: Trouble) -> None:
        emulator = self.lab.emulator
        match trouble:
            case ("answers", route, what, times):
                self._broken = True
                emulator.fail(route, Fault(**what, times=times))
            case ("holds", route):
                self._broken = True
                self._held.append(Fault(held=True))
                emulator.fail(route, self._held[-1])
            case ("calls back", what, times):
                emulator.fail("webhook", WebhookFault(**what, times=times))
            case ("lets wait", seconds):
                emulator.conduct.queue_s = seconds
            case ("has the shape", shape):
                emulator.conduct.shape = shape
            case ("aborts",):
                for one in [one for one in emulator.predictions if one.status is Status.STARTING][:1]:
                    emulator.abort(one.id)
            case _:
                raise AssertionError(trouble)

    # ------------------------------------------------------------ strangers, and the machine

    @rule()
    def forge_a_webhook(self) -> None:
        """Somebody who does not know the secret says that all went well."""
        known = [one.id for one in self.lab.emulator.predictions] or ["0" * 26]
        body = json.dumps({"id": known[-1], "status": "succeeded", "output": '{"exit_code": 0}'}).encode()
        now = int(self.lab.emulator.now())
        headers = {
            "webhook-id": "msg_forged", "webhook-timestamp": str(now),
            "webhook-signature": signature("whsec_" + "A" * 44, "msg_forged", now, body),
        }  # fmt: skip
        with suppress(httpx.HTTPError):  # nobody is there
            answer = httpx.post(self.lab.webhook_url, content=body, headers=headers, timeout=10, trust_env=False)
            assert not answer.is_success, answer.text

    @rule(steps=st.integers(0, 40))
    def die(self, steps: int) -> None:
        """At once, or before one of the next steps of our server."""
        self._mortal = True
        if steps:
            self._ask("die_in", steps)
        else:
            self.lab.kill()

    @precondition(lambda self: self._mortal)
    @rule()
    def restart(self) -> None:
        self._mortal = False
        with suppress(Died):
            self.lab.restart()

    # ------------------------------------------------------------ what must be so

    @invariant()
    def nothing_unasked_and_nothing_twice(self) -> None:
        with suppress(Died):
            self.witness.look()

    def teardown(self) -> None:
        with self._stack:
            if sys.exc_info()[0] is None:  # else it has failed already, and that is to be told
                self._end()

    def _end(self) -> None:
        emulator = self.lab.emulator
        emulator.mend()
        self._let_go()
        emulator.conduct.queue_s = 0.0
        self._ask("die_in", 0)
        if not self.lab.up:
            self.lab.restart()
        self.lab.until_settled(look=self.witness.look)
        self.witness.check_end()

    def _request(self, how: str) -> SubmitRequest:
        """Unlike any other, so that nobody has agreed to it."""
        self._asked += 1
        return self.lab.request(how, learning_rate=self._asked / 10_000)

    def _ask(self, verb: str, *arguments: object) -> Any:
        """An answer, or None where a fault of Replicate's was in the way, or our server is dead."""
        try:
            return self.lab.ask(verb, *arguments)
        except (Refused, Died) as error:
            note(f"# {verb}: {error or 'our server is dead'}")
            return None

    def _let_go(self) -> None:
        """Nobody waits any more for what was held."""
        for fault in self._held:
            if fault.reached.is_set():
                fault.release()
        self._held = [fault for fault in self._held if not fault.reached.is_set()]
