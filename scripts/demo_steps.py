"""What the demonstrations have in common: the pictures, a training, a table of the steps, and what is shown of a job."""

from __future__ import annotations

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
from simpletuner_lab.services.views import JobView, OutputsView, PlanView
from simpletuner_lab.terminal import plan_text

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


def agreed_plan(
    client: LabClient, request: SubmitRequest, table: Table, *, agreed: bool, command: str
) -> PlanView | None:
    """The plan, as printed and agreed to; None where nobody agreed. `command` agrees to it."""
    since = time.monotonic()
    plan = client.plan(request)
    print(plan_text(plan))
    table.add("plan", since, plan.total_bytes, f"{plan.total_files} files, digest {plan.digest[:12]}")
    if plan.consent is ConsentState.GIVEN:
        print("\nYou agreed to this very plan before.")
    elif not (agreed or ask()):
        print(f"\nNothing was sent. To agree: {command}   (digest {plan.digest[:12]})")
        return None
    return plan


def completed(client: LabClient, job: JobView) -> JobView:
    """The job itself.

    Raises:
        LabError: it ended in another way; with the last that it said.
    """
    if job.status is JobState.COMPLETED:
        return job
    said = job.error_message or client.log(job.job_id, offset=max(0, job.log_bytes - 2000)).logs
    raise LabError(f"job {job.job_id} is {job.status}: {said}")


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


def brought_home(client: LabClient, job: JobView, table: Table) -> OutputsView:
    """What was delivered.

    Raises:
        LabError: not all of it was compared with its checksum.
    """
    outputs = client.outputs(job.job_id)
    if not outputs.verified:
        raise LabError("the result came home, but was not verified")
    arrived = sum(file.bytes for file in outputs.outputs)
    delivered = time.monotonic() - delivery_s(client, job)
    table.add("bring home (SigV4)", delivered, arrived, f"{len(outputs.outputs)} files, every checksum verified")
    return outputs


def delivery_s(client: LabClient, job: JobView) -> float:
    """Seconds from the trainer's last stage, the delivery, to the lab's verdict that all of it is whole."""
    events = client.events(0, job_id=job.job_id)
    sent = max(event.at for event in events if event.kind is EventKind.STAGE)
    whole = max(event.at for event in events if event.kind is EventKind.ARTIFACT)
    return (datetime.fromisoformat(whole) - datetime.fromisoformat(sent)).total_seconds()


def ask() -> bool:
    """Asks at the terminal; no terminal, no consent."""
    return sys.stdin.isatty() and input("\nType yes to agree: ").strip().lower() in {"yes", "y"}
