"""One command, to Replicate and back, without an account: a real LoRA trained in a real Cog server.

The Replicate is the emulator, with our trainer's `predict.py` in it as the image would hold it; the lab is a notebook
server of its own under `demo/`, whose second listener takes webhooks and the model. A second job is cancelled while it
runs. At the end the books of both sides are laid side by side, and nothing is left running.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from demo_steps import CONFIG, DATALOADER, REPOSITORY, Table, agreed_plan, brought_home, completed, ends, watch

from simpletuner_lab.client import LabClient
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.results import load_pipeline
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.views import JobView
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.lab_server import lab_server
from simpletuner_lab.testing.replicate_emulator import ReplicateEmulator
from simpletuner_lab.testing.replicate_stand import OWNER, EngineName, Stand, replicate_stand

T = TypeVar("T")

PROVIDER = "replicate"
STEPS = 60
LEFT_OUT = ("validation_prompt", "validation_step_interval", "validation_guidance", "validation_num_inference_steps")
REQUEST = SubmitRequest(
    config={key: value for key, value in CONFIG.items() if key not in LEFT_OUT}
    | {"max_train_steps": STEPS, "train_batch_size": 8, "checkpoint_step_interval": STEPS // 2},
    dataloader=tuple(DATALOADER),
    name="neon at Replicate",
    provider=PROVIDER,
)
CAPTION = "grinning face, face smiling"
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Both sides, and what was done so far."""

    lab: LabClient
    stand: Stand
    table: Table

    @property
    def emulator(self) -> ReplicateEmulator:
        """The other side as it really is, which no lab can see."""
        return self.stand.emulator


def main() -> int:
    """Runs the demo; 0 when every step did what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yes", action="store_true", help="agree to the plan that is printed")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "demo/replicate", help="where everything is kept")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # whatever was started ends with it
    table, start = Table(), time.monotonic()
    try:
        with ExitStack() as stack:
            stand = stack.enter_context(replicate_stand(engine=EngineName.COG))
            folder: Path = args.folder.absolute()
            folder.mkdir(parents=True, exist_ok=True)
            home = Home(folder / "home").prepare()
            lab = stack.enter_context(lab_server(folder, home, keys={"REPLICATE_API_TOKEN": ""}, public=True))
            table.add("both servers", start, None, f"lab {lab.url}, Replicate {stand.emulator.url}")
            ended = play(Scene(lab=lab, stand=stand, table=table), agreed=args.yes)
    except LabError as error:
        print(f"demo: {error.message}\n      {error.hint}", file=sys.stderr)
        return 1
    if ended == 0:
        print(f"\n{table}")
    return ended


def play(scene: Scene, *, agreed: bool) -> int:
    """Every step in its turn; the exit code.

    Raises:
        LabError: one did not do what it says.
    """
    set_up(scene)
    plan = agreed_plan(scene.lab, REQUEST, scene.table, agreed=agreed, command="make demo-replicate YES=1")
    if plan is None:
        return 3
    job = train(scene, plan.digest)
    unwanted = cancel_another(scene, plan.digest)
    brought_home(scene.lab, job, scene.table)
    see_deleted(scene, job, unwanted)
    compare_books(scene, job, unwanted)
    load(scene, job)
    return 0


def set_up(scene: Scene) -> None:
    """Settings and token, as a person gives them."""
    since = time.monotonic()
    setup = scene.lab.setup
    setup.change(PROVIDER, scene.stand.settings)
    setup.set_token(PROVIDER, Secret(scene.stand.token))
    found = setup.validate(PROVIDER)
    require(found.user_info == OWNER, found.error)
    scene.table.add("settings, token", since, None, f"account {found.user_info}")


def train(scene: Scene, digest: str) -> JobView:
    """The first job, from its upload to its end; its loss as it falls, and what let the lab look."""
    since = time.monotonic()
    job = scene.lab.submit(REQUEST, approve=digest, key=None, entry="demo")
    print(f"\njob {job.job_id} is on its way; the loss as it falls:\n")
    eventually(lambda: scene.lab.job(job.job_id), lambda seen: seen.status not in {"pending", "uploading"})
    sent = sum(file.size for file in scene.emulator.files(OWNER))
    scene.table.add("upload", since, sent, "the archive, at Replicate")
    since = time.monotonic()
    job = completed(scene.lab, watch(scene.lab, job))
    first, last = ends(scene.lab, job)
    scene.table.add("train in Cog", since, None, f"{job.progress.step} steps, loss {first:.3f} to {last:.3f}")
    taken = [one for one in scene.emulator.deliveries if one.status == 200]
    looks = [one for one in scene.emulator.seen if one.route == "predictions.get"]
    require(len(taken) > 1, "no webhook came")
    scene.table.add("webhooks", since, None, f"{len(taken)} nudges by signed webhooks, {len(looks)} looks of the lab")
    return job


def cancel_another(scene: Scene, digest: str) -> JobView:
    """A second job, cancelled once it trains."""
    since = time.monotonic()
    job_id = scene.lab.submit(REQUEST, approve=digest, key=None, entry="demo").job_id

    def seen() -> JobView:
        return scene.lab.job(job_id)

    at = eventually(seen, lambda job: job.progress.step > 0 or job.is_terminal, patience_s=PATIENCE_S)
    require(not at.is_terminal, f"the second job is {at.status} before it could be cancelled: {at.error_message}")
    scene.lab.cancel(job_id)
    job = eventually(seen, lambda job: job.is_terminal, patience_s=PATIENCE_S)
    require(job.status is JobState.CANCELLED, f"the second job is {job.status}")
    status = scene.emulator.predictions[-1].status
    require(status == "canceled", f"its prediction is {status}")
    scene.table.add(
        "cancel another job", since, None, f"at step {at.progress.step} of {STEPS}; its prediction is {status}"
    )
    return job


def see_deleted(scene: Scene, *jobs: JobView) -> None:
    """Whether the data are gone at Replicate, and whether the lab has that on record."""
    since = time.monotonic()
    for job in jobs:
        eventually(
            lambda job=job: scene.lab.events(0, job_id=job.job_id),
            lambda events: any(event.kind is EventKind.DISCARDED for event in events),
            patience_s=PATIENCE_S,
        )
    left = scene.emulator.files(OWNER)
    require(not left, f"{len(left)} files are still at Replicate")
    deleted = [one for one in scene.emulator.seen if (one.route, one.status) == ("files.delete", 204)]
    scene.table.add("delete the data there", since, None, f"{len(deleted)} deleted, 0 left, and on record")


def compare_books(scene: Scene, *jobs: JobView) -> None:
    """What the lab has booked for each run is what Replicate charges."""
    since = time.monotonic()
    booked = [charge.cost_usd for job in jobs for charge in scene.lab.detail(job.job_id).charges]
    charged = [charge.usd for charge in scene.emulator.charges]
    same = len(booked) == len(charged) and all(map(is_same_amount, booked, charged))
    require(same, f"${booked} is booked, and ${charged} is charged")
    scene.table.add("costs", since, None, f"${sum(charged):.4f} booked for {len(charged)} runs, the same as is charged")


def is_same_amount(booked_usd: float | None, charged_usd: float) -> bool:
    """Whether they agree to a hundredth of a cent."""
    return booked_usd is not None and abs(booked_usd - charged_usd) < 1e-4


def load(scene: Scene, job: JobView) -> None:
    """The LoRA on its base, in diffusers: it changes what is painted from the same noise."""
    since = time.monotonic()
    os.environ["TQDM_DISABLE"] = "1"  # a bar is no news here
    import numpy as np
    import torch

    pipeline = load_pipeline(scene.lab, job.job_id, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)

    def painted() -> np.ndarray:
        noise = torch.Generator().manual_seed(7)
        made = pipeline(CAPTION, num_inference_steps=10, guidance_scale=2.5, generator=noise, height=64, width=64)
        return np.asarray(made.images[0], np.float32)

    after = painted()
    pipeline.disable_lora()
    change = float(np.abs(after - painted()).mean())
    require(change > 1, "the LoRA changes nothing")
    scene.table.add("load in diffusers", since, None, f"it moves a pixel by {change:.0f} of 255 in the mean")


def require(holds: object, why: str) -> None:
    """Ends the demo where a step did not do what it says.

    Raises:
        LabError: with the reason.
    """
    if not holds:
        raise LabError(why or "a step did not do what it says")


if __name__ == "__main__":
    sys.exit(main())
