"""A provider elsewhere for tests of the lab: real code over a folder, in which a test says what happens there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from simpletuner_lab.core import errors
from simpletuner_lab.core.cost import Rate
from simpletuner_lab.core.job import Job
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.core.provider import (
    Archive,
    Capabilities,
    Check,
    ListedRun,
    Options,
    ProgressCallback,
    ProviderContext,
    RunState,
    RunTag,
    Snapshot,
    StartOrder,
    Target,
)
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.provider_settings import ProviderSettings
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store
from simpletuner_trainer import report as rp
from simpletuner_trainer.spec import MANIFEST_FORMAT
from tests.lab_kit import request

START = 1_700_000_000.0
HOST = "elsewhere.example"
PUBLIC = "https://lab.example/ann/api/cloud/storage"

FAULTS = {
    "away": errors.ProviderUnavailable("elsewhere does not answer"),
    "uncertain": errors.ProviderUncertain("elsewhere forgets tags"),
    "gone": errors.UploadGone("the file has expired"),
    "refused": errors.ProviderFailure("out of credit"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ElsewhereSettings:
    run_limit_s: float | None = None
    price: float | None = 3.6
    hosts: tuple[str, ...] = ()
    host: str = HOST

    def __post_init__(self) -> None:
        if self.run_limit_s is not None and self.run_limit_s < 1:
            raise ValueError("run_limit_s is at least a second")


LACK = "A plain one reads no captions"
"""Of its target `plain`."""


class Elsewhere:
    """Runs are files; `faults.json` says which method fails how, and whether what it was to do was done all the same."""

    id: ClassVar[str] = "elsewhere"
    label: ClassVar[str] = "Elsewhere"
    capabilities: ClassVar[Capabilities] = Capabilities(remote=True, poll_s=0.02)
    Settings: ClassVar[type] = ElsewhereSettings
    token_name: ClassVar[str] = "ELSEWHERE_TOKEN"
    token_prefix: ClassVar[str] = "e_"

    def __init__(self, settings: ElsewhereSettings, context: ProviderContext) -> None:
        self.settings = settings
        self.place = Place(context.home if settings.host == HOST else context.home / settings.host)
        self._secrets = context.secrets
        self.uploading: Callable[[ProgressCallback], None] = lambda _told: None
        """What else happens while data are handed over."""

    @property
    def endpoint(self) -> str:
        return self.settings.host

    def account(self) -> str:
        if fault := self.place.fault("account"):
            raise FAULTS[fault]
        token = None if self._secrets is None else self._secrets / self.token_name
        return token.read_text().removeprefix("e_") if token and token.exists() else "ann"

    def check(self) -> Check:
        return Check(ready=True, account=self.account())

    def options(self) -> Options:
        return Options(
            targets=(
                Target(id="trainer", label="Our trainer", version="1", live_metrics=True, resume=True),
                Target(id="plain", label="A plain one", version="7", live_metrics=False, resume=False, lacks=(LACK,)),
                Target(
                    id="theirs",
                    label="Another trainer",
                    version="3",
                    live_metrics=False,
                    resume=False,
                    inputs=frozenset({"archive", "hub"}),
                    ours=False,
                    manifest=False,
                    lacks=("repeats do not reach it",),
                ),
            ),
            rates=(Rate(hardware="gpu", label="A GPU", usd_per_hour=self.settings.price, as_of="2026-01-01"),),
            endpoint=self.endpoint,
            run_limit_s=self.settings.run_limit_s,
        )

    def upload(self, archive: Archive, tag: RunTag, progress: ProgressCallback) -> str:
        assert archive.path.exists()
        if fault := self.place.fault("upload"):
            raise FAULTS[fault]
        self.uploading(progress)
        return self.place.uploaded(tag)

    def start(self, order: StartOrder) -> str:
        fault = self.place.fault("start")
        if fault.endswith(" after"):  # the run exists, the answer is lost
            self.place.begin(order)
        if fault:
            raise FAULTS[fault.removesuffix(" after")]
        return self.place.begin(order)

    def find(self, tag: RunTag) -> str | None:
        if fault := self.place.fault("find"):
            raise FAULTS[fault]
        wanted = [tag.job_id, tag.attempt]
        return next((ref for ref, run in self.place.runs().items() if run["tag"] == wanted), None)

    def list(self) -> Sequence[ListedRun]:
        return [
            ListedRun(
                ref=ref,
                tag=None if run["tag"] is None else RunTag(job_id=run["tag"][0], attempt=run["tag"][1]),
                target=run["target"],
                state=RunState(run["state"]),
                hardware=run.get("hardware", "gpu"),
                created_at=run.get("created_at", START - 900),
                started_at=run.get("created_at", START - 800),
                completed_at=START - 700 if run["state"] != "running" else None,
                cost_usd=run.get("cost_usd"),
            )
            for ref, run in self.place.runs().items()
            if self.place.fault("list") != "short"
        ]

    def poll(self, ref: str, cursor: str) -> Snapshot:
        if fault := self.place.fault("poll"):
            raise FAULTS[fault]
        if ref not in self.place.runs():
            return Snapshot(state=RunState.LOST, cursor=cursor, error=f"there is no {ref} here")
        run, at = self.place.runs()[ref], int(cursor or 0)
        log = run.get("log", "").encode()
        return Snapshot(
            state=RunState(run["state"]), cursor=str(len(log)), log=log[at:],
            cost_usd=run.get("cost_usd"), metered_s=run.get("metered_s"),
        )  # fmt: skip

    def cancel(self, ref: str) -> None:
        if fault := self.place.fault("cancel"):
            raise FAULTS[fault]
        self.place.change(ref, state="cancelled")

    def discard(self, tag: RunTag, upload_ref: str) -> bool:
        if fault := self.place.fault("discard"):
            raise FAULTS[fault]
        self.place.discarded.append(tag.job_id)
        return True

    def webhook(self, headers: Mapping[str, str], body: bytes) -> str | None:
        return None


class Place:
    """What a test sees and says of the other end."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.discarded: list[str] = []

    def runs(self) -> dict[str, dict[str, Any]]:
        return {path.stem: json.loads(path.read_text()) for path in sorted(self._folder.glob("run-*.json"))}

    def begin(self, order: StartOrder) -> str:
        return self.add(
            tag=[order.tag.job_id, order.tag.attempt], target=order.target, nonce=order.nonce,
            deadline_s=order.deadline_s, webhook_url=order.webhook_url, upload_ref=order.upload_ref,
            dataloader=list(order.dataloader), packed=order.archive is not None,
        )  # fmt: skip

    def add(self, **run: Any) -> str:
        ref = f"run-{len(self.runs()) + 1}"
        self._write(ref, {"tag": None, "target": "trainer", "state": "running"} | run)
        return ref

    def change(self, ref: str, **changes: Any) -> None:
        self._write(ref, self.runs()[ref] | changes)

    def step(self, ref: str, number: int) -> None:
        """The run says that it has done so many steps."""
        one = rp.Steps(step=(number,), loss=(0.5,), lr=(0.1,), grad_norm=(1.0,), total=12, epoch=1.0, step_s=0.1,
                       images_per_s=1.0, eta_s=1.0, memory_mb=1.0)  # fmt: skip
        self._say(ref, one)

    def resume(self, ref: str, number: int) -> None:
        """The run says that it goes on from this step."""
        self._say(ref, rp.Resume(step=number))

    def _say(self, ref: str, report: rp.Report) -> None:
        run = self.runs()[ref]
        self.change(ref, log=run.get("log", "") + rp.format_line(report, nonce=run["nonce"]) + "\n")

    def uploaded(self, tag: RunTag) -> str:
        uploads = self._folder / "uploads"
        with uploads.open("a") as stream:
            stream.write(f"{tag.job_id}\n")
        return f"upload-{len(uploads.read_text().splitlines())}"

    def uploads(self) -> list[str]:
        """Ids of the jobs whose data were handed over, each time."""
        uploads = self._folder / "uploads"
        return uploads.read_text().splitlines() if uploads.exists() else []

    def fault(self, method: str) -> str:
        try:
            return json.loads((self._folder / "faults.json").read_text()).get(method, "")
        except FileNotFoundError:
            return ""

    def fail(self, **faults: str) -> None:
        """How methods fail from now on."""
        (self._folder / "faults.json").write_text(json.dumps(faults))

    def _write(self, ref: str, run: dict[str, Any]) -> None:
        (self._folder / f"{ref}.json").write_text(json.dumps(run))


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Away:
    """A lab with that one provider."""

    lab: Lab
    place: Place
    clock: Clock

    def on(self, job: Job, times: int = 1) -> Job:
        """So many steps of the runner, each as late as it wants to be."""
        for _ in range(times):
            job = self.lab.store.jobs.get(job.id)
            self.clock.now = max(self.clock.now, job.retry_at or 0.0)
            job = self.lab.runner.advance(job)
        return job

    def started(self, images: Path, **more: Any) -> Job:
        """A job with a run."""
        job = self.submit(images, **more)
        while not job.run.ref:
            job = self.on(job)
        return job

    def queued(self, images: Path) -> Job:
        """A job that is about to be started."""
        return self.on(self.submit(images), 2)

    def submit(self, images: Path, **more: Any) -> Job:
        asked = elsewhere(images, **more)
        return self.lab.submit(asked, approve=self.lab.plan(asked).digest)

    def deliver(self, job: Job) -> None:
        """The result of a job has come home."""
        folder = self.lab.outputs.folder(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lora").write_bytes(b"weights")
        files = [{"path": "lora", "bytes": 7, "sha256": hashlib.sha256(b"weights").hexdigest()}]
        (folder / "manifest.json").write_text(json.dumps({"format": MANIFEST_FORMAT, "files": files}))


def elsewhere(images: Path, **more: Any) -> SubmitRequest:
    """A request for that provider."""
    return dataclasses.replace(request(images), provider=Elsewhere.id, **more)


def registry_of(home: Home) -> Registry:
    """That provider alone."""

    def context(provider_id: str) -> ProviderContext:
        return ProviderContext(home=home.provider_state(provider_id), environment={}, secrets=home.secrets)

    settings = ProviderSettings(home.provider_settings).read(Elsewhere.id, ElsewhereSettings)
    return Registry([Elsewhere(settings, context(Elsewhere.id))], context_for=context)


@contextmanager
def away_lab(folder: Path, clock: Clock | None = None, **settings: Any) -> Iterator[Away]:
    """The lab over a home folder; nobody watches."""
    home, clock = Home(folder / "home").prepare(), clock or Clock()
    if settings:
        (home.provider_settings / f"{Elsewhere.id}.json").write_text(json.dumps(settings))
    around = Surroundings(environment={}, clock=clock, public_endpoint=lambda: PUBLIC)
    with Lab(home, Store.open(home.database), registry_of(home), around) as lab:
        yield Away(lab, Place(home.provider_state(Elsewhere.id)), clock)
