"""What tests of the lab and of its server share: a small data set, a request, a home whose trainer is quick."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from simpletuner_lab.core.job import Job
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.testing import eventually
from tests.quick_trainer import installed_as_python


def dataset(folder: Path, images: int = 3) -> Path:
    """A folder of tiny PNG files, each with a caption."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(images):
        (folder / f"{number}.png").write_bytes(png(number))
        (folder / f"{number}.txt").write_text(f"picture {number}, test\n")
    return folder


def png(shade: int = 0, side: int = 16) -> bytes:
    """A PNG file of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (shade * 20 % 256, 40, 90)).save(stream, "PNG")
    return stream.getvalue()


def config(how: str = "quick", **more: Any) -> dict[str, Any]:
    """A config that the trainer's spec accepts; `how` is for the quick trainer."""
    return {
        "model_family": "sd",
        "pretrained_model_name_or_path": "builtin:tiny",
        "max_train_steps": 12,
        "learning_rate": 1e-3,
        "tracker_run_name": how,
        **more,
    }


def dataloader(folder: Path) -> list[dict[str, Any]]:
    """One local data set."""
    return [{"id": "set", "type": "local", "instance_data_dir": str(folder), "caption_strategy": "textfile"}]


def request(folder: Path, how: str = "quick", **more: Any) -> SubmitRequest:
    """A request for the local provider."""
    return SubmitRequest(config=config(how, **more), dataloader=tuple(dataloader(folder)))


def quick_home(folder: Path) -> Home:
    """A home folder in which the local provider runs the quick trainer."""
    home = Home(folder / "home").prepare()
    settings = {"python": str(installed_as_python(folder)), "grace_s": 5.0}
    (home.provider_settings / "local.json").write_text(json.dumps(settings))
    return home


def submitted(lab: Lab, images: Path, how: str = "quick", **more: object) -> Job:
    asked = request(images, how, **more)
    return lab.submit(asked, approve=lab.plan(asked).digest)


def settled(lab: Lab, job: Job) -> Job:
    return eventually(lambda: lab.store.jobs.get(job.id), lambda seen: seen.settled_at is not None, patience_s=40)


def trainers(lab: Lab) -> list[psutil.Process]:
    """Live processes that work below this lab's home."""
    root = str(lab.home.root)
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(word.startswith(root) and word.endswith("spec.json") for word in words):
            found.append(process)
    return found
