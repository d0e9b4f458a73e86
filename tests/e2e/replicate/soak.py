"""A lab in real time, with jobs on this machine and at Replicate, whose processes are killed over and over.

What is killed with SIGKILL, at moments of chance: our server, the trainer of a local job, the supervisor of that trainer.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from simpletuner_lab.core.job import MAX_STALLED, Job, JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.providers.local import _SUPERVISOR
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.replicate_emulator import ScaledClock
from tests.e2e.replicate.house_kit import Died, House, Nursery, unstarted
from tests.e2e.replicate.truth import Witness
from tests.lab_kit import config, dataloader
from tests.quick_trainer import installed_as_python

LOCAL_STEPS = 40
"""A tenth of a second each."""
_AT_ONCE = 2
"""Jobs under way at each provider."""
_DEADLY = 0.3
"""Of so many submits the server dies."""
_REMOTE_WAYS = ("quick", "quick", "segments", "worker-crash", "crash", "torn")
_LEASE_S = 2.0
_LONGEST_LULL_S = 6.0
"""Long enough for a new server to take over, and go some way."""
_END_S = 300.0


@dataclass(slots=True)
class Soak:
    """Keeps jobs under way, and kills."""

    lab: House
    seed: int
    witness: Witness
    keys: Counter[str] = field(default_factory=Counter)
    """Of the jobs that were asked for, each with its provider's name first, and how often it was asked."""
    killed: Counter[str] = field(default_factory=Counter)
    _random: random.Random = field(init=False)
    _pause: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def run(self, kills: int) -> None:
        """So many kills, then nobody is in the way any more, and all that was asked for has to come to its end."""
        while self.killed.total() < kills:
            self._keep_busy()
            self._pause.wait(self._random.uniform(0, _LONGEST_LULL_S))
            victim = self._random.choice(["server", "trainer", "supervisor"])
            if victim == "server" or not self._kill_one(victim):
                self.killed["server"] += 1
                self.lab.kill()
                self.lab.start()
            self.witness.look()
        eventually(self._jobs, lambda jobs: all(job.settled_at is not None for job in jobs), patience_s=_END_S)
        self._check()

    # ------------------------------------------------------------ people

    def _keep_busy(self) -> None:
        for provider in ("local", "replicate"):
            active = sum(not job.terminal and job.provider == provider for job in self._jobs())
            for _ in range(_AT_ONCE - active):
                self._submit(provider)

    def _submit(self, provider: str) -> None:
        """Asked again with the same key until there is an answer; now and then our server dies of it."""
        key = f"{provider}-{len(self.keys)}"
        request = self._request(provider, len(self.keys))
        digest = self._told("plan", request)
        self.witness.consented.add(digest)
        if self._random.random() < _DEADLY:
            self._told("die_in", self._random.randrange(1, 12))
        self._told("submit", request, digest, key, count=key)

    def _request(self, provider: str, number: int) -> SubmitRequest:
        how = "steady" if provider == "local" else self._random.choice(_REMOTE_WAYS)
        return SubmitRequest(
            config=config(how, max_train_steps=LOCAL_STEPS, learning_rate=1e-5 * (number + 1)),
            dataloader=tuple(dataloader(self.lab.images)),
            provider=provider,
            target="cog" if provider == "replicate" else "",
        )

    def _told(self, verb: str, *arguments: Any, count: str = "") -> Any:
        while True:
            if count:
                self.keys[count] += 1
            try:
                return self.lab.ask(verb, *arguments)
            except Died:
                self.killed["server"] += 1
                self.lab.start()

    def _jobs(self) -> tuple[Job, ...]:
        return self._told("jobs")

    # ------------------------------------------------------------ death

    def _kill_one(self, kind: str) -> bool:
        """Whether there was one to kill."""
        word = {"trainer": "simpletuner_trainer", "supervisor": str(_SUPERVISOR)}[kind]
        found = [one for one in self._processes() if word in _command(one)]
        if not found:
            return False
        with suppress(psutil.NoSuchProcess):
            self._random.choice(found).send_signal(signal.SIGKILL)
            self.killed[kind] += 1
        return True

    def _processes(self) -> list[psutil.Process]:
        """Those that work in a run's folder of this home."""
        root = str(self.lab.home.root)
        return [one for one in psutil.process_iter(["cwd"]) if (one.info["cwd"] or "").startswith(root)]

    # ------------------------------------------------------------ the truth

    def _check(self) -> None:
        jobs = self._jobs()
        by_key = Counter(job.idempotency_key for job in jobs)
        assert by_key == Counter(dict.fromkeys(self.keys, 1)), "jobs are lost, or there twice"
        self.witness.check_settled(tuple(job for job in jobs if job.provider == "replicate"))
        for job in jobs:
            if job.provider == "local":
                self._check_local(job)
        eventually(self._processes, lambda left: not left, patience_s=20)

    def _check_local(self, job: Job) -> None:
        """It is done, and whole; only one that was killed again and again without getting any further may have failed."""
        if job.state is JobState.FAILED:
            assert job.stalled == MAX_STALLED - 1, job
            assert job.failure is not None, job
            assert job.failure.code == "run_lost", job
            return
        assert job.state is JobState.COMPLETED, job
        assert job.result_sha256, job
        assert self._told("steps", job.id) == list(range(1, LOCAL_STEPS + 1)), job
        manifest = json.loads(self._told("output", job.id, "manifest.json"))
        names = [entry["path"] for entry in manifest["files"]]
        assert [self._told("output", job.id, name) for name in names] == [b"lora"], job


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []  # it has ended


@contextmanager
def soak(nursery: Nursery, folder: Path, seed: int) -> Iterator[Soak]:
    """A lab whose server is up, with both providers; `nursery` is one of wall time."""
    with unstarted(nursery, folder, ScaledClock(), {}, local=True, lease_s=_LEASE_S) as lab:
        here = {"python": str(installed_as_python(folder)), "grace_s": 5.0}
        (lab.home.provider_settings / "local.json").write_text(json.dumps(here))
        made = Soak(lab=lab, seed=seed, witness=Witness(lab))
        lab.start()
        try:
            yield made
        finally:
            lab.kill()
            for process in made._processes():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
