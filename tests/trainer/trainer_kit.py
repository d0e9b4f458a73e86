"""What the trainer's tests share: small pictures, and jobs that are really run. Bases: `simpletuner_lab.testing.tiny_bases`."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from PIL import Image, ImageDraw

from simpletuner_trainer import report
from simpletuner_trainer.__main__ import main
from simpletuner_trainer.report import Report
from simpletuner_trainer.reporter import Reporter
from simpletuner_trainer.spec import RunSpec
from simpletuner_trainer.stop import Stop
from simpletuner_trainer.team import Team
from simpletuner_trainer.workdir import WorkDir

if TYPE_CHECKING:
    from simpletuner_trainer.material import Material
    from simpletuner_trainer.models import Family

NONCE = "9f2c0d6b5a7e4f31"
CONFIG = {
    "model_family": "sd",
    "max_train_steps": 6,
    "train_batch_size": 4,
    "learning_rate": "1e-2",
    "lora_rank": 4,
    "checkpoint_step_interval": 2,
    "torch_num_threads": 1,
    "seed": 7,
}


def make_pictures(folder: Path, count: int = 10) -> Path:
    """Circles of two aspects, each with two captions."""
    folder.mkdir(parents=True)
    drawn = random.Random(0)
    for number in range(count):
        image = Image.new("RGB", (48, 32) if number % 3 == 0 else (40, 40), (12, 12, 46))
        corner = drawn.randint(0, 10)
        ImageDraw.Draw(image).ellipse((corner, corner, corner + 20, corner + 18), outline=(0, 240, 255))
        image.save(folder / f"p{number}.png")
        (folder / f"p{number}.txt").write_text(f"circle {number}\nring {number}\n", "utf-8")
    return folder


def material_of(job: Job, family: Family | None = None, stop: Stop | None = None) -> Material:
    """What a job would train on, its caches filled."""
    import torch

    from simpletuner_trainer.data import take_stock
    from simpletuner_trainer.material import prepare
    from simpletuner_trainer.models import open_family

    run = RunSpec.load(job.write())
    say, stop = Reporter(run.nonce, io.StringIO()), stop or Stop(started_s=0.0, deadline_s=None)
    family = family or open_family(run.train.config.model_family, job.base, device=torch.device("cpu"))
    work = WorkDir(root=run.work_dir)
    return prepare(run.train, take_stock(run), family, work, numerics="cpu/1", say=say, stop=stop, team=Team())


@dataclass(slots=True)
class Job:
    """A spec file in a folder of its own, and the ways to run it."""

    folder: Path
    base: Path
    config: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def output(self) -> Path:
        return self.work / "output"

    def write(self) -> Path:
        """The spec file as it is now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "pictures").exists() and "instance_data_dir" not in self.dataset:
            make_pictures(self.folder / "pictures")
        dataset = {"id": "pictures", "type": "local", "instance_data_dir": "pictures", **self.dataset}
        spec = {
            "format": "simpletuner-spec/1", "job_id": "j-1", "attempt": 1, "nonce": NONCE, "work_dir": "work",
            "config": {**CONFIG, "pretrained_model_name_or_path": str(self.base), **self.config},
            "dataloader": [dataset], "data": None, "destination": None, "plan_digest": "d" * 64, "deadline_s": None,
            **self.more,
        }  # fmt: skip
        path = self.folder / "spec.json"
        path.write_text(json.dumps(spec), "utf-8")
        return path

    def run(self) -> int:
        """Run it in this process, through the same entry; the exit code."""
        return main([str(self.write())])

    def run_until(self, steps: int, act: Callable[[], None]) -> int:
        """Run it in this process and `act` (in another thread) once so many steps are done; the exit code."""
        over = threading.Event()

        def watch() -> None:
            path = self.work / "metrics.jsonl"
            while not over.wait(0.002):
                if path.is_file() and path.read_bytes().count(b"\n") >= steps:
                    act()
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            return self.run()
        finally:
            over.set()
            watcher.join()

    def start(self, **options: Any) -> Started:
        """Run it as a process of its own."""
        environment = {**os.environ, **self.environment, "PYTHONFAULTHANDLER": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "simpletuner_trainer", str(self.write())],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip
        return Started(process)

    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.work / "metrics.jsonl").read_text("utf-8").splitlines()]


class Started:
    """A trainer that runs; its lines are read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.errors = ""
        self._drain = threading.Thread(target=self._read_errors, args=(process.stderr,), daemon=True)
        self._drain.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def until(self, kind: type[Report], **members: Any) -> Report:
        """Read lines up to the first report of this kind and these members."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            found = report.parse_line(self.lines[-1], nonce=NONCE)
            if isinstance(found, kind) and all(getattr(found, name) == value for name, value in members.items()):
                return found
        raise AssertionError(f"no such report; exit {self.process.wait()}\n{self.log()}")

    def wait(self) -> int:
        """Read to the end; the exit code."""
        assert self.process.stdout is not None
        self.lines += [line.rstrip("\n") for line in self.process.stdout]
        code = self.process.wait()
        self._drain.join()
        return code

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.wait()

    def log(self) -> str:
        return "\n".join([*self.lines, self.errors])

    def _read_errors(self, stream: IO[str]) -> None:
        self.errors = stream.read()


def reports(text: str) -> list[Report]:
    """Every report of a log."""
    found = (report.parse_line(line, nonce=NONCE) for line in text.splitlines())
    return [one for one in found if one is not None]


def of_kind(text: str, kind: type[Any]) -> list[Any]:
    return [one for one in reports(text) if isinstance(one, kind)]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
