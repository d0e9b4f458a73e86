"""A small, strict Replicate on a free port of this machine, for tests of whatever runs models there.

    with replicate_emulator({"r8_ann": Account(username="ann")}, clock=ManualClock(1_780_000_000)) as emulator:
        client = replicate.Client(api_token="r8_ann", base_url=emulator.url)
        emulator.play("simpletuner/advanced-trainer", [Step(after_s=60, log="step 1"), Step(output="done")])

It speaks what the clients `replicate` 1.0 and 2.0 ask for: account, hardware, models and versions, predictions (also of
official models and deployments), trainings, files, signed webhooks. Requests that the API's document does not allow are
refused. Runs begin, are queued, end and are forgotten on a clock that a test moves, or that runs by itself; what they do
is a script, or an `Engine`: a `CogEngine` runs them in real Cog servers. Everything that was asked, sent and charged can be looked at, and each route and webhook can
be made to fail. `/_emu/` does the same for other processes.

What it cannot tell is how the live service behaves where nothing was recorded: `docs/developers.md` lists that.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tornado import web

from simpletuner_lab.testing.listening import HOST, listening
from simpletuner_lab.testing.replicate_emulator import control, routes
from simpletuner_lab.testing.replicate_emulator.catalogue import HARDWARE, MODELS, Catalogue, cog_model, version_id
from simpletuner_lab.testing.replicate_emulator.clock import Clock, ManualClock, ScaledClock
from simpletuner_lab.testing.replicate_emulator.cog_engine import WORKER_LOST, CogEngine
from simpletuner_lab.testing.replicate_emulator.engine import (
    Engine,
    Job,
    OutputFile,
    Play,
    Report,
    SetupFailed,
    Step,
)
from simpletuner_lab.testing.replicate_emulator.faults import Fault, WebhookFault
from simpletuner_lab.testing.replicate_emulator.ledger import Charge
from simpletuner_lab.testing.replicate_emulator.machine import TIMED_OUT
from simpletuner_lab.testing.replicate_emulator.records import (
    REDACTED,
    Account,
    Conduct,
    Delivery,
    Hardware,
    Model,
    Seen,
    Shape,
    Status,
    Version,
    Word,
)
from simpletuner_lab.testing.replicate_emulator.routes import ROUTES
from simpletuner_lab.testing.replicate_emulator.state import Parts, ReplicateEmulator
from simpletuner_lab.testing.replicate_emulator.webhooks import signature

__all__ = [
    "HARDWARE",
    "MODELS",
    "REDACTED",
    "ROUTES",
    "TIMED_OUT",
    "WORKER_LOST",
    "Account",
    "Charge",
    "CogEngine",
    "Conduct",
    "Delivery",
    "Engine",
    "Fault",
    "Hardware",
    "Job",
    "ManualClock",
    "Model",
    "OutputFile",
    "Play",
    "ReplicateEmulator",
    "Report",
    "ScaledClock",
    "Seen",
    "SetupFailed",
    "Shape",
    "Status",
    "Step",
    "Version",
    "WebhookFault",
    "Word",
    "cog_model",
    "replicate_emulator",
    "signature",
    "version_id",
]

_LARGEST_BODY: Final = 1 << 40  # the routes have limits of their own
_PATIENCE_S: Final = 30


@contextmanager
def replicate_emulator(
    accounts: Mapping[str, Account],
    *,
    clock: Clock | None = None,
    models: Iterable[Model] = MODELS,
    deployments: Mapping[str, str] = MappingProxyType({}),
    plays: Mapping[str, Play] = MappingProxyType({}),
    engine: Engine | None = None,
    conduct: Conduct | None = None,
    port: int = 0,
) -> Iterator[ReplicateEmulator]:
    """Serves until the block ends.

    Args:
        accounts: who the tokens are of.
        clock: its time; by default a wall clock's.
        models: what there is to run.
        deployments: `owner/name` of each, with the `owner/name` of the model that it runs.
        plays: what runs do, by `owner/name` of the model.
        engine: what runs them instead of scripts.
        conduct: how it behaves where that is its own choice.
        port: 0 for any that is free.

    Raises:
        OSError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="replicate-emulator-") as folder:
        parts = Parts.assemble(
            accounts=accounts, catalogue=Catalogue(models, deployments), clock=clock or ScaledClock(),
            conduct=conduct or Conduct(), plays=plays, engine=engine, folder=Path(folder), routes=ROUTES,
        )  # fmt: skip
        table = [*routes.TABLE, *control.TABLE, (r".*", routes.Unknown)]
        application = web.Application(
            [(path, handler, {"parts": parts}) for path, handler in table],
            log_function=lambda _: None,  # `seen` has them all
        )
        started: Future[asyncio.AbstractEventLoop] = Future()

        async def live() -> None:
            started.set_result(asyncio.get_running_loop())
            try:
                await parts.timeline.run()
            finally:
                parts.engine.close()
                parts.courier.close()

        with listening(application, port=port, max_body_bytes=_LARGEST_BODY, beside=live) as bound:
            parts.url = f"http://{HOST}:{bound}"
            try:
                yield ReplicateEmulator(parts, started.result(_PATIENCE_S))
            finally:
                parts.faults.clear()
