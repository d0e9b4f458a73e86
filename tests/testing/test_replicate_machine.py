"""Whatever is done in whatever order: one worker a version, an end that is final, one charge and one last webhook each."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from simpletuner_lab.testing.replicate_emulator import HARDWARE, MODELS, Conduct, ManualClock, Status, Step, Word
from simpletuner_lab.testing.replicate_emulator.clock import Timeline
from simpletuner_lab.testing.replicate_emulator.engine import ScriptedEngine
from simpletuner_lab.testing.replicate_emulator.files import FileStore
from simpletuner_lab.testing.replicate_emulator.ledger import Ledger
from simpletuner_lab.testing.replicate_emulator.machine import Machine, Order
from simpletuner_lab.testing.replicate_emulator.outputs import Outputs
from simpletuner_lab.testing.replicate_emulator.records import Prediction
from tests.testing.replicate_kit import NOW

VERSIONS = [model.versions[0] for model in MODELS]
PLAYS = {
    VERSIONS[0].model: [Step(after_s=40, log="a\n"), Step(after_s=40, output="o")],
    VERSIONS[1].model: [Step(after_s=7, log="a\n"), Step(after_s=3000)],
}
PRICES = {one.sku: one.usd_per_s for one in HARDWARE}

DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.integers(0, 1), st.sampled_from([None, 5, 60, 500])),
        st.tuples(st.just("cancel"), st.integers(0, 9), st.none()),
        st.tuples(st.just("abort"), st.integers(0, 9), st.none()),
        st.tuples(st.just("advance"), st.sampled_from([0, 1, 10, 40, 80, 600, 2000, 5000]), st.none()),
    ),
    min_size=3,
    max_size=25,
)
CONDUCT = st.builds(
    Conduct,
    queue_s=st.sampled_from([0.0, 3.0]),
    boot_s=st.sampled_from([0.0, 30.0]),
    cancel_s=st.sampled_from([0.0, 20.0]),
)


class World:
    """A machine without a socket, and what it has said."""

    def __init__(self, conduct: Conduct, folder: Path) -> None:
        self.timeline = Timeline(ManualClock(NOW))
        self.ledger = Ledger({one.sku: one for one in HARDWARE})
        self.said: dict[str, list[tuple[Word, Status]]] = {}
        self.ends: dict[str, Status] = {}
        self.machine = Machine(
            timeline=self.timeline, engine=ScriptedEngine(self.timeline, PLAYS), conduct=conduct, ledger=self.ledger,
            files=FileStore(folder / "files", self.timeline.now), outputs=Outputs(folder / "outputs"), announce=self.hear,
            base_url=lambda: "http://127.0.0.1",
        )  # fmt: skip

    def hear(self, prediction: Prediction, word: Word) -> None:
        self.said.setdefault(prediction.id, []).append((word, prediction.status))
        self.look()

    def look(self) -> None:
        """At every moment."""
        everything = self.machine.predictions.values()
        running = [one.version.id for one in everything if one.status is Status.PROCESSING]
        assert len(running) == len(set(running)), "two runs at one worker"
        for one in everything:
            if one.id in self.ends:
                assert one.status is self.ends[one.id], "an end that did not last"
            elif one.status.is_terminal:
                self.ends[one.id] = one.status
            began = one.started_at is not None
            assert not (one.status in {Status.PROCESSING, Status.SUCCEEDED} and not began)
            assert not (one.status is Status.ABORTED and began)

    async def do(self, deed: str, which: int, life_s: int | None) -> None:
        known = list(self.machine.predictions.values())
        if deed == "create":
            version = VERSIONS[which]
            order = Order(kind="predictions", owner="ann", version=version, hidden=False, input={}, life_s=life_s)
            self.machine.create(order)
        elif deed == "advance":
            await self.timeline.advance(which)
        elif which < len(known) and deed == "cancel":
            self.machine.cancel(known[which])
        elif which < len(known) and known[which].status is Status.STARTING:
            self.machine.abort(known[which].id)
        self.look()

    def settle(self) -> None:
        """When nothing can happen any more."""
        everything = self.machine.predictions.values()
        assert {one.id for one in everything} == set(self.ends)
        assert sorted(charge.prediction_id for charge in self.ledger.charges) == sorted(self.ends)
        for charge in self.ledger.charges:
            one = self.machine.predictions[charge.prediction_id]
            seconds = 0.0 if one.started_at is None else (one.completed_at or 0.0) - one.started_at
            assert (charge.seconds, charge.usd) == (seconds, seconds * PRICES[charge.hardware])
            assert seconds <= 1800
            words = [word for word, _ in self.said[one.id]]
            assert words.count(Word.COMPLETED) == 1
            assert words[-1] is Word.COMPLETED
            assert words.count(Word.START) == (one.started_at is not None)
            if one.deadline is not None:
                assert (one.completed_at or 0.0) <= one.deadline
            assert (one.data_removed, one.logs, one.output) == (True, "", None)


@settings(max_examples=60, deadline=None)
@given(conduct=CONDUCT, deeds=DEEDS)
def test_any_order_of_deeds(conduct: Conduct, deeds: list[tuple[str, int, int | None]]) -> None:
    async def live() -> None:
        with tempfile.TemporaryDirectory() as folder:
            world = World(conduct, Path(folder))
            for deed in deeds:
                await world.do(*deed)
            await world.timeline.advance(200_000)
            world.settle()

    asyncio.run(live())
