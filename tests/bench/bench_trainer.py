"""CPU-seconds a step, memory and start-up: the trainer beside a plain diffusers + peft loop on the same base and images.

    python tests/bench/bench_trainer.py [--rounds 7] [--steps 24] [--base DIR] [--images DIR]

Each round runs both in processes of their own, one thread each, in turn; a ratio is of the two runs of a round, so that a
machine that gets slower meanwhile slows both. Process time, not wall time: other people's load on a machine does not count.
Memory is the peak above what was held once the libraries were imported. The trainer's latents and texts are cached when the
rounds begin, as they are in every start but the first.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import simpletuner_trainer

ASSETS = Path(simpletuner_trainer.__file__).parent / "assets"
WARM_STEPS = 4
RANK = 16
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
RESAMPLES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What both sides are asked to do."""

    base: Path
    images: Path
    edge: int
    """Of the square that is trained at, in pixels."""
    batch: int
    steps: int
    work: Path
    began_s: float
    """When the process was asked for, by the clock of the system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What a process has used once its libraries are there."""

    held_mb: float
    cpu_s: float

    @classmethod
    def now(cls) -> Imported:
        return cls(held_mb=psutil.Process().memory_info().rss / 1e6, cpu_s=time.process_time())


def ours(trial: Trial) -> dict[str, float]:
    """The trainer through its own entry, with report lines, metrics and caches; CPU time is read at the end of each step."""
    from simpletuner_trainer import loop
    from simpletuner_trainer.__main__ import main
    from simpletuner_trainer.models import sd  # noqa: F401  # its libraries are part of what is imported

    imported = Imported.now()
    ends: list[float] = []
    step = loop.Training.train_step
    first: list[float] = []

    def timed(training: loop.Training, number: int) -> Any:
        point = step(training, number)
        ends.append(time.process_time())
        first.append(time.time())
        return point

    loop.Training.train_step = timed  # type: ignore[method-assign]
    spec = {
        "format": "simpletuner-spec/1", "job_id": "bench", "nonce": "0123456789abcdef", "work_dir": str(trial.work),
        "config": {
            "pretrained_model_name_or_path": str(trial.base), "max_train_steps": trial.steps,
            "train_batch_size": trial.batch, "resolution": trial.edge, "resolution_type": "pixel",
            "lora_rank": RANK, "learning_rate": 1e-3, "torch_num_threads": 1, "checkpoint_step_interval": 0,
            "resume_from_checkpoint": "none",
        },
        "dataloader": [{"id": "images", "instance_data_dir": str(trial.images)}],
    }  # fmt: skip
    path = trial.work.parent / "spec.json"
    path.write_text(json.dumps(spec), "utf-8")
    if main([str(path)]):
        raise SystemExit("the trainer failed")
    return measured(ends, first[0] - trial.began_s, imported)


def plain(trial: Trial) -> dict[str, float]:
    """The loop of diffusers' train_text_to_image_lora.py without accelerate: each step reads, encodes and learns.

    As good as the script: resize, crop, flip, tokens, VAE, text encoder, loss, clipping (which there clips nothing),
    AdamW and a schedule of the learning rate.
    """
    import torch
    from diffusers import DDPMScheduler, StableDiffusionPipeline
    from diffusers.optimization import get_scheduler
    from peft import LoraConfig

    imported = Imported.now()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    drawn = random.Random(0)
    pipeline = StableDiffusionPipeline.from_pretrained(trial.base, safety_checker=None, torch_dtype=torch.float32)
    unet, vae, text_encoder = pipeline.unet, pipeline.vae, pipeline.text_encoder
    noising = DDPMScheduler.from_config(pipeline.scheduler.config)
    for part in (unet, vae, text_encoder):
        part.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=list(TARGETS)))
    parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    schedule = get_scheduler("constant", optimizer)
    paths = sorted(trial.images.glob("*.png"))

    ends: list[float] = []
    began = 0.0
    for step in range(trial.steps):
        chosen = [paths[(step * trial.batch + place) % len(paths)] for place in range(trial.batch)]
        pixels = torch.stack([torch.from_numpy(pixels_of(path, trial.edge, drawn)) for path in chosen])
        captions = [path.with_suffix(".txt").read_text("utf-8").strip() for path in chosen]
        tokens = pipeline.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
            prompts = text_encoder(tokens, return_dict=False)[0]
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, noising.config.num_train_timesteps, (trial.batch,))
        said = unet(noising.add_noise(latents, noise, timesteps), timesteps, prompts, return_dict=False)[0]
        velocity = noising.config.prediction_type == "v_prediction"
        target = noising.get_velocity(latents, noise, timesteps) if velocity else noise
        loss = torch.nn.functional.mse_loss(said.float(), target.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        loss.item()
        ends.append(time.process_time())
        began = began or time.time()
    return measured(ends, began - trial.began_s, imported)


def pixels_of(path: Path, edge: int, drawn: random.Random) -> Any:
    """[3, edge, edge] in -1..1, in half of all cases mirrored."""
    import numpy as np
    from PIL import Image

    image = Image.open(path).convert("RGB")
    if image.size != (edge, edge):
        image = image.resize((edge, edge), Image.Resampling.LANCZOS)
    if drawn.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.ascontiguousarray((np.asarray(image, dtype=np.float32) / 127.5 - 1).transpose(2, 0, 1))


def bare(trial: Trial) -> dict[str, float]:
    """The libraries that both sides need before a first step, and nothing else: no start is faster."""
    import peft  # noqa: F401
    from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401

    return {"first_step_s": time.time() - trial.began_s}


SIDES = {"ours": ours, "plain": plain}


def measured(ends: Sequence[float], first_step_s: float, imported: Imported) -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "step_cpu_s": (ends[-1] - ends[WARM_STEPS - 1]) / (len(ends) - WARM_STEPS),
        "imports_cpu_s": imported.cpu_s,
        "first_step_cpu_s": ends[0] - imported.cpu_s,
        "first_step_s": first_step_s,
        "above_imports_mb": peak / (1e6 if sys.platform == "darwin" else 1e3 / 1.024) - imported.held_mb,
    }


def in_a_process(side: str, asked: dict[str, Any]) -> dict[str, float]:
    told = json.dumps({**asked, "began_s": time.time()})
    command = [sys.executable, __file__, "--side", side, told]
    alone = os.environ | {"SIMPLETUNER_CACHE_DIR": str(Path(asked["work"]).parent / "cache")}
    ran = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{side} failed:\n{ran.stdout}\n{ran.stderr}")
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def interval(ratios: Sequence[float]) -> str:
    """The median of the rounds and its 95 % interval (percentiles of the medians of resampled rounds)."""
    drawn = random.Random(0)
    medians = sorted(statistics.median(drawn.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    low, high = medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]
    return f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"


def compare(edge: int, batch: int, options: argparse.Namespace, folder: Path) -> None:
    """The rounds at one size."""
    asked = {"base": str(options.base), "images": str(options.images), "edge": edge, "batch": batch}
    asked |= {"steps": options.steps, "work": str(folder / f"work-{edge}")}
    in_a_process("ours", {**asked, "steps": WARM_STEPS + 1})  # fills the caches
    rounds: list[dict[str, dict[str, float]]] = []
    print(f"{edge} px, {batch} images a step, {options.rounds} rounds of {options.steps} steps", flush=True)
    for number in range(options.rounds):
        order = ("ours", "plain") if number % 2 == 0 else ("plain", "ours")
        found = {side: in_a_process(side, asked) for side in (*order, "bare")}
        rounds.append(found)
        print(f"  round {number + 1}: " + "  ".join(
            f"{side} {found[side]['step_cpu_s']:.4f} CPU-s/step, {found[side]['above_imports_mb']:.0f} MB"
            for side in SIDES
        ), flush=True)  # fmt: skip
    speed = interval([found["plain"]["step_cpu_s"] / found["ours"]["step_cpu_s"] for found in rounds])
    memory = interval([found["ours"]["above_imports_mb"] / found["plain"]["above_imports_mb"] for found in rounds])
    print(f"  CPU-s a step, plain / ours: {speed}, above 1 is faster; the aim is 1.25")
    print(f"  peak memory above the imports, ours / plain: {memory}, below 1 is less; the aim is 0.85")
    for name, what in (
        ("imports_cpu_s", "CPU-s of the imports"),
        ("first_step_cpu_s", "CPU-s from the imports to the end of the first step"),
        ("first_step_s", "seconds from the start to the end of the first step, imports included"),
    ):
        ends = ", ".join(f"{side} {median_of(rounds, side, name):.1f}" for side in SIDES)
        print(f"  {what}: {ends}")
    least = median_of(rounds, "bare", "first_step_s")
    above = interval([found["ours"]["first_step_s"] - found["bare"]["first_step_s"] for found in rounds])
    print(f"  torch, diffusers and peft alone take {least:.1f} s to import; ours adds {above} s")


def median_of(rounds: Sequence[dict[str, dict[str, float]]], side: str, name: str) -> float:
    return statistics.median(found[side][name] for found in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--edges", default="64x16,128x4", help="EDGExBATCH, with commas between")
    parser.add_argument("--base", type=Path, default=ASSETS / "tiny_base")
    parser.add_argument("--images", type=Path, default=ASSETS / "styles" / "neon" / "train")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side, told = options.side[0], json.loads(options.side[1])
        paths = {name: Path(told[name]) for name in ("base", "images", "work")}
        sides = {**SIDES, "bare": bare}
        print(json.dumps(sides[side](Trial(**{**told, **paths}))))
        return
    with tempfile.TemporaryDirectory() as folder:
        for part in options.edges.split(","):
            edge, _, batch = part.partition("x")
            compare(int(edge), int(batch), options, Path(folder))


if __name__ == "__main__":
    main()
