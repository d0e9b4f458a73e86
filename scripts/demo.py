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
from pathlib import Path

from demo_steps import (
    CONFIG,
    DATALOADER,
    NEON,
    REPOSITORY,
    Table,
    agreed_plan,
    brought_home,
    completed,
    ends,
    watch,
)

from simpletuner_lab.client import LabClient
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.views import JobView
from simpletuner_lab.terminal import size
from simpletuner_lab.testing.lab_server import lab_server

SHOWN = 12
"""Held-out captions in the picture."""


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
    plan = agreed_plan(client, request, table, agreed=agreed, command="make demo YES=1")
    if plan is None:
        return None
    since = time.monotonic()
    job = client.submit(request, approve=plan.digest, key=None, entry="demo")
    print(f"\njob {job.job_id} is on its way; the loss as it falls:\n")
    job = completed(client, watch(client, job))
    first, last = ends(client, job)
    table.add("train", since, None, f"{job.progress.step} steps, loss {first:.3f} to {last:.3f}, attempt {job.attempt}")
    return job


def look(client: LabClient, job: JobView, table: Table, picture: Path) -> None:
    """Loads what came home into the base with diffusers and paints captions that it never saw."""
    outputs = brought_home(client, job, table)
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
    print(f"  came home to {outputs.folder} ({size(sum(file.bytes for file in outputs.outputs))})")


if __name__ == "__main__":
    sys.exit(main())
