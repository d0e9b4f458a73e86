"""What the forked process is: a lab with its watcher, its webhook route and its object endpoint on a real socket."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from multiprocessing.connection import Client, Connection
from pathlib import Path

import anyio  # noqa: F401 - these are imported late by who needs them; here they are there before the fork
import httpcore  # noqa: F401
import httpx
import PIL.Image
import PIL.ImageSequence
import replicate  # noqa: F401
import tornado.platform.asyncio  # noqa: F401
from sqlalchemy import Engine, event

from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.core.grant import is_live
from simpletuner_lab.core.job import ALL_JOBS, Job
from simpletuner_lab.core.job_queue import Limits
from simpletuner_lab.core.ledger import Charge
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.core.provider import ENTRY_POINTS
from simpletuner_lab.server.announcer import Announcer
from simpletuner_lab.server.listener import Listener
from simpletuner_lab.server.rooms import Rooms
from simpletuner_lab.server.routes import Routes
from simpletuner_lab.server.storage.objects import ObjectStore
from simpletuner_lab.services import database, registry, watcher
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab, Surroundings
from tests.e2e.replicate.house_time import nap

TOKEN = "r8_ann"
_PATIENCE_S = 20.0
_STEPS = frozenset({"socket.connect", "os.rename", "os.remove"})


class Death:
    """SIGKILL before so many more steps: a transaction begins or is committed, a file appears or goes, a connection is made."""

    def __init__(self) -> None:
        self.left = 0
        sys.addaudithook(lambda name, _: self.step() if name in _STEPS else None)
        event.listen(Engine, "begin", lambda _: self.step())
        event.listen(Engine, "commit", lambda _: self.step())

    def step(self) -> None:
        if self.left:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Verbs:
    """What a test may ask of the lab, by the name of the method."""

    def __init__(self, lab: Lab, clock: Callable[[], float]) -> None:
        self._lab = lab
        self._clock = clock
        self._death = Death()

    def plan(self, request: SubmitRequest) -> str:
        return self._lab.plan(request).digest

    def submit(self, request: SubmitRequest, approve: str | None, key: str | None) -> Job:
        return self._lab.submit(request, approve=approve, key=key)

    def cancel(self, job_id: str) -> Job:
        return self._lab.cancel(job_id)

    def resolve(self, job_id: str, decision: str) -> Job:
        return self._lab.resolve(job_id, Decision.parse(decision))

    def sync(self) -> None:
        self._lab.sync("replicate")

    def change(self, settings: dict[str, object]) -> str:
        return self._lab.setup.change("replicate", settings).warning

    def forbid(self) -> None:
        self._lab.set_consent_mode(ConsentMode.NEVER)

    def jobs(self) -> tuple[Job, ...]:
        return tuple(self._lab.store.jobs.page(ALL_JOBS, limit=500).jobs)

    def job(self, job_id: str) -> Job:
        return self._lab.store.jobs.get(job_id)

    def charges(self) -> tuple[Charge, ...]:
        return self._lab.store.charges.of_provider("replicate")

    def steps(self, job_id: str) -> list[int]:
        """Those that the curve has, in its order."""
        return list(self._lab.store.points.read(job_id).step)

    def output(self, job_id: str, path: str) -> bytes:
        return b"".join(Front(self._lab).read_output(job_id, path))

    def log(self, job_id: str) -> str:
        return self._lab.logs.read(job_id, 0, 1 << 20).decode()

    def live_grants(self, access_keys: tuple[str, ...]) -> list[str]:
        """Those of these keys that still open something."""
        found = ((key, self._lab.grants.resolve(key)) for key in access_keys)
        return [key for key, one in found if one is not None and is_live(one[0], self._clock())]

    def die_in(self, steps: int) -> None:
        self._death.left = steps

    def quiet(self) -> None:
        """Returns when all that is due now has been done.

        Raises:
            AssertionError: that takes too long; who is busy.
        """
        give_up_at = time.monotonic() + _PATIENCE_S
        self._lab.watcher.nudge()
        while waiting := self._due():
            assert time.monotonic() < give_up_at, f"still at work: {waiting}"
            nap(0.005)

    def _due(self) -> list[str]:
        """Jobs that are in a worker, or would be at the next pass of the watcher."""
        watcher, now = self._lab.watcher, self._clock()
        busy = [job_id for job_id, step in list(watcher._busy.items()) if not step.done()]
        if busy:
            return busy
        if self._lab.store.queue.ready(self._lab.queue.limits()):
            return ["the queue"]
        under_way = (job for job in self._lab.store.jobs.unsettled() if not job.waits_for_slot)
        return [job.id for job in under_way if watcher._due.get(job.id, 0.0) <= now]


def warm(home: Path) -> None:
    """Makes an empty home, and loads all that opening one loads. What is installed is looked up once."""
    found = entry_points(group=ENTRY_POINTS)
    registry.entry_points = lambda group: found
    set_up = database._set_up
    database._set_up = lambda connection, record: (set_up(connection, record), _let_lie(connection))
    PIL.Image.preinit()
    httpx.Client(verify=False).close()
    with Lab.open(home, Surroundings(environment={})) as lab:
        lab.queue.set_limits(Limits(total=100, user=20))  # these tests are about runs at once


def _let_lie(connection: sqlite3.Connection) -> None:
    """The system keeps what is written over a SIGKILL; only a disk would have to be waited for."""
    connection.execute("PRAGMA synchronous=OFF").close()


def serve(order: dict, clock: Callable[[], float]) -> None:
    """Until the other end hangs up."""
    wire = Client(order["address"])
    home = Home(Path(order["home"])).prepare()
    url = f"http://127.0.0.1:{order['port']}"
    ObjectStore(home.outputs).sweep(clock())
    around = Surroundings(
        environment={"REPLICATE_API_TOKEN": order["token"], "HOME": str(home.root)},
        clock=clock,
        endpoint=lambda: f"{url}/api/cloud/storage" if order.get("local") else None,
        public_endpoint=lambda: f"{url}/api/cloud/storage",
    )
    watcher._LEASE_S = order.get("lease_s", watcher._LEASE_S)
    lab = Lab.open(home.root, around)
    ready = threading.Event()
    threading.Thread(target=lambda: asyncio.run(_listen(home, lab, order["port"], ready)), daemon=True).start()
    ready.wait(_PATIENCE_S)
    verbs = Verbs(lab, clock)
    lab.watcher.start()
    wire.send(("ready", os.getpid()))
    _obey(wire, verbs)


async def _listen(home: Home, lab: Lab, port: int, ready: threading.Event) -> None:
    rooms = Rooms("0", home, Announcer(lambda _: None))
    rooms.opened(Front(lab))
    Listener(Routes(rooms, public_url=f"http://127.0.0.1:{port}", max_object_bytes=1 << 20).public()).open(
        "127.0.0.1", port
    )
    ready.set()
    await asyncio.Event().wait()


def _obey(wire: Connection, verbs: Verbs) -> None:
    while True:
        try:
            name, arguments = wire.recv()
        except (EOFError, OSError):
            return
        try:
            answer = ("answer", getattr(verbs, name)(*arguments))
        except LabError as error:
            answer = ("refused", (error.code, error.message))
        except AssertionError as error:
            answer = ("fault", str(error))
        wire.send(answer)
