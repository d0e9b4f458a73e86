"""What tests of the Replicate provider share: an emulator with both targets, a provider that uses it, its orders."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from simpletuner_lab.core.destination import ACCESS_KEY, SECRET_KEY, S3Delivery
from simpletuner_lab.core.provider import ProviderContext, RunTag, StartOrder
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers._replicate_settings import ReplicateSettings
from simpletuner_lab.providers.replicate import ReplicateProvider
from simpletuner_lab.testing.provider_contract import CHATTER_LINES, FAILURE, Behaviour, Run, uploaded
from simpletuner_lab.testing.replicate_emulator import (
    MODELS,
    Account,
    Conduct,
    Job,
    ManualClock,
    Model,
    ReplicateEmulator,
    Step,
    Version,
    replicate_emulator,
    version_id,
)
from simpletuner_trainer.report import Exit
from tests.providers.local_kit import spool

NOW = 1_780_000_000.0
TOKEN = "r8_ann-of-the-tests"
IMAGE = "ann/simpletuner-trainer"
PUBLISHED = "simpletuner/advanced-trainer"
JOB = "j-1"
_SECRET = {"format": "password", "writeOnly": True, "x-cog-secret": True}

OURS = Model(
    owner="ann",
    name="simpletuner-trainer",
    versions=(
        Version(
            id=version_id(IMAGE), model=IMAGE, created_at=NOW - 86400, hardware="gpu-l40s",
            inputs=MappingProxyType({
                "data": {"type": "string", "format": "uri"},
                "spec": {"type": "string"},
                "secrets": {"type": "string", **_SECRET},
                "tag": {"type": "string"},
            }),
            required=("spec",), output={"type": "string", "title": "Output"},
        ),
    ),
)  # fmt: skip


def ended(code: int = 0) -> Step:
    """What our image returns."""
    return Step(after_s=1, output=json.dumps({"exit_code": code, "ended": Exit(code).name.lower()}))


def behave(job: Job) -> Iterator[Step]:
    """Does what the contract's suite asks for in the config."""
    behaviour = Behaviour(json.loads(job.input["spec"])["config"]["behaviour"])
    yield Step(after_s=1, log="it begins\n")
    match behaviour:
        case Behaviour.FAIL:
            yield Step(after_s=1, log=f"{FAILURE}\n", error=f"Prediction failed: {FAILURE}")
        case Behaviour.WAIT:
            while True:
                yield Step(after_s=30, log="still here\n")
        case Behaviour.CHATTER:
            text = "".join(f"line {number}\n" for number in range(CHATTER_LINES)) + "no newline"
            for start in range(0, len(text), 1009):
                yield Step(after_s=1, log=text[start : start + 1009])
    yield ended()


class Sleeps(list[float]):
    """Waits for nothing, and knows how long it should have."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@dataclass(slots=True, kw_only=True)
class Scene:
    """An emulator and a folder, for as many providers as a test wants."""

    emulator: ReplicateEmulator
    folder: Path
    sleeps: Sleeps = field(default_factory=Sleeps)

    def provider(
        self, token: str = TOKEN, *, environment: dict[str, str] | None = None, **settings: Any
    ) -> ReplicateProvider:
        given = {"base_url": self.emulator.url, "image": IMAGE, "timeout_s": 5.0, **settings}
        context = ProviderContext(
            home=self.folder / "home",
            environment={**({"REPLICATE_API_TOKEN": token} if token else {}), **(environment or {})},
            secrets=self.folder / "secrets",
        )
        return ReplicateProvider(ReplicateSettings(**given), context, now=self.emulator.now, sleep=self.sleeps)

    def order(self, target: str = "cog", *, attempt: int = 1, **parts: Any) -> StartOrder:
        """Its data are not uploaded yet."""
        return dataclasses.replace(
            StartOrder(
                tag=RunTag(job_id=JOB, attempt=attempt),
                target=target,
                hardware="gpu-l40s",
                nonce="0123456789abcdef",
                config={"behaviour": "wait", "max_train_steps": 400},
                dataloader=[{"id": "set", "type": "local", "instance_data_dir": "set"}],
                plan_digest="0" * 64,
                archive=spool(self.folder),
                upload_ref="",
                delivery=to_home(),
                deadline_s=600.0,
                secrets={ACCESS_KEY: Secret("AK-of-the-grant"), SECRET_KEY: Secret("SK-of-the-grant")},
            ),
            **parts,
        )

    def begin(self, provider: ReplicateProvider, order: StartOrder | None = None) -> Run:
        """Uploads and starts."""
        ready = uploaded(provider, order or self.order())
        return Run(provider=provider, order=ready, ref=provider.start(ready), patience_s=10.0)

    def asked(self, route: str) -> int:
        """How often a route was."""
        return sum(one.route == route for one in self.emulator.seen)


def forged(*, off_s: float = 0.0) -> dict[str, str]:
    """Headers of a webhook that looks as it should, and is signed by nobody."""
    return {"webhook-id": "msg_x", "webhook-timestamp": str(int(NOW + off_s)), "webhook-signature": f"v1,{'A' * 43}="}


def to_home() -> S3Delivery:
    """The object endpoint of a lab."""
    return S3Delivery(endpoint_url="https://lab.example/api/cloud/storage", bucket="outputs", prefix=f"{JOB}/")


@contextmanager
def scene(folder: Path, *, tick_s: float = 0.0, conduct: Conduct | None = None) -> Iterator[Scene]:
    """An emulator whose clock stands, unless each request is to move it."""
    with replicate_emulator(
        {TOKEN: Account(username="ann"), "r8_bob": Account(username="bob")},
        clock=ManualClock(NOW, tick_s=tick_s), models=(*MODELS, OURS), plays={IMAGE: behave}, conduct=conduct,
    ) as emulator:  # fmt: skip
        yield Scene(emulator=emulator, folder=folder)
