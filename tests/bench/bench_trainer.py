"""CPU-seconds a step and peak memory: the trainer beside a plain diffusers + peft loop on the same base and images.

    python tests/bench/bench_trainer.py [--rounds 5] [--steps 40] [--base DIR] [--images DIR]

Each round runs both in processes of their own, one thread each, in turn; the ratio is of the two runs of a round, so that
a machine that gets slower meanwhile slows both. Process time, not wall time: a shared machine does not count.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import simpletuner_trainer

ASSETS = Path(simpletuner_trainer.__file__).parent / "assets"
WARM_STEPS = 5
BATCH = 16
RANK = 16
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def ours(base: Path, images: Path, steps: int, work: Path) -> dict[str, float]:
    """The trainer through its own entry, with report lines, metrics and caches; CPU time is read at the end of each step."""
    from simpletuner_trainer import loop
    from simpletuner_trainer.__main__ import main

    ends: list[float] = []
    step = loop.Training.train_step

    def timed(training: loop.Training, number: int) -> Any:
        point = step(training, number)
        ends.append(time.process_time())
        return point

    loop.Training.train_step = timed  # type: ignore[method-assign]
    spec = {
        "format": "simpletuner-spec/1", "job_id": "bench", "nonce": "0123456789abcdef", "work_dir": str(work),
        "config": {
            "pretrained_model_name_or_path": str(base), "max_train_steps": steps, "train_batch_size": BATCH,
            "lora_rank": RANK, "learning_rate": 1e-3, "torch_num_threads": 1, "checkpoint_step_interval": 0,
            "resume_from_checkpoint": "none",
        },
        "dataloader": [{"id": "images", "instance_data_dir": str(images)}],
    }  # fmt: skip
    path = work.parent / "spec.json"
    path.write_text(json.dumps(spec), "utf-8")
    if main([str(path)]):
        raise SystemExit("the trainer failed")
    return measured(ends)


def plain(base: Path, images: Path, steps: int, _work: Path) -> dict[str, float]:
    """The loop of diffusers' train_text_to_image_lora.py without accelerate: every step encodes its images and captions."""
    import numpy as np
    import torch
    from diffusers import DDPMScheduler, StableDiffusionPipeline
    from peft import LoraConfig
    from PIL import Image

    torch.set_num_threads(1)
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline.from_pretrained(base, safety_checker=None, torch_dtype=torch.float32)
    unet, vae, text_encoder = pipeline.unet, pipeline.vae, pipeline.text_encoder
    noising = DDPMScheduler.from_config(pipeline.scheduler.config)
    for part in (unet, vae, text_encoder):
        part.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS)))
    parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    paths = sorted(images.glob("*.png"))
    ends: list[float] = []
    for step in range(steps):
        chosen = [paths[(step * BATCH + place) % len(paths)] for place in range(BATCH)]
        pixels = torch.stack([
            torch.from_numpy(np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)
            for path in chosen
        ])  # fmt: skip
        captions = [path.with_suffix(".txt").read_text("utf-8").strip() for path in chosen]
        tokens = pipeline.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
            prompts = text_encoder(tokens)[0]
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, noising.config.num_train_timesteps, (BATCH,))
        said = unet(noising.add_noise(latents, noise, timesteps), timesteps, prompts, return_dict=False)[0]
        velocity = noising.config.prediction_type == "v_prediction"
        target = noising.get_velocity(latents, noise, timesteps) if velocity else noise
        loss = torch.nn.functional.mse_loss(said, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        ends.append(time.process_time())
    return measured(ends)


def measured(ends: list[float]) -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "step_cpu_s": (ends[-1] - ends[WARM_STEPS - 1]) / (len(ends) - WARM_STEPS),
        "before_cpu_s": ends[0],
        "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3),
    }


def in_a_process(side: str, options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--side", side, "--work", f"{folder}/work", "--steps", str(options.steps)]
        command += ["--base", str(options.base), "--images", str(options.images)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise SystemExit(f"{side} failed:\n{ran.stdout}\n{ran.stderr}")
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def interval(ratios: list[float]) -> str:
    """Geometric mean and its 95 % interval (Student's t on the logarithms)."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return f"{math.exp(mean):.2f}"
    t95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}.get(len(logs) - 1, 2.0)
    half = t95 * statistics.stdev(logs) / math.sqrt(len(logs))
    return f"{math.exp(mean):.2f} ({math.exp(mean - half):.2f} to {math.exp(mean + half):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--base", type=Path, default=ASSETS / "tiny_base")
    parser.add_argument("--images", type=Path, default=ASSETS / "styles" / "neon" / "train")
    parser.add_argument("--side", choices=("ours", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side = ours if options.side == "ours" else plain
        print(json.dumps(side(options.base, options.images, options.steps, options.work)))
        return
    rounds = []
    for number in range(options.rounds):
        order = ("ours", "plain") if number % 2 == 0 else ("plain", "ours")
        found = {side: in_a_process(side, options) for side in order}
        rounds.append(found)
        print(f"round {number + 1}: " + "  ".join(
            f"{side} {found[side]['step_cpu_s']:.4f} CPU-s/step, {found[side]['peak_mb']:.0f} MB" for side in ("ours", "plain")
        ), flush=True)  # fmt: skip
    speed = interval([found["plain"]["step_cpu_s"] / found["ours"]["step_cpu_s"] for found in rounds])
    memory = interval([found["ours"]["peak_mb"] / found["plain"]["peak_mb"] for found in rounds])
    before = [statistics.median(found[side]["before_cpu_s"] for found in rounds) for side in ("ours", "plain")]
    print(f"\nCPU-s a step, plain / ours: {speed}   (above 1: ours is faster)")
    print(f"peak memory, ours / plain:  {memory}   (below 1: ours needs less)")
    print(
        f"CPU-s up to the end of the first step, imports and caches included: ours {before[0]:.1f}, plain {before[1]:.1f}"
    )


if __name__ == "__main__":
    main()
