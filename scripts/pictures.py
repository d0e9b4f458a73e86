"""Trains every tiny configuration and draws its loss curve and samples into docs/images/training: `make pictures`.

Each runs through the trainer's own entry, with one thread and a fixed seed, so the same machine draws the same pictures again.
A new configuration is one line in `CONFIGURATIONS`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import simpletuner_trainer.__main__  # noqa: E402
from simpletuner_lab.figures import smoothed  # noqa: E402
from simpletuner_lab.testing.tiny_bases import SCHEDULES, make_base, make_flux_base, make_xl_base  # noqa: E402

STYLES = REPOSITORY / "trainer/simpletuner_trainer/assets/styles"
PROMPTS = ["grinning face, face smiling", "wolf face, animal mammal", "cow face, animal mammal", "sloth, animal mammal"]
TILE, GAP, MARGIN, LABEL = 80, 4, 8, 62
PLOT = (330, 3 * (TILE + GAP) - GAP)
SMOOTHING = 0.9
INK, FAINT, LINE, GRID = "#222222", "#c9d8ee", "#2f7de1", "#e4e4e4"
COLOURS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One training, and how its base is made; without a maker the base that ships."""

    name: str
    title: str
    make: Callable[[Path], Path] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


def random_sd(kind: str) -> Callable[[Path], Path]:
    """A maker of a Stable Diffusion of random weights that predicts what `kind` says."""
    return lambda folder: make_base(folder, **SCHEDULES[kind])


def random_xl(folder: Path) -> Path:
    """A Stable Diffusion XL of random weights."""
    return make_xl_base(folder, make_base(folder.with_name("parts")))


def random_flux(folder: Path) -> Path:
    """A FLUX.1-dev of random weights."""
    return make_flux_base(folder, make_base(folder.with_name("parts")))


FLUX = {"model_family": "flux", "resolution": 32}
TINY = {"lora_target": "all", "max_train_steps": 200, "train_batch_size": 8, "learning_rate": 2e-3}
FULL = {**TINY, "model_type": "full", "learning_rate": 2e-4}
CONFIGURATIONS = (
    Configuration(name="tiny-lora", title="sd, LoRA, the base that ships", config=TINY),
    Configuration(name="tiny-full", title="sd, full, the base that ships", config=FULL),
    Configuration(name="sd-epsilon", title="sd, LoRA, random base, noise", make=random_sd("epsilon")),
    Configuration(name="sd-velocity", title="sd, LoRA, random base, velocity", make=random_sd("velocity")),
    Configuration(name="sd-zero-snr", title="sd, LoRA, random base, zero SNR", make=random_sd("zero-snr")),
    Configuration(name="sdxl", title="sdxl, LoRA, random base", make=random_xl, config={"model_family": "sdxl"}),
    Configuration(name="flux", title="flux, LoRA, random base", make=random_flux, config=FLUX),
)
COMMON = {
    "lora_rank": 16, "max_train_steps": 200, "train_batch_size": 8, "learning_rate": 1e-2, "lr_scheduler": "cosine",
    "lr_warmup_steps": 20, "torch_num_threads": 1, "checkpoint_step_interval": 0, "validation_prompt": PROMPTS,
    "validation_guidance": 2.5, "validation_num_inference_steps": 20,
}  # fmt: skip


def main() -> None:
    """Train and draw those that are asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(one.name for one in CONFIGURATIONS))
    parser.add_argument("--to", type=Path, default=REPOSITORY / "docs/images/training")
    parser.add_argument("--steps", type=int, help="instead of each configuration's own")
    asked = parser.parse_args()
    if unknown := set(asked.names) - {one.name for one in CONFIGURATIONS}:
        parser.error(f"no such configuration: {', '.join(sorted(unknown))}")
    for one in CONFIGURATIONS:
        if not asked.names or one.name in asked.names:
            with tempfile.TemporaryDirectory() as folder:
                work = train(one, Path(folder), asked.steps)
                path = asked.to / f"{one.name}.png"
                draw(one, work, path)
                print(f"{path}: {path.stat().st_size:,} bytes", flush=True)


def train(one: Configuration, folder: Path, steps: int | None) -> Path:
    """The work folder of a finished run."""
    made = str(one.make(folder / "base")) if one.make else "builtin:tiny"
    config = {**COMMON, "pretrained_model_name_or_path": made, **one.config}
    config["max_train_steps"] = total = steps or config["max_train_steps"]
    config["lr_warmup_steps"] = min(config["lr_warmup_steps"], total // 4)
    spec = {
        "format": "simpletuner-spec/1", "job_id": one.name, "nonce": "0123456789abcdef", "work_dir": "work",
        "config": {**config, "validation_step_interval": total // 2},
        "dataloader": [{"id": "neon", "instance_data_dir": str(STYLES / "neon/train")}],
    }  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec), "utf-8")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = simpletuner_trainer.__main__.main([str(folder / "spec.json")])
    if code:
        raise SystemExit(f"{one.name} failed:\n{said.getvalue()}")
    return folder / "work"


def draw(one: Configuration, work: Path, path: Path) -> None:
    """The curve on the left; samples on the right, a row a moment and a column a prompt."""
    losses = [json.loads(line)["loss"] for line in (work / "metrics.jsonl").read_text("utf-8").splitlines()]
    samples = sorted((work / "output/samples").glob("step-*.png"))
    rows = [samples[start : start + len(PROMPTS)] for start in range(0, len(samples), len(PROMPTS))]
    top = 24
    width = PLOT[0] + LABEL + len(PROMPTS) * (TILE + GAP) + 2 * MARGIN
    sheet = Image.new("RGB", (width, top + PLOT[1] + 2 * MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), one.title, fill=INK, font=ImageFont.load_default(14))
    draw_curve(pen, losses, (MARGIN, top + MARGIN))
    for number, row in enumerate(rows):
        left, above = MARGIN + PLOT[0] + LABEL, top + MARGIN + number * (TILE + GAP)
        step = int(row[0].stem.split("-")[1])
        pen.text((left - 6, above + TILE // 2), f"step {step}", fill=INK, font=ImageFont.load_default(12), anchor="rm")
        for column, sample in enumerate(row):
            with Image.open(sample) as image:
                tile = image.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (left + column * (TILE + GAP), above))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def draw_curve(pen: ImageDraw.ImageDraw, losses: Sequence[float], corner: tuple[int, int]) -> None:
    """The measured loss faintly, its running mean over it, and three lines of a grid."""
    values, font = np.array(losses), ImageFont.load_default(11)
    low, high = float(values.min()), float(np.quantile(values, 0.99))
    spread = (high - low) or 1.0
    left, top = corner[0] + 34, corner[1]
    width, height = PLOT[0] - 44, PLOT[1] - 18
    for part in (0.0, 0.5, 1.0):
        level = top + height * (1 - part)
        pen.line([(left, level), (left + width, level)], fill=GRID)
        pen.text((left - 4, level), f"{low + part * spread:.2f}", fill=INK, font=font, anchor="rm")
    for curve, colour, thick in ((values, FAINT, 1), (smoothed(values, SMOOTHING), LINE, 2)):
        heights = top + height * (1 - np.clip((curve - low) / spread, 0, 1))
        points = list(zip(np.linspace(left, left + width, len(curve)).tolist(), heights.tolist(), strict=True))
        pen.line(points, fill=colour, width=thick)
    pen.text((left, top + height + 5), "step 1", fill=INK, font=font, anchor="la")
    pen.text((left + width, top + height + 5), str(len(losses)), fill=INK, font=font, anchor="ra")


if __name__ == "__main__":
    main()
