"""A random walk through the life of a lab: what people do, what Replicate does, and what breaks, in an order of the seed's."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress

import httpx

from simpletuner_lab.testing.replicate_emulator import Fault, Shape, Status, WebhookFault, signature
from tests.e2e.replicate.house_kit import Died, House, Refused
from tests.e2e.replicate.plays import WAYS
from tests.e2e.replicate.truth import Witness

STEPS = 24
MOST_JOBS = 3
_ROUTES = (
    "account.get", "models.get", "predictions.create", "predictions.create", "predictions.get", "predictions.list",
    "predictions.cancel", "files.create", "files.get", "files.delete", "files.list", "webhooks.secret",
)  # fmt: skip
_FAULTS = (
    *({"status": status} for status in (401, 402, 404, 409, 422, 429, 500, 502, 503)),
    {"status": 429, "retry_after_s": 30}, {"status": 503, "html": True},
    {"html": True}, {"truncated": True}, {"lost": True}, {"lost": True}, {"held": True},
    {"shown_status": "pondering"}, {"logs_tail": 40}, {"shape": Shape.YEAR_2024},
)  # fmt: skip
_WEBHOOKS = (
    {"dropped": True}, {"duplicate": True}, {"reordered": True}, {"late_s": 90.0}, {"bad_signature": True},
    {"old_timestamp": True}, {"rotated": True},
)  # fmt: skip


class Walk:
    """Takes steps; `trace` has what was done, for whoever reads of a failure."""

    def __init__(self, lab: House, seed: int) -> None:
        self.lab = lab
        self.witness = Witness(lab)
        self.trace: list[str] = []
        self._random = random.Random(seed)
        self._jobs = 0
        self._told: list[str] = []
        self._broken = False
        self._held: list[Fault] = []
        lab.after_a_pass = self._let_go

    def run(self) -> None:
        """All steps, then what is broken is mended, and time passes until nothing is under way.

        Raises:
            AssertionError: something was not so; the message has the trace.
        """
        try:
            self._do(self._submit)
            for _ in range(STEPS):
                self._do(self._chosen())
            self._end()
        except Exception as error:
            steps = "\n  ".join(self.trace)
            raise AssertionError(f"{type(error).__name__}: {error}\nafter\n  {steps}") from error

    def _chosen(self) -> Callable[[], str]:
        if not self.lab.up and self._random.random() < 0.5:
            return self._restart
        rules = {
            self._pass_time: 9, self._submit: 3, self._submit_unasked: 1, self._submit_another: 1, self._fault: 6,
            self._webhook_fault: 3, self._forge: 1, self._cancel: 2, self._kill: 1, self._die_soon: 2, self._queue: 1,
            self._abort: 1, self._shape: 1,
        }  # fmt: skip
        return self._random.choices(list(rules), list(rules.values()))[0]

    def _do(self, rule: Callable[[], str]) -> None:
        self.trace.append(rule.__name__.strip("_"))
        try:
            said = rule()
        except Died:
            said = "our server is dead"
        told = "".join(f" ({one})" for one in self._told)
        self._told.clear()
        self.trace[-1] = f"{self.lab.emulator.now():.0f} {rule.__name__.strip('_')}: {said}{told}"
        try:
            self.witness.look()
        except Died:
            self.trace[-1] += " (it died of the question)"

    def _end(self) -> None:
        self.trace.append("the end: all is mended")
        self.lab.emulator.mend()
        self._let_go()
        self.lab.emulator.conduct.queue_s = 0.0
        if self.lab.up:
            with suppress(Died):
                self.lab.ask("die_in", 0)
        if not self.lab.up:
            self.lab.restart()
        self.lab.until_settled(look=self.witness.look)
        self.witness.check_end()

    # ------------------------------------------------------------ people

    def _submit(self) -> str:
        if self._jobs >= MOST_JOBS:
            return self._pass_time()
        self._jobs += 1
        how = self._random.choice(WAYS)
        request = self.lab.request(how, learning_rate=self._rate())
        digest = self._asked("plan", request)
        if digest is None:
            return f"{how}, and no plan"
        self.witness.consented.add(digest)
        job = self._asked("submit", request, digest, None)
        return f"{how} {job.id if job else 'refused'}"

    def _submit_unasked(self) -> str:
        request = self.lab.request("quick", learning_rate=self._rate())
        return self._refused(request, None, {"consent_required"})

    def _submit_another(self) -> str:
        request = self.lab.request("quick", learning_rate=self._rate())
        return self._refused(request, "sha256:" + "0" * 64, {"consent_required", "plan_changed"})

    def _refused(self, request: object, approve: str | None, codes: set[str]) -> str:
        before = len(self.lab.jobs())
        try:
            self.lab.ask("submit", request, approve, None)
        except Refused as refused:
            code = refused.code
        else:
            raise AssertionError("nobody had agreed to it")
        # without an answer from Replicate there is no plan, and so nothing to agree to
        assert code in codes or self._broken, code
        assert len(self.lab.jobs()) == before
        return code

    def _cancel(self) -> str:
        jobs = [job for job in self.lab.jobs() if not job.terminal]
        if not jobs:
            return "nothing to cancel"
        job = self._random.choice(jobs)
        self._asked("cancel", job.id)
        return job.id

    def _asked(self, verb: str, *arguments: object) -> object:
        """An answer, or None where a fault of Replicate's was in the way."""
        try:
            return self.lab.ask(verb, *arguments)
        except Refused as refused:
            self._told.append(f"{verb} was refused: {refused}")
            return None

    def _rate(self) -> float:
        return round(self._random.uniform(1e-5, 1e-3), 9)

    # ------------------------------------------------------------ Replicate

    def _pass_time(self) -> str:
        seconds = self._random.choice([0, 1, 3, 5, 8, 20, 60, 300, 900])
        self.lab.pass_time(seconds)
        return f"{seconds} s"

    def _fault(self) -> str:
        route, what, times = (
            self._random.choice(_ROUTES),
            self._random.choice(_FAULTS),
            self._random.choice([1, 1, 2, 4]),
        )
        self._broken = True
        made = Fault(**what, times=1 if "held" in what else times)
        self.lab.emulator.fail(route, made)
        if made.held:
            self._held.append(made)
        return f"{route} {what} times {made.times}"

    def _webhook_fault(self) -> str:
        what, times = self._random.choice(_WEBHOOKS), self._random.choice([1, 2, 5])
        self.lab.emulator.fail("webhook", WebhookFault(**what, times=times))
        return f"{what} times {times}"

    def _queue(self) -> str:
        self.lab.emulator.conduct.queue_s = self._random.choice([0.0, 10.0, 120.0])
        return f"{self.lab.emulator.conduct.queue_s} s"

    def _abort(self) -> str:
        waiting = [one.id for one in self.lab.emulator.predictions if one.status is Status.STARTING]
        if not waiting:
            return "nothing waits"
        self.lab.emulator.abort(self._random.choice(waiting))
        return waiting[0]

    def _shape(self) -> str:
        self.lab.emulator.conduct.shape = self._random.choice(list(Shape))
        return self.lab.emulator.conduct.shape.value

    # ------------------------------------------------------------ strangers, and the machine

    def _forge(self) -> str:
        """Somebody who does not know the secret says that all went well."""
        if not self.lab.up:
            raise Died
        known = [one.id for one in self.lab.emulator.predictions] or ["0" * 26]
        body = json.dumps(
            {"id": self._random.choice(known), "status": "succeeded", "output": '{"exit_code": 0}'}
        ).encode()
        now = int(self.lab.emulator.now())
        headers = {
            "webhook-id": "msg_forged", "webhook-timestamp": str(now),
            "webhook-signature": signature("whsec_" + "A" * 44, "msg_forged", now, body),
        }  # fmt: skip
        try:
            answer = httpx.post(self.lab.webhook_url, content=body, headers=headers, timeout=10, trust_env=False)
        except httpx.HTTPError:
            return "our server does not answer"  # it died meanwhile
        assert not answer.is_success, answer.text
        return str(answer.status_code)

    def _kill(self) -> str:
        self.lab.kill()
        return "now"

    def _die_soon(self) -> str:
        steps = self._random.randrange(1, 40)
        self.lab.ask("die_in", steps)
        return f"in {steps} steps"

    def _restart(self) -> str:
        self.lab.restart()
        return "up again"

    def _let_go(self) -> None:
        """Nobody waits any more for what was held."""
        for fault in self._held:
            if fault.reached.is_set():
                fault.release()
        self._held = [fault for fault in self._held if not fault.reached.is_set()]
