"""The other side of the emulator, `/_emu/`: for tests in other processes. It opens to its own token alone."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import asdict
from signal import Signals
from typing import Any, ClassVar, Final

from simpletuner_lab.testing.replicate_emulator import ledger, shapes
from simpletuner_lab.testing.replicate_emulator.cog_engine import CogEngine
from simpletuner_lab.testing.replicate_emulator.engine import ScriptedEngine, Step
from simpletuner_lab.testing.replicate_emulator.exchange import Handler
from simpletuner_lab.testing.replicate_emulator.faults import fault_of
from simpletuner_lab.testing.replicate_emulator.records import Refusal
from simpletuner_lab.testing.replicate_emulator.requests import invalid, only


class Control(Handler):
    """Whoever has not its token finds nothing here."""

    needs_token = False

    async def prepare(self) -> None:
        """Asks for the token; no fault and no allowance is counted."""
        expected = f"Bearer {self.parts.control_token}"
        if not hmac.compare_digest(self.request.headers.get("Authorization", "").encode(), expected.encode()):
            raise Refusal(404, "The requested resource could not be found.", "Not found")

    def finish(self, chunk: Any = None) -> Any:
        """What is asked here is not noted."""
        return super(Handler, self).finish(chunk)

    def attempt(self, action: Callable[[], None]) -> None:
        """Does something that may not be possible.

        Raises:
            Refusal: 422, with the reason.
        """
        try:
            action()
        except (TypeError, ValueError) as error:
            raise invalid(f"- {error}") from error


class _Billing(Control):
    routes: ClassVar = {"GET": "billing"}

    def get(self) -> None:
        books = self.parts.ledger
        prices = [asdict(one) for one in self.parts.catalogue.hardware.values()]
        charges = [asdict(charge) for charge in books.charges]
        self.answer({"rule": ledger.RULE, "total_usd": books.total_usd(), "charges": charges, "prices": prices})


class _Predictions(Control):
    routes: ClassVar = {"GET": "predictions"}

    def get(self) -> None:
        found = self.parts.machine.predictions.values()
        self.answer([shapes.prediction(one, self.parts.url) | {"owner": one.owner} for one in found])


class _Abort(Control):
    routes: ClassVar = {"POST": "abort"}

    def post(self, prediction_id: str) -> None:
        self.attempt(lambda: self.parts.machine.abort(prediction_id))
        self.answer({})


class _Requests(Control):
    routes: ClassVar = {"GET": "requests"}

    def get(self) -> None:
        self.answer([asdict(seen) for seen in self.parts.seen])


class _Deliveries(Control):
    routes: ClassVar = {"GET": "deliveries"}

    def get(self) -> None:
        self.answer([asdict(delivery) for delivery in self.parts.courier.deliveries])


class _Clock(Control):
    routes: ClassVar = {"GET": "clock", "POST": "clock"}

    def get(self) -> None:
        self.answer({"now_s": self.parts.timeline.now()})

    async def post(self) -> None:
        body = only(self.body(), ("advance_s",))
        try:
            await self.parts.timeline.advance(float(body["advance_s"]))
        except (KeyError, TypeError, ValueError) as error:
            raise invalid(f"- advance_s: {error}") from error
        self.get()


class _Faults(Control):
    routes: ClassVar = {"POST": "faults", "DELETE": "faults"}

    def post(self) -> None:
        body = only(self.body(), ("route", "fault"))
        route, members = str(body.get("route")), body.get("fault") or {}
        self.attempt(lambda: self.parts.faults.add(route, fault_of(route, members)))
        self.answer({}, 201)

    def delete(self) -> None:
        self.parts.faults.clear()
        self.answer_nothing()


class _Secret(Control):
    routes: ClassVar = {"POST": "secret"}

    def post(self) -> None:
        self.answer({"key": self.parts.courier.rotate()})


class _Scripts(Control):
    routes: ClassVar = {"POST": "scripts"}

    def post(self) -> None:
        body = only(self.body(), ("model", "steps"))
        engine, model = self.parts.engine, str(body.get("model"))
        if not isinstance(engine, ScriptedEngine) or model not in self.parts.catalogue.models:
            raise invalid(f"- there is no model {model!r} that plays scripts")
        self.attempt(lambda: engine.plays.update({model: tuple(Step(**step) for step in body.get("steps", ()))}))
        self.answer({}, 201)


class _Workers(Control):
    routes: ClassVar = {"POST": "workers"}

    def post(self) -> None:
        body = only(self.body(), ("model", "signal"))
        engine, number = self.parts.engine, str(body.get("signal"))
        if not isinstance(engine, CogEngine) or number not in {"SIGKILL", "SIGTERM"}:
            raise invalid("- signal: SIGKILL or SIGTERM, where Cog runs the models")
        self.attempt(lambda: engine.signal(str(body.get("model")), Signals[number]))
        self.answer({}, 201)


TABLE: Final[tuple[tuple[str, type[Handler]], ...]] = (
    (r"/_emu/billing", _Billing),
    (r"/_emu/predictions", _Predictions),
    (r"/_emu/predictions/([a-z0-9]+)/abort", _Abort),
    (r"/_emu/requests", _Requests),
    (r"/_emu/deliveries", _Deliveries),
    (r"/_emu/clock", _Clock),
    (r"/_emu/faults", _Faults),
    (r"/_emu/secret", _Secret),
    (r"/_emu/scripts", _Scripts),
    (r"/_emu/workers", _Workers),
)
