"""Training from the data to the finished result on disk, in the order in which things happen."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from simpletuner_trainer import checkpoint, lora, output, publish
from simpletuner_trainer.card import Made
from simpletuner_trainer.checkpoint import Fingerprint, Found
from simpletuner_trainer.data import take_stock
from simpletuner_trainer.errors import BadSpec, Diverged, OutOfMemory, Refused, Stopped
from simpletuner_trainer.files import Manifest, sha256_of
from simpletuner_trainer.history import History
from simpletuner_trainer.material import Material, prepare
from simpletuner_trainer.models import Family, Noised, find_base, open_family
from simpletuner_trainer.models.single_file import as_folder
from simpletuner_trainer.optim import Learner, optimizer_class
from simpletuner_trainer.publish import Parcel, Publisher
from simpletuner_trainer.report import Checkpoint, Resume, StageName
from simpletuner_trainer.reporter import Point, Progress, resident_mb
from simpletuner_trainer.schedule import learning_rate, noise, quantiles, seed_of
from simpletuner_trainer.spec import MANIFEST_NAME, RunSpec, TrainConfig, config_hash
from simpletuner_trainer.unpack import unpack
from simpletuner_trainer.validate import Painter

if TYPE_CHECKING:
    from simpletuner_trainer.reporter import Reporter
    from simpletuner_trainer.stop import Stop
    from simpletuner_trainer.workdir import WorkDir

_DTYPES: Final = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def train(run: RunSpec, work: WorkDir, publisher: Publisher, say: Reporter, stop: Stop) -> Manifest:
    """Everything up to the result, going on where an earlier start stopped."""
    config = run.train.config
    optimizer_class(config.optimizer)  # before any work
    (work.output / MANIFEST_NAME).unlink(missing_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = find_checkpoint(run, work, publisher, say)
    threads = set_threads(config, found, say)

    if run.data is not None:
        say.stage(StageName.UNPACK, "unpacking the data")
        unpack(run.data, work.data)
    say.stage(StageName.LOAD_DATA, "looking at the images and captions")
    stock = take_stock(run)
    for note in stock.notes:
        say.text(f"  {note}")
    stop.check()

    say.stage(StageName.LOAD_BASE, f"loading {config.pretrained_model_name_or_path}")
    base = find_base(config.pretrained_model_name_or_path, run.base_dir)
    if base.is_file():
        base = as_folder(base, config, run.base_dir, work.cache / "bases")
    family = open_family(config.model_family, base, device=device)
    stop.check()
    numerics = f"{device.type}/{threads}" if device.type == "cpu" else device.type
    material = prepare(run.train, stock, family, work, numerics=numerics, say=say, stop=stop)

    denoiser = load_learning(config, family, device)
    if config.init_lora is not None and found is None:
        lora.begin_from(denoiser, run.base_dir / Path(config.init_lora).expanduser(), config)
    learner = Learner(denoiser, config)
    fingerprint = Fingerprint(config=config_hash(run.train), data=stock.digest, base=family.identity)
    if found is not None:
        checkpoint.restore(found, learner, fingerprint)
        say.report(Resume(step=found.step))
        say.text(f"going on after step {found.step}")
    training = Training(
        run=run, work=work, publisher=publisher, say=say, stop=stop, device=device, family=family, material=material,
        denoiser=denoiser, learner=learner, fingerprint=fingerprint, images=len(stock.pictures),
        history=History(work.metrics, resumed_from=found.metrics if found else None),
    )  # fmt: skip
    say.text(f"training {learner.size:,} numbers for {training.total} steps on {device}, {threads} threads")
    return training.run_from(found.step if found else 0)


def find_checkpoint(run: RunSpec, work: WorkDir, publisher: Publisher, say: Reporter) -> Found | None:
    """Where to go on: the newest whole checkpoint here, else the newest at the destination, else nowhere.

    Asking the destination also finds out before any work whether it can be reached at all.
    """
    found = checkpoint.newest(work.checkpoints, say.text)
    if found is not None or not publisher.delivers:
        return found
    say.stage(StageName.LOAD_DATA, "asking the destination")
    publisher.ask(lambda store: store.require())
    if run.begins_anew:
        return None
    step = publisher.ask(lambda store: publish.fetch_checkpoint(store, work.checkpoints))
    return None if step is None else checkpoint.newest(work.checkpoints, say.text)


def set_threads(config: TrainConfig, found: Found | None, say: Reporter) -> int:
    """Fix torch's threads: as told, else as the checkpoint was made with, since other numbers round differently."""
    if config.torch_num_threads:
        torch.set_num_threads(config.torch_num_threads)
    elif found is not None:
        torch.set_num_threads(found.threads)
    if found is not None and found.torch_version != torch.__version__:
        say.text(f"warning: the checkpoint is from torch {found.torch_version}, this is {torch.__version__}: "
                 "the run goes on, though not bit for bit")  # fmt: skip
    return torch.get_num_threads()


def load_learning(config: TrainConfig, family: Family, device: torch.device) -> torch.nn.Module:
    """The denoiser on its device with that part trainable which is to learn."""
    if config.mixed_precision == "fp16" and device.type != "cuda":
        raise BadSpec("mixed_precision fp16 needs a CUDA device", "use no or bf16 on a CPU")
    lora_only = config.model_type == "lora"
    denoiser = family.load_denoiser(_DTYPES[config.mixed_precision] if lora_only else torch.float32)
    if lora_only:
        lora.attach(denoiser, config, family.lora_targets(config.lora_target))
    else:
        denoiser.requires_grad_(True)
    if config.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    return denoiser.to(device)


def peak_memory_mb(device: torch.device) -> float:
    """Of the device on CUDA, of the process on the CPU."""
    return torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else resident_mb()


@dataclass(slots=True, kw_only=True)
class Training:
    """Everything the steps work on."""

    run: RunSpec
    work: WorkDir
    publisher: Publisher
    say: Reporter
    stop: Stop
    device: torch.device
    family: Family
    material: Material
    denoiser: torch.nn.Module
    learner: Learner
    fingerprint: Fingerprint
    images: int
    history: History

    @property
    def config(self) -> TrainConfig:
        """The run's config."""
        return self.run.train.config

    @property
    def total(self) -> int:
        """Optimiser steps of the whole run."""
        if self.config.max_train_steps:
            return self.config.max_train_steps
        micros = self.config.num_train_epochs * self.material.batches.per_epoch
        return math.ceil(micros / self.config.gradient_accumulation_steps)

    def run_from(self, first: int) -> Manifest:
        """Steps `first`.. to the end, with images and checkpoints in between; then the result."""
        config, step = self.config, first
        progress = Progress(self.say, total=self.total, memory_mb=partial(peak_memory_mb, self.device))
        painter = Painter(config=config, family=self.family, material=self.material, work=self.work, say=self.say,
                          stop=self.stop)  # fmt: skip
        self.say.step, saved = step, step
        with contextlib.closing(self.history):
            try:
                while True:
                    self.stop.check()
                    if painter.due(step, self.total):
                        progress.flush()
                        self.validate(painter, step)
                        progress.begin()
                    if step >= self.total:
                        break
                    self.say.stage(StageName.TRAIN, f"training {config.model_type}")
                    point = self.train_step(step)
                    step = point.step
                    self.history.add(point)
                    progress.add(point)
                    if config.checkpoint_step_interval and step % config.checkpoint_step_interval == 0:
                        progress.flush()
                        self.save(step)
                        saved = step
                        progress.begin()
                    self.publisher.check()
            except torch.OutOfMemoryError as error:
                hint = "lower train_batch_size or resolution, or set gradient_checkpointing"
                raise OutOfMemory(f"the device's memory is full: {error}", hint, step=step) from error
            except (Stopped, Refused):
                progress.flush()
                if step > saved:
                    self.save(step)
                raise
            progress.flush()
            if step > saved:
                self.save(step, deliver=False)
            return self.finish(step)

    def train_step(self, step: int) -> Point:
        """One optimiser step: gradients of every micro-batch, then the update. `Diverged` instead of a NaN in the weights."""
        config = self.config
        self.denoiser.train()
        accumulate = config.gradient_accumulation_steps
        loss_sum = torch.zeros((), device=self.device)
        micros = range(step * accumulate, (step + 1) * accumulate)
        images = sum(len(self.material.batches.at(micro)) for micro in micros)
        for micro in micros:
            batch = self.noised(micro)
            torch.manual_seed(seed_of(config.seed, "dropout", micro))
            with self.autocast():
                # Each image weighs the same, as in one batch of them all: the last batch of a bucket may be smaller.
                loss = self.family.losses(self.denoiser, batch, config).sum() / images
            self.learner.backward(loss)
            loss_sum += loss.detach()
        loss_mean = float(loss_sum)
        if not math.isfinite(loss_mean):
            raise self.diverged("loss", step + 1)
        grad_norm = self.learner.clip()
        if not math.isfinite(grad_norm) and not self.learner.scales_loss:
            raise self.diverged("gradient", step + 1)
        lr = learning_rate(config, step, self.total)
        self.learner.update(step, lr)
        epoch = (step + 1) * accumulate / self.material.batches.per_epoch
        return Point(step=step + 1, loss=loss_mean, lr=lr, grad_norm=grad_norm, epoch=epoch, images=images)

    def noised(self, micro: int) -> Noised:
        """A micro-batch on the device, with every draw it needs."""
        seed = self.config.seed
        batch = self.material.micro_batch(micro)
        count, channels, height, width = batch.moments.shape
        shape = (count, channels // 2, height, width)
        latents = self.family.latents(batch.moments, noise(seed, "posterior", micro, shape))
        return Noised(
            latents=latents.to(self.device),
            noise=noise(seed, "noise", micro, shape).to(self.device),
            timesteps=self.family.timesteps(quantiles(seed, micro, count), (height, width), self.config).to(
                self.device
            ),
            prompts=batch.prompts.to(self.device),
            places=batch.places.to(self.device),
        )

    def autocast(self) -> torch.autocast:
        """Mixed precision, where it is asked for."""
        dtype = _DTYPES[self.config.mixed_precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32)

    def validate(self, painter: Painter, step: int) -> None:
        """Paint with the weights that would be delivered now, and send the images on their way."""
        self.denoiser.eval()
        with self.learner.averaged(), self.autocast():
            images = painter.paint(self.denoiser, step)
        keys = tuple(image.key for image in images)
        if keys:
            self.publisher.send(
                Parcel(folder=self.work.output, names=keys, reports=tuple(images), title=f"Samples of step {step}")
            )

    def save(self, step: int, *, deliver: bool = True) -> None:
        """Write a checkpoint (with the LoRA as diffusers loads it), send it on its way, and remove the oldest.

        `Diverged` instead of one from which the run could not go on.
        """
        if not self.learner.is_finite:
            raise self.diverged("update", step)
        self.say.stage(StageName.SAVE, f"saving step {step}")
        folder, manifest = checkpoint.save(
            self.work.checkpoints, step, self.learner, fingerprint=self.fingerprint, plan_digest=self.run.plan_digest,
            add_files=partial(self.add_to_checkpoint, step),
        )  # fmt: skip
        names = (*(entry.path for entry in manifest.files), MANIFEST_NAME)
        size = sum((folder / name).stat().st_size for name in names)
        written = partial(Checkpoint, step=step, key=f"checkpoints/{folder.name}/", bytes=size,
                          sha256=sha256_of(folder / MANIFEST_NAME))  # fmt: skip
        self.say.report(written(delivered=False))
        if deliver and self.publisher.takes_checkpoints:
            self.publisher.send(Parcel(folder=folder, names=names, prefix=f"checkpoints/{folder.name}/",
                                       reports=(written(delivered=True),), replaceable=True,
                                       title=f"Checkpoint of step {step}"))  # fmt: skip
        checkpoint.prune(self.work.checkpoints, self.config.checkpoints_total_limit, self.publisher.in_use())

    def add_to_checkpoint(self, step: int, folder: Path) -> None:
        """What a checkpoint has beyond the state: the loss curve, and a LoRA file that can be used as it is."""
        self.history.copy_to(folder / checkpoint.METRICS_NAME)
        if self.config.model_type == "lora":
            with self.learner.averaged():
                output.export(self.run, self.denoiser, self.family, folder, self.made(step))

    def finish(self, step: int) -> Manifest:
        """Write the result."""
        self.say.stage(StageName.SAVE, "writing the result")
        self.denoiser.eval()
        with self.learner.averaged():
            return output.complete(self.run, self.work, self.denoiser, self.family, self.made(step))

    def made(self, step: int) -> Made:
        """What the metadata says of the training so far."""
        epochs = step * self.config.gradient_accumulation_steps / self.material.batches.per_epoch
        return Made(step=step, images=self.images, epochs=epochs, size=self.material.size)

    def diverged(self, what: str, step: int) -> Diverged:
        """The sentence for a value that is not finite."""
        last = checkpoint.newest(self.work.checkpoints, self.say.text)
        kept = (
            f"checkpoint {last.folder.name} is from before that" if last else "there is no checkpoint from before that"
        )
        hint = f"{kept}; try a lower learning_rate, more lr_warmup_steps or a lower max_grad_norm"
        return Diverged(f"the {what} is not a finite number at step {step}", hint, step=step)
