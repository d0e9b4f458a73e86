"""An emulated Replicate as a test sees it: what it holds, what was asked, what it cost, and what is to go wrong."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from simpletuner_lab.testing.replicate_emulator import shapes
from simpletuner_lab.testing.replicate_emulator.catalogue import Catalogue
from simpletuner_lab.testing.replicate_emulator.clock import Clock, Timeline
from simpletuner_lab.testing.replicate_emulator.engine import Engine, Play, ScriptedEngine
from simpletuner_lab.testing.replicate_emulator.faults import Fault, Faults, WebhookFault
from simpletuner_lab.testing.replicate_emulator.files import FileStore, StoredFile
from simpletuner_lab.testing.replicate_emulator.ledger import Charge, Ledger
from simpletuner_lab.testing.replicate_emulator.limits import Allowances
from simpletuner_lab.testing.replicate_emulator.machine import Machine
from simpletuner_lab.testing.replicate_emulator.outputs import Outputs
from simpletuner_lab.testing.replicate_emulator.records import Account, Conduct, Delivery, Prediction, Seen
from simpletuner_lab.testing.replicate_emulator.webhooks import Courier

T = TypeVar("T")

_PATIENCE_S: Final = 60.0


@dataclass(slots=True, kw_only=True)
class Parts:
    """What the handlers work with, all of it on the server's loop."""

    accounts: dict[str, Account]
    catalogue: Catalogue
    conduct: Conduct
    timeline: Timeline
    engine: Engine
    machine: Machine
    courier: Courier
    files: FileStore
    outputs: Outputs
    ledger: Ledger
    faults: Faults
    allowances: Allowances
    seen: list[Seen]
    control_token: str
    url: str = ""

    @classmethod
    def assemble(
        cls, *, accounts: Mapping[str, Account], catalogue: Catalogue, clock: Clock, conduct: Conduct,
        plays: Mapping[str, Play], engine: Engine | None, folder: Path, routes: tuple[str, ...],
    ) -> Parts:  # fmt: skip
        """Everything but a socket."""
        timeline = Timeline(clock)
        faults, ledger = Faults(routes), Ledger(catalogue.hardware)
        files, outputs = FileStore(folder / "files", timeline.now), Outputs(folder / "outputs")
        engine = engine or ScriptedEngine(timeline, plays)
        courier = Courier(
            timeline=timeline, conduct=conduct, faults=faults,
            tell=lambda prediction: shapes.prediction(prediction, made.url, conduct.shape),
        )  # fmt: skip
        machine = Machine(
            timeline=timeline, engine=engine, conduct=conduct, ledger=ledger, files=files, outputs=outputs,
            announce=courier.announce, base_url=lambda: made.url,
        )  # fmt: skip
        made = cls(
            accounts=dict(accounts), catalogue=catalogue, conduct=conduct, timeline=timeline, engine=engine,
            machine=machine, courier=courier, files=files, outputs=outputs, ledger=ledger, faults=faults,
            allowances=Allowances(), seen=[], control_token=secrets.token_urlsafe(24),
        )  # fmt: skip
        return made


class ReplicateEmulator:
    """A running emulator, for the threads of a test.

    `url` is what client 1.x takes as its base URL; 2.x takes `url + "/v1"`. `conduct` may be changed at any time.
    `control_token` opens `/_emu/`, which no user's token does.
    """

    def __init__(self, parts: Parts, loop: asyncio.AbstractEventLoop) -> None:
        self._parts, self._loop = parts, loop
        self.url: Final = parts.url
        self.conduct: Final = parts.conduct
        self.control_token: Final = parts.control_token

    def advance(self, seconds: float = 0.0) -> None:
        """Moves a manual clock, and returns when all that is due has happened, webhooks and their answers included.

        Raises:
            ValueError: the clock runs by itself.
        """
        self._do(self._parts.timeline.advance(seconds))

    def fail(self, route: str, fault: Fault | WebhookFault) -> Fault | WebhookFault:
        """Lets something go wrong at a route of `ROUTES` or at `webhook`, after what was asked for before.

        Raises:
            ValueError: there is no such route, or nothing of the kind goes wrong there.
        """
        self._parts.faults.add(route, fault)
        return fault

    def mend(self) -> None:
        """Nothing goes wrong any more, and no request is held."""
        self._parts.faults.clear()

    def play(self, model: str, play: Play) -> None:
        """Runs of a model that begin from now on do this.

        Raises:
            ValueError: there is no such model.
        """
        if model not in self._parts.catalogue.models or not isinstance(self._parts.engine, ScriptedEngine):
            raise ValueError(f"there is no model {model!r}: {', '.join(self._parts.catalogue.models)}")
        self._parts.engine.plays[model] = play

    def abort(self, prediction_id: str) -> None:
        """Replicate gives up a prediction that has not begun.

        Raises:
            ValueError: it has begun, or is not there.
        """

        async def abort() -> None:
            self._parts.machine.abort(prediction_id)

        self._do(abort())

    def rotate_secret(self) -> str:
        """Signs webhooks with a new secret from now on, and gives it."""
        return self._parts.courier.rotate()

    def revoke(self, token: str) -> None:
        """From now on nobody knows this token."""
        self._parts.accounts.pop(token, None)

    def now(self) -> float:
        """The emulator's time, in Unix seconds."""
        return self._parts.timeline.now()

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """All predictions and trainings of all accounts, as they are, in the order of their creates."""
        return tuple(self._parts.machine.predictions.values())

    @property
    def seen(self) -> tuple[Seen, ...]:
        """All requests that were answered, and those that were not."""
        return tuple(self._parts.seen)

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """All tries of webhooks."""
        return tuple(self._parts.courier.deliveries)

    @property
    def charges(self) -> tuple[Charge, ...]:
        """What predictions have cost, one line each."""
        return tuple(self._parts.ledger.charges)

    def files(self, owner: str) -> tuple[StoredFile, ...]:
        """An account's files that are still there, the newest first."""

        async def files() -> tuple[StoredFile, ...]:
            return tuple(self._parts.files.of(owner))

        return self._do(files())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_S)
