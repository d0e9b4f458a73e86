"""What a scripted run of our trainer plays: it looks like a training, learns nothing, and delivers for good.

    with replicate_emulator(accounts, models=[trainer_model()], plays={TRAINER: Training(lasts_s=5.0)}) as emulator: ...

Lines, nonce, stages and the end are those of docs/trainer-protocol.md, and what is delivered is stored with the keys of
the spec at its destination, its manifest last. The model in it holds no weights, and says that it is a rehearsal. A run
with a deadline ends before it with a checkpoint there, and the next attempt goes on from that.
"""

from __future__ import annotations

import json
import math
import struct
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any, Final, TypeVar

from simpletuner_lab.testing.replicate_emulator.catalogue import version_id
from simpletuner_lab.testing.replicate_emulator.engine import Job, Step
from simpletuner_lab.testing.replicate_emulator.records import Model, Version
from simpletuner_trainer import report as rp
from simpletuner_trainer.errors import TrainerError
from simpletuner_trainer.files import Manifest, sha256_of
from simpletuner_trainer.spec import MANIFEST_NAME, RunSpec, SpecError
from simpletuner_trainer.stores import Shipment, Unreachable, open_store

T = TypeVar("T")

TRAINER: Final = "ann/simpletuner-trainer"
"""The name of the image, as somebody might have pushed it."""

_INPUTS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "data": {"type": "string", "format": "uri", "title": "Data", "x-order": 0, "nullable": True},
        "spec": {"type": "string", "title": "Spec", "x-order": 1},
        "secrets": {
            "type": "string", "format": "password", "writeOnly": True, "x-cog-secret": True, "title": "Secrets",
            "x-order": 2, "nullable": True,
        },
        "tag": {"type": "string", "title": "Tag", "x-order": 3, "default": ""},
    }
)  # fmt: skip

_STAGES: Final = (
    (rp.StageName.UNPACK, "unpacking the data"),
    (rp.StageName.LOAD_DATA, "looking at the images and captions"),
    (rp.StageName.LOAD_BASE, "loading {base}"),
    (rp.StageName.CACHE, "encoding images and captions"),
    (rp.StageName.TRAIN, "training"),
)
_STAGE_S: Final = 0.2
_LINE_S: Final = 1.0
"""The real one prints steps once a second, too."""
_FEWEST_LINES: Final = 10
_LOOK_S: Final = 0.1
_STEPS_WITHOUT_A_NUMBER: Final = 100
_CHECKPOINTS: Final = "checkpoints/step-"
_UNDELIVERED: Final = (TrainerError, Unreachable, OSError)

_MODEL_CARD: Final = """# {name}: a rehearsal

Nothing was trained. An emulated Replicate played a training of {steps} steps, and delivered this folder as a real one
is delivered. `pytorch_lora_weights.safetensors` holds no weights.
"""


def trainer_model(name: str = TRAINER, *, hardware: str = "gpu-l40s") -> Model:
    """Our trainer as a model of Replicate, with the inputs that its `predict.py` declares."""
    version = Version(
        id=version_id(name), model=name, created_at=1_760_000_000.0, hardware=hardware, inputs=_INPUTS,
        required=("spec",), output={"type": "string", "title": "Output"},
    )  # fmt: skip
    owner, _, short = name.partition("/")
    return Model(owner=owner, name=short, versions=(version,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A play for `trainer_model`, on a clock that runs by itself: the delivery takes real time."""

    lasts_s: float = 20.0
    """From the first step to the last, on the emulator's clock."""

    def __call__(self, job: Job) -> Iterator[Step]:
        """The steps of one run.

        Raises:
            ValueError: `spec` is none.
        """
        with tempfile.TemporaryDirectory(prefix="rehearsal-", ignore_cleanup_errors=True) as name:
            run = _run_spec(job.input, Path(name))
            yield from self._played(run, _secrets(job.input), Path(name) / "output")

    def _played(self, run: RunSpec, secrets: Mapping[str, str], folder: Path) -> Iterator[Step]:
        total = run.train.config.max_train_steps or _STEPS_WITHOUT_A_NUMBER
        begun = 0
        if run.attempt > 1:
            try:
                begun = yield from _aside(lambda: _last_checkpoint(run, secrets))
            except _UNDELIVERED as error:
                yield _undelivered(run, 0, error)
                return
            yield _said(run, rp.Resume(step=begun))
        for stage, label in _STAGES:
            told = rp.Stage(stage=stage, label=label.format(base=run.train.config.pretrained_model_name_or_path))
            yield _said(run, told, after_s=_STAGE_S)
        lines = min(total, max(_FEWEST_LINES, math.ceil(self.lasts_s / _LINE_S)))
        line_s, taken_s = self.lasts_s / lines, _STAGE_S * len(_STAGES)
        for line in range(lines):
            first, last = max(begun, total * line // lines) + 1, total * (line + 1) // lines
            if first > last:
                continue
            if run.deadline_s is not None and taken_s + line_s > run.deadline_s and first - 1 > begun:
                yield from _interrupted(run, first - 1, secrets, folder)
                return
            steps = _said(run, self._steps(range(first, last + 1), total), after_s=line_s)
            yield replace(steps, log=f"step {last} of {total}  loss {_loss(last, total):.4f}\n{steps.log}")
            taken_s += line_s
        yield _said(run, rp.Stage(stage=rp.StageName.SAVE, label="writing the result"))
        manifest = _write_result(run, total, folder)
        yield _said(run, rp.Stage(stage=rp.StageName.UPLOAD, label="delivering the result"))
        yield from _delivered(run, manifest, secrets, folder)

    def _steps(self, steps: range, total: int) -> rp.Steps:
        step_s = self.lasts_s / total
        rates = tuple(1e-3 * (1 - step / total) for step in steps)
        return rp.Steps(
            step=tuple(steps), loss=tuple(_loss(step, total) for step in steps), lr=rates, grad_norm=(0.5,) * len(steps),
            total=total, epoch=steps[-1] / total, step_s=step_s, images_per_s=1 / step_s, eta_s=(total - steps[-1]) * step_s,
        )  # fmt: skip


def _loss(step: int, total: int) -> float:
    """It falls, and not smoothly; the same for every run of so many steps."""
    return 0.15 + 0.7 * math.exp(-4 * step / total) * (1 + 0.15 * math.sin(2.4 * step)) + 0.02 * math.sin(7.1 * step)


def _run_spec(given: Mapping[str, Any], folder: Path) -> RunSpec:
    try:
        document = json.loads(str(given.get("spec")))
        data = document.get("data")
        archive = None if data is None else {**data, "archive": "data.zip"}
        return RunSpec.parse({**document, "data": archive, "work_dir": "work"}, folder)
    except SpecError as error:
        raise ValueError(str(error)) from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"the spec is no JSON object: {error}") from error


def _secrets(given: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in json.loads(given.get("secrets") or "{}").items()}


def _said(run: RunSpec, *reports: rp.Report, after_s: float = 0.0, output: object = None) -> Step:
    lines = "".join(f"{rp.format_line(report, nonce=run.nonce)}\n" for report in reports)
    return Step(after_s=after_s, log=lines, output=output)


def _write_result(run: RunSpec, steps: int, folder: Path) -> Manifest:
    """The files that a LoRA has, and what they are."""
    folder.mkdir()
    config = run.train.config
    header = json.dumps({"__metadata__": {"format": "pt", "rehearsal": "nothing was trained"}}).encode()
    (folder / "pytorch_lora_weights.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (folder / "README.md").write_text(
        _MODEL_CARD.format(name=config.tracker_run_name or run.job_id, steps=steps), "utf-8"
    )
    curve = (json.dumps({"step": step, "loss": _loss(step, steps)}) for step in range(1, steps + 1))
    (folder / "metrics.jsonl").write_text("\n".join(curve) + "\n", "utf-8")
    manifest = Manifest.of(folder, kind="result", step=steps, plan_digest=run.plan_digest)
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())
    return manifest


def _aside(work: Callable[[], T]) -> Generator[Step, None, T]:
    """Does it in a thread of its own: the emulator answers meanwhile."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except _UNDELIVERED as error:
            done.set_exception(error)

    Thread(target=run, name="rehearsal", daemon=True).start()
    while not done.done():
        yield Step(after_s=_LOOK_S)
    return done.result()


def _delivered(run: RunSpec, manifest: Manifest, secrets: Mapping[str, str], folder: Path) -> Iterator[Step]:
    try:
        files, size, sha256 = yield from _aside(lambda: _send(run, manifest, secrets, folder))
    except _UNDELIVERED as error:
        yield _undelivered(run, manifest.step, error)
    else:
        result = rp.Result(key=MANIFEST_NAME, files=files, bytes=size, sha256=sha256)
        yield _ended(run, manifest.step, rp.Exit.DONE, result)


def _interrupted(run: RunSpec, step: int, secrets: Mapping[str, str], folder: Path) -> Iterator[Step]:
    """The end before the deadline, with a checkpoint."""
    folder.mkdir()
    (folder / "train_state.json").write_text(json.dumps({"step": step, "rehearsal": "nothing was trained"}), "utf-8")
    manifest = Manifest.of(folder, kind="checkpoint", step=step, plan_digest=run.plan_digest)
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())
    prefix = f"{_CHECKPOINTS}{step:08d}/"
    try:
        _, size, sha256 = yield from _aside(lambda: _send(run, manifest, secrets, folder, prefix))
    except _UNDELIVERED as error:
        yield _undelivered(run, step, error)
    else:
        told = rp.Checkpoint(step=step, key=prefix, bytes=size, sha256=sha256, delivered=True)
        yield _ended(run, step, rp.Exit.DEADLINE, told)


def _last_checkpoint(run: RunSpec, secrets: Mapping[str, str]) -> int:
    """The step of the newest whole one at the destination; 0 where there is none."""
    assert run.destination is not None
    names = open_store(run.destination, environment=secrets).names(_CHECKPOINTS)
    whole = [name.removeprefix(_CHECKPOINTS).partition("/") for name in names]
    return max((int(step) for step, _, name in whole if name == MANIFEST_NAME and step.isdigit()), default=0)


def _undelivered(run: RunSpec, step: int, error: Exception) -> Step:
    failure = rp.Failure(code="undelivered", message=str(error), hint=getattr(error, "hint", ""))
    return _ended(run, step, rp.Exit.UNDELIVERED, failure)


def _ended(run: RunSpec, step: int, code: rp.Exit, last: rp.Report) -> Step:
    output = json.dumps({"exit_code": int(code), "ended": code.name.lower()})
    return _said(run, last, rp.End(exit=code, step=step), output=output)


def _send(
    run: RunSpec, manifest: Manifest, secrets: Mapping[str, str], folder: Path, prefix: str = ""
) -> tuple[int, int, str]:
    """How many files went, their bytes, and the SHA-256 of the manifest among them."""
    names = (*(entry.path for entry in manifest.files), MANIFEST_NAME)
    digests = {entry.path: entry.sha256 for entry in manifest.files}
    assert run.destination is not None
    store = open_store(run.destination, environment=secrets)
    store.ship(Shipment(folder=folder, names=names, prefix=prefix, title="A rehearsal", digests=digests), lambda: None)
    path = folder / MANIFEST_NAME
    return len(names), sum(entry.bytes for entry in manifest.files) + path.stat().st_size, sha256_of(path)
