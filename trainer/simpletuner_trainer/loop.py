"""Training from the data to the finished result on disk, in the order in which things happen."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from simpletuner_trainer import checkpoint, lora, output, publish
from simpletuner_trainer.ahead import Ahead
from simpletuner_trainer.cache import numerics_of
from simpletuner_trainer.card import Made
from simpletuner_trainer.checkpoint import Fingerprint, Found
from simpletuner_trainer.conflicts import warmup_conflicts
from simpletuner_trainer.data import take_stock
from simpletuner_trainer.errors import BadSpec, CacheLost, Diverged, ProcessLost, Refused, Stopped
from simpletuner_trainer.files import Manifest, sha256_of
from simpletuner_trainer.history import History
from simpletuner_trainer.material import Material, prepare
from simpletuner_trainer.memory import DTYPES, Need, available, kept_of, relief, room, standing
from simpletuner_trainer.models import Family, Noised, open_family
from simpletuner_trainer.models.single_file import base_folder
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
    from simpletuner_trainer.team import Team
    from simpletuner_trainer.workdir import WorkDir


def train(
    run: RunSpec, work: WorkDir, publisher: Publisher, say: Reporter, stop: Stop, *, team: Team
) -> Manifest | None:
    """Everything up to the result, going on where an earlier start stopped. None in a process that does not lead."""
    config = run.train.config
    optimizer_class(config.optimizer)  # before any work
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = team.first(lambda: find_checkpoint(run, work, publisher, say))
    threads = set_threads(config, found, say)
    with team.apart():
        if team.leads and run.data is not None:
            say.stage(StageName.UNPACK, "unpacking the data")
            unpack(run.data, work.data)
    say.stage(StageName.LOAD_DATA, "looking at the images and captions")
    with team.apart():
        stock = take_stock(run)
        stop.check()
    for note in stock.notes:
        say.text(f"  {note}")

    say.stage(StageName.LOAD_BASE, f"loading {config.pretrained_model_name_or_path}")
    base = team.first(lambda: base_folder(run, work.cache / "bases"))
    family = open_family(config.model_family, base, device=device)
    numerics = numerics_of(device, threads)
    material = prepare(run.train, stock, family, work, numerics=numerics, say=say, stop=stop, team=team)

    denoiser = load_learning(config, family, device)
    if config.init_lora is not None and found is None:
        lora.begin_from(denoiser, run.base_dir / Path(config.init_lora).expanduser(), config)
    learner = Learner(denoiser, config)
    fingerprint = Fingerprint(
        config=config_hash(run.train), data=stock.digest, base=family.identity, learner=learner.identity,
        threads=threads, world_size=team.size,
    )  # fmt: skip
    if found is not None:
        checkpoint.restore(found, learner, fingerprint, despite=config.resume_despite, notice=say.text)
        say.report(Resume(step=found.step))
        say.text(f"going on after step {found.step}")
    training = Training(
        run=run, work=work, publisher=publisher, say=say, stop=stop, team=team, device=device, family=family,
        material=material, denoiser=denoiser, learner=learner, fingerprint=fingerprint, images=len(stock.pictures),
        history=History(work.metrics if team.leads else Path(os.devnull),
                        resumed_from=found.metrics if found and team.leads else None),
    )  # fmt: skip
    if problems := warmup_conflicts(config, training.total):
        raise BadSpec(f"{problems[0].path}: {problems[0].message}", problems[0].hint)
    processes = f", {team.size} processes" if team.size > 1 else ""
    say.text(f"training {learner.size:,} numbers for {training.total} steps on {device}, {threads} threads{processes}")
    with team.apart(), room(config, device, 0):
        if team.leads:
            output.begin(run, work, stock.digest, anew=found is None)
            training.weigh()
    if config.dynamo_mode != "no":
        compile_on_cuda(denoiser, config.dynamo_mode, device, say)
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
    denoiser = family.load_denoiser(DTYPES[config.mixed_precision] if lora_only else torch.float32)
    if lora_only:
        lora.attach(denoiser, config, family.lora_targets(config.lora_target))
    else:
        denoiser.requires_grad_(True)
    if config.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    return denoiser.to(device)


def compile_on_cuda(denoiser: torch.nn.Module, mode: str, device: torch.device, say: Reporter) -> None:
    """torch.compile in place, so that no name changes; its first steps are slow."""
    if device.type == "cuda":
        denoiser.compile(mode=mode)
    else:
        say.text("dynamo_mode is left aside: it costs more than it gains without CUDA")


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
    team: Team
    device: torch.device
    family: Family
    material: Material
    denoiser: torch.nn.Module
    learner: Learner
    fingerprint: Fingerprint
    images: int
    history: History
    passed_over: set[int] = field(default_factory=set)
    """Steps of the checkpoints that this run did not go on from, and has not written again."""
    ahead: Ahead[Noised] | None = None
    """While the run goes: the next micro-batches, made beside the present step."""

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
        return math.ceil(micros / self.micros_per_step)

    def epochs(self, steps: int) -> float:
        """Times through all images."""
        return steps * self.micros_per_step / self.material.batches.per_epoch

    @property
    def micros_per_step(self) -> int:
        """Of all processes together."""
        return self.config.gradient_accumulation_steps * self.team.size

    def weigh(self) -> Need:
        """Say what the run needs of the device's memory, and warn where it has less. Looks at one image."""
        free = available(self.device)
        largest = self.material.largest
        one = self.noised(0, largest[:1])
        self.denoiser.train()

        def forward() -> torch.Tensor:
            with self.autocast():
                return self.family.losses(self.denoiser, one, self.config)

        kept = kept_of(forward, self.denoiser.parameters()) * len(largest)
        need = dataclasses.replace(standing(self.denoiser.parameters(), self.config), activations=kept)
        self.say.text(str(need))
        if free is not None and need.total - need.weights > free:
            self.say.text(f"warning: {free / 1e6:,.1f} MB are free: {relief(self.config, self.device)}")
        return need

    def run_from(self, first: int) -> Manifest | None:
        """Steps `first`.. to the end, with images and checkpoints in between; then the result."""
        config, step = self.config, first
        progress = Progress(self.say, total=self.total, memory_mb=partial(peak_memory_mb, self.device))
        painter = Painter(config=config, family=self.family, material=self.material, work=self.work, say=self.say,
                          stop=self.stop, training=self.fingerprint.training)  # fmt: skip
        self.passed_over.update(one for one in checkpoint.steps_of(self.work.checkpoints) if one > first)
        self.say.step, saved = step, step
        with contextlib.closing(self.history), self.working_ahead():
            try:
                while True:
                    with self.team.apart(), room(config, self.device, step):
                        self.stop.check()
                        self.publisher.check()
                        if self.team.leads and painter.due(step, self.total):
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
            except (Stopped, Refused, CacheLost, ProcessLost):
                progress.flush()
                if step > saved and self.team.leads:
                    self.write(step)
                raise
            progress.flush()
            if step > saved:
                self.save(step, deliver=False)
            return self.finish(step)

    @contextlib.contextmanager
    def working_ahead(self) -> Iterator[None]:
        """Make the next micro-batches in a thread while a step goes on, on the same device."""
        begin = partial(torch.cuda.set_device, torch.cuda.current_device()) if self.device.type == "cuda" else None
        try:
            with Ahead(
                self.noised, end=self.total * self.micros_per_step, stride=self.team.size, begin=begin
            ) as self.ahead:
                yield
        finally:
            self.ahead = None

    def train_step(self, step: int) -> Point:
        """One optimiser step: gradients of every micro-batch, then the update. `Diverged` instead of a NaN in the weights."""
        config = self.config
        micros = range(step * self.micros_per_step, (step + 1) * self.micros_per_step)
        images = sum(len(self.material.batches.at(micro)) for micro in micros)
        loss_sum = torch.zeros((), device=self.device)
        with self.team.apart(), room(config, self.device, step):
            self.denoiser.train()
            for micro in self.team.share(micros):
                batch = self.noised(micro) if self.ahead is None else self.ahead.take(micro)
                torch.manual_seed(seed_of(config.seed, "dropout", micro))
                with self.autocast():
                    # Each image weighs the same, as in one batch of them all: the last batch of a bucket may be smaller.
                    loss = self.family.losses(self.denoiser, batch, config).sum() / images
                self.learner.backward(loss)
                loss_sum += loss.detach()
        self.team.sum([*self.learner.gradients, loss_sum])
        loss_mean = float(loss_sum)
        if not math.isfinite(loss_mean):
            raise self.diverged("loss", step + 1)
        grad_norm = self.learner.clip()
        if not math.isfinite(grad_norm) and not self.learner.scales_loss:
            raise self.diverged("gradient", step + 1)
        lr = learning_rate(config, step, self.total)
        self.learner.update(step, lr)
        return Point(
            step=step + 1, loss=loss_mean, lr=lr, grad_norm=grad_norm, epoch=self.epochs(step + 1), images=images
        )

    def noised(self, micro: int, chosen: Sequence[int] = ()) -> Noised:
        """A micro-batch (`Material.micro_batch`) on the device, with every draw it needs."""
        seed = self.config.seed
        batch = self.material.micro_batch(micro, chosen)
        count, channels, height, width = batch.moments.shape
        shape = (count, channels // 2, height, width)
        latents = self.family.latents(batch.moments, noise(seed, "posterior", micro, shape))
        return Noised(
            latents=self.on_device(latents),
            noise=self.on_device(noise(seed, "noise", micro, shape)),
            timesteps=self.on_device(
                self.family.timesteps(quantiles(seed, micro, count), (height, width), self.config)
            ),
            prompts=self.on_device(batch.prompts),
            places=self.on_device(batch.places),
        )

    def on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """Copied there; to a GPU without waiting for what it does meanwhile."""
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def autocast(self) -> torch.autocast:
        """Mixed precision, where it is asked for."""
        dtype = DTYPES[self.config.mixed_precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32)

    def validate(self, painter: Painter, step: int) -> None:
        """Paint with the weights that would be delivered now, and send the images on their way."""
        self.denoiser.eval()
        with self.learner.averaged(), self.autocast():
            images = painter.paint(self.denoiser, step)
        keys = tuple(image.key for image in images)
        if keys:
            title = f"Samples of step {step}"
            self.publisher.send(Parcel(folder=self.work.output, names=keys, reports=tuple(images), title=title))

    def save(self, step: int, *, deliver: bool = True) -> None:
        """`write`, where every process looks on: none goes on when the disk is full."""
        with self.team.apart():
            if self.team.leads:
                self.write(step, deliver=deliver)

    def write(self, step: int, *, deliver: bool = True) -> None:
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
        self.passed_over.discard(step)
        keep, in_use = self.config.checkpoints_total_limit, self.publisher.in_use()
        checkpoint.prune(self.work.checkpoints, keep, in_use, self.passed_over)

    def add_to_checkpoint(self, step: int, folder: Path) -> None:
        """What a checkpoint has beyond the state: the loss curve, and a LoRA file that can be used as it is."""
        self.history.copy_to(folder / checkpoint.METRICS_NAME)
        if self.config.model_type == "lora":
            with self.learner.averaged():
                output.export(self.run, self.denoiser, self.family, folder, self.made(step))

    def finish(self, step: int) -> Manifest | None:
        """Write the result."""
        with self.team.apart():
            if not self.team.leads:
                return None
            self.say.stage(StageName.SAVE, "writing the result")
            self.denoiser.eval()
            with self.learner.averaged():
                return output.complete(self.run, self.work, self.denoiser, self.family, self.made(step))

    def made(self, step: int) -> Made:
        """What the metadata says of the training so far."""
        return Made(step=step, images=self.images, epochs=self.epochs(step), size=self.material.size)

    def diverged(self, what: str, step: int) -> Diverged:
        """The sentence for a value that is not finite."""
        last = checkpoint.newest(self.work.checkpoints, self.say.text)
        kept = f"checkpoint {last.folder.name} is" if last else "no checkpoint is"
        clip = "a lower max_grad_norm" if self.config.max_grad_norm else "a max_grad_norm above 0"
        hint = f"{kept} from before that; try a lower learning_rate, more lr_warmup_steps or {clip}"
        return Diverged(f"the {what} is not a finite number at step {step}", hint, step=step)
