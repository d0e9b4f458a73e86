"""One command, the whole way: images in, a plan, consent, a real LoRA trained here, and the model back home.

Runs a notebook server of its own under `demo/`, speaks to it by REST as any client does, and ends with
`demo/before_after.png`: captions that the LoRA never saw, painted by the base, with the LoRA, and the target.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from simpletuner_lab.client import LabClient
from simpletuner_lab.core.consent import ConsentState
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.views import JobView
from simpletuner_lab.terminal import plan_text, size
from simpletuner_lab.testing.lab_server import lab_server

REPOSITORY = Path(__file__).resolve().parent.parent
ASSETS = REPOSITORY / "trainer/simpletuner_trainer/assets"
NEON = ASSETS / "styles/neon"

CONFIG = {
    "model_family": "sd",
    "model_type": "lora",
    "pretrained_model_name_or_path": "builtin:tiny",
    "lora_rank": 16,
    "lora_target": "all",
    "lora_init_type": "gaussian",
    "max_train_steps": 300,
    "train_batch_size": 16,
    "learning_rate": 2e-3,
    "lr_scheduler": "linear",
    "lr_warmup_steps": 30,
    "adam_beta2": 0.99,
    "caption_dropout_probability": 0.1,
    "resolution": 64,
    "resolution_type": "pixel",
    "seed": 7,
    "torch_num_threads": 1,
    "validation_prompt": ["grinning face, face smiling", "sunflower, plant flower"],
    "validation_step_interval": 150,
    "validation_guidance": 2.5,
    "validation_num_inference_steps": 20,
    "checkpoint_step_interval": 150,
    "checkpoints_total_limit": 2,
}
DATALOADER = [{"id": "neon", "type": "local", "instance_data_dir": str(NEON / "train"), "caption_strategy": "textfile"}]

SHOWN = 12
"""Held-out captions in the picture."""


@dataclass(slots=True)
class Table:
    """What was done, how long it took, how many bytes, with what result."""

    rows: list[tuple[str, float, int | None, str]] = field(default_factory=list)

    def add(self, step: str, since: float, count: int | None, result: str) -> None:
        """A row; `since` is the monotonic time at which the step began."""
        self.rows.append((step, time.monotonic() - since, count, result))

    def __str__(self) -> str:
        lines = [f"  {'step':<22}{'seconds':>9}{'bytes':>14}  result", "  " + "-" * 76]
        for step, seconds, count, result in self.rows:
            lines.append(f"  {step:<22}{seconds:>9.1f}{'' if count is None else f'{count:,}':>14}  {result}")
        return "\n".join(lines)


def main() -> int:
    """Runs the demo; 0 when every step did what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yes", action="store_true", help="agree to the plan that is printed")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "demo", help="where everything is kept")
    args = parser.parse_args()
    folder: Path = args.folder.absolute()
    table, start = Table(), time.monotonic()
    try:
        with lab_server(folder, Home(folder / "home/.simpletuner").prepare()) as client:
            table.add("notebook server", start, None, client.url)
            job = train(client, table, agreed=args.yes)
            if job is None:
                return 3
            look(client, job, table, folder / "before_after.png")
    except LabError as error:
        print(f"demo: {error.message}\n      {error.hint}", file=sys.stderr)
        return 1
    print(f"\n{table}\n\n  look at {os.path.relpath(folder / 'before_after.png')}")
    return 0


def train(client: LabClient, table: Table, *, agreed: bool) -> JobView | None:
    """Plan, consent, submit, watch; the finished job, or None where nobody agreed."""
    request = SubmitRequest(config=CONFIG, dataloader=tuple(DATALOADER), name="neon demo")
    since = time.monotonic()
    plan = client.plan(request)
    print(plan_text(plan))
    table.add("plan", since, plan.total_bytes, f"{plan.total_files} files, digest {plan.digest[:12]}")
    if plan.consent is ConsentState.GIVEN:
        print("\nYou agreed to this very plan before.")
    elif not (agreed or ask()):
        print(f"\nNothing was sent. To agree: make demo YES=1   (digest {plan.digest[:12]})")
        return None
    since = time.monotonic()
    job = client.submit(request, approve=plan.digest, key=None, entry="demo")
    print(f"\njob {job.job_id} is on its way; the loss as it falls:\n")
    job = watch(client, job)
    if job.status is not JobState.COMPLETED:
        said = job.error_message or client.log(job.job_id, offset=max(0, job.log_bytes - 2000)).logs
        raise LabError(f"job {job.job_id} is {job.status}: {said}")
    first, last = ends(client, job)
    table.add("train", since, None, f"{job.progress.step} steps, loss {first:.3f} to {last:.3f}, attempt {job.attempt}")
    return job


def watch(client: LabClient, job: JobView) -> JobView:
    """Prints a line for each new stretch of steps and each stage until the job ends."""
    shown, after = -1, 0
    while True:
        job = client.job(job.job_id)
        for event in client.events(after, job_id=job.job_id):
            after = event.seq
            if event.kind is EventKind.STAGE:
                print(f"  {event.data['label']}", flush=True)
        progress = job.progress
        if progress.loss is not None and progress.step // 25 > shown:
            shown = progress.step // 25
            bar = "#" * round(40 * min(1.0, progress.loss))
            print(f"  step {progress.step:>4}/{progress.total_steps}  loss {progress.loss:.3f} {bar:<40} "
                  f"{progress.images_per_s or 0:.0f} images/s, {progress.eta_s or 0:.0f} s left", flush=True)  # fmt: skip
        if job.is_terminal:
            return job
        time.sleep(0.5)


def ends(client: LabClient, job: JobView) -> tuple[float, float]:
    """Mean loss of the first and of the last 25 steps."""
    losses = [loss for loss in client.metrics(job.job_id).loss if loss is not None]
    return sum(losses[:25]) / len(losses[:25]), sum(losses[-25:]) / len(losses[-25:])


def look(client: LabClient, job: JobView, table: Table, picture: Path) -> None:
    """Loads what came home into the base with diffusers and paints captions that it never saw."""
    outputs = client.outputs(job.job_id)
    if not outputs.verified:
        raise LabError("the result came home, but was not verified")
    arrived = sum(file.bytes for file in outputs.outputs)
    delivered = time.monotonic() - delivery_s(client, job)
    table.add("bring home (SigV4)", delivered, arrived, f"{len(outputs.outputs)} files, every checksum verified")
    since = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts/before_after.py"), outputs.folder, str(NEON / "holdout"),
         str(picture), "--shown", str(SHOWN)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise LabError(f"the picture could not be made: {done.stderr[-1000:]}")
    seen = json.loads(done.stdout.splitlines()[-1])
    table.add("load in diffusers", since, picture.stat().st_size, f"{seen['captions']} unseen captions painted twice")
    for measure, (base, lora, wanted) in seen["measures"].items():
        print(f"  {measure}: base {base}, with LoRA {lora}{f', {wanted}' if wanted else ''}")
    print(f"  came home to {outputs.folder} ({size(arrived)})")


def delivery_s(client: LabClient, job: JobView) -> float:
    """Seconds from the trainer's last stage, the delivery, to the lab's verdict that all of it is whole."""
    events = client.events(0, job_id=job.job_id)
    sent = max(event.at for event in events if event.kind is EventKind.STAGE)
    whole = max(event.at for event in events if event.kind is EventKind.ARTIFACT)
    return (datetime.fromisoformat(whole) - datetime.fromisoformat(sent)).total_seconds()


def ask() -> bool:
    """Asks at the terminal; no terminal, no consent."""
    return sys.stdin.isatty() and input("\nType yes to agree: ").strip().lower() in {"yes", "y"}


if __name__ == "__main__":
    sys.exit(main())
