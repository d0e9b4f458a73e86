"""A whole lab against an emulated Replicate: its server is a process to kill and start again, its time the test's.

    with house(nursery, tmp_path) as lab:
        job = lab.submit(lab.request("quick"))
        lab.pass_time(60)
        assert lab.job(job.id).state is JobState.COMPLETED

What happens in `pass_time` happens in the order of the emulator's time; when it returns nothing is under way.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from simpletuner_lab.core.job import Job
from simpletuner_lab.core.ledger import Charge
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.home import Home
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.replicate_emulator import (
    MODELS,
    Account,
    Clock,
    ManualClock,
    ReplicateEmulator,
    replicate_emulator,
)
from tests.e2e.replicate.house_process import HOME
from tests.e2e.replicate.plays import IMAGE, Trainer, models
from tests.lab_kit import config, dataloader, dataset
from tests.server.server_kit import free_port

ANN = "ann"
TOKEN = "r8_ann"
BEGAN = 1_796_000_000.0
LEASE_S = 11.0
"""After so long a watcher that was killed has lost its lease."""
_ROOT = Path(__file__).resolve().parents[3]


class SharedClock(ManualClock):
    """The emulator's time, where other processes read it."""

    def __init__(self, path: Path, now_s: float) -> None:
        path.write_bytes(struct.pack("d", now_s))
        with path.open("r+b") as file:
            self._cell = memoryview(mmap.mmap(file.fileno(), 8)).cast("d")
        super().__init__(now_s)

    @property
    def now_s(self) -> float:
        return self._cell[0]

    @now_s.setter
    def now_s(self, value: float) -> None:
        self._cell[0] = value


class Nursery:
    """The process that servers are forked from; it ends with its standard input."""

    def __init__(self, folder: Path, time_of: str = "order") -> None:
        self.folder = folder
        environment = {name: value for name, value in os.environ.items() if not name.endswith(("_TOKEN", "_PROXY"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.replicate.house_process", str(folder), time_of],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / "servers.log").open("ab"), text=True, cwd=_ROOT,
            env=environment | {"OMP_NUM_THREADS": "1", "HOME": str(folder)},
        )  # fmt: skip
        self._ready = False

    def fork(self, order: dict[str, Any]) -> int:
        """Starts a server; its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if not self._ready:
            assert self._process.stdout.readline() == "ready\n", self.log()
            self._ready = True
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    @property
    def home(self) -> Path:
        """An empty home, to be copied; there once a server was forked, or `wait` returned."""
        if not self._ready:
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n", self.log()
            self._ready = True
        return self.folder / HOME

    def log(self) -> str:
        return (self.folder / "servers.log").read_text(errors="replace")

    def close(self) -> None:
        self._process.communicate(timeout=20)


class Refused(Exception):
    """The lab said no: `code` is its error's."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(f"{code}: {message}")


class Died(Exception):
    """Our server is not there any more."""


@dataclass(slots=True)
class House:
    """The lab, the emulator and the time between them."""

    emulator: ReplicateEmulator
    trainer: Trainer
    home: Home
    nursery: Nursery
    order: dict[str, Any]
    listener: Listener
    wire: Connection | None = None
    pid: int = 0
    after_a_pass: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Our server begins, and answers."""
        self.pid = self.nursery.fork(self.order)
        self.wire = self.listener.accept()
        assert self._receive() == self.pid

    def kill(self) -> None:
        """SIGKILL; it is gone when this returns."""
        if self.wire is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self.pid, 9)
        self.wire.close()
        self.wire = None
        eventually(lambda: not Path(f"/proc/{self.pid}").exists(), patience_s=10)

    def restart(self) -> None:
        """A new one, after the lease of the killed one has run out."""
        self.kill()
        self.start()
        self.pass_time(LEASE_S)

    @property
    def webhook_url(self) -> str:
        """Where Replicate calls back."""
        return f"http://127.0.0.1:{self.order['port']}/api/webhooks/replicate"

    @property
    def up(self) -> bool:
        return self.wire is not None

    def ask(self, verb: str, *arguments: Any) -> Any:
        """What a method of `house_server.Verbs` answers.

        Raises:
            Refused: the lab's error.
            Died: it was killed meanwhile.
        """
        if self.wire is None:
            raise Died
        try:
            self.wire.send((verb, arguments))
            return self._receive()
        except (EOFError, OSError):
            self.kill()
            raise Died from None

    def _receive(self) -> Any:
        assert self.wire is not None
        assert self.wire.poll(40), f"our server does not answer\n{self.nursery.log()[-4000:]}"
        kind, value = self.wire.recv()
        if kind == "refused":
            raise Refused(*value)
        assert kind != "fault", f"{value}\n{self.nursery.log()[-4000:]}"
        return value

    # ------------------------------------------------------------ what people do

    def request(self, how: str, **more: Any) -> SubmitRequest:
        """To train on the data set of this house; `how` is for the play."""
        return SubmitRequest(
            config=config(how, **more), dataloader=tuple(dataloader(self.images)), provider="replicate", target="cog"
        )

    @property
    def images(self) -> Path:
        return self.home.root.parent / "images"

    def submit(self, how: str, *, key: str | None = None) -> Job:
        """With consent to the plan as it is."""
        request = self.request(how)
        return self.ask("submit", request, self.ask("plan", request), key)

    def job(self, job_id: str) -> Job:
        return self.ask("job", job_id)

    def jobs(self) -> tuple[Job, ...]:
        return self.ask("jobs")

    def charges(self) -> tuple[Charge, ...]:
        return self.ask("charges")

    def pass_time(self, seconds: float = 0.0) -> None:
        """Moves the time, and returns when all that was due has been done, on both sides."""
        self.emulator.advance(seconds)
        if self.wire is not None:
            self.ask("quiet")
            self.after_a_pass()
            self.emulator.advance()

    def until_settled(self, *, longest_s: float = 3 * 3600.0, look: Callable[[], None] = lambda: None) -> None:
        """Time passes, in steps that grow, until no job has anything to do; after each of them `look` is called.

        Raises:
            AssertionError: one still has; it is stuck.
        """
        end, step_s = self.emulator.now() + longest_s, 5.0
        while any(job.settled_at is None for job in self.jobs()):
            assert self.emulator.now() < end, [
                (job.id, job.state.value, job.waiting, job.failure) for job in self.jobs()
            ]
            self.pass_time(step_s)
            look()
            step_s = min(step_s * 1.3, 120.0)


@contextmanager
def house(nursery: Nursery, folder: Path, **settings: Any) -> Iterator[House]:
    """A lab with an empty home whose server is up, and a Replicate with our image. `settings` are the provider's."""
    clock = SharedClock(folder / "clock", BEGAN)
    with unstarted(nursery, folder, clock, settings, clock=str(folder / "clock")) as made:
        made.start()
        yield made


@contextmanager
def unstarted(
    nursery: Nursery, folder: Path, time: Clock, settings: Mapping[str, Any], **order: Any
) -> Iterator[House]:
    """The same before its server is started, by any clock; it is killed in the end. `order` is for the server besides."""
    root = folder / "home"
    shutil.copytree(nursery.home, root)
    home = Home(root).prepare()
    dataset(folder / "images")
    trainer = Trainer(time.now)
    with (
        tempfile.TemporaryDirectory(prefix="house-") as sockets,
        Listener(f"{sockets}/{secrets.token_hex(4)}", "AF_UNIX") as listener,
        replicate_emulator(
            {TOKEN: Account(username=ANN)}, clock=time, models=(*models(), *MODELS), plays={IMAGE: trainer}
        ) as emulator,
    ):
        chosen = {"base_url": emulator.url, "image": IMAGE, "status_url": "", "timeout_s": 5.0, **settings}
        (home.provider_settings / "replicate.json").write_text(json.dumps(chosen))
        known = {"home": str(root), "port": free_port(), "address": listener.address, "token": TOKEN}
        made = House(
            emulator=emulator, trainer=trainer, home=home, nursery=nursery, order=known | order, listener=listener
        )  # fmt: skip
        try:
            yield made
        finally:
            made.kill()
