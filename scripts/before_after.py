"""Paints held-out captions with the base and with a delivered LoRA, measures both, and draws the picture."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")

import torch  # noqa: E402
from diffusers import StableDiffusionPipeline  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "trainer/recipes"))

from tiny_base_judge import closeness, read_holdout, sample  # noqa: E402

BASE = REPOSITORY / "trainer/simpletuner_trainer/assets/tiny_base"
ZOOM, GAP, LABEL = 2, 4, 96


def main() -> None:
    """Prints one JSON line: the measures of both rows against the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("outputs", type=Path, help="folder with pytorch_lora_weights.safetensors")
    parser.add_argument("holdout", type=Path, help="pictures and captions.json that training never saw")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--shown", type=int, default=12)
    args = parser.parse_args()

    held_out = read_holdout(args.holdout)
    pipe = StableDiffusionPipeline.from_pretrained(BASE, safety_checker=None, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    before = sample(pipe, held_out.captions)
    pipe.load_lora_weights(str(args.outputs), weight_name="pytorch_lora_weights.safetensors")
    after = sample(pipe, held_out.captions)

    base, lora = closeness(before, held_out.images), closeness(after, held_out.images)
    chosen = torch.linspace(0, len(held_out.captions) - 1, args.shown).round().long()
    draw([("base", before[chosen]), ("with LoRA", after[chosen]), ("target", held_out.images[chosen])], args.picture)
    measures = {
        "mean-colour distance to the target": [base.mean_colour, lora.mean_colour, "below 15 is the bar"],
        "edge-strength distance to the target": [base.edge_strength, lora.edge_strength, "lower is nearer"],
    }
    print(json.dumps({"captions": len(held_out.captions), "measures": measures}))


def draw(rows: list[tuple[str, torch.Tensor]], file: Path) -> None:
    """Rows of N x 3 x H x W pictures in [0, 1], each with its label on the left."""
    side = rows[0][1].shape[-1] * ZOOM
    count = len(rows[0][1])
    sheet = Image.new("RGB", (LABEL + count * (side + GAP), len(rows) * (side + GAP) - GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for row, (label, images) in enumerate(rows):
        top = row * (side + GAP)
        pen.text((LABEL - 8, top + side // 2), label, fill="black", font=font, anchor="rm")
        for column, image in enumerate(images):
            pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            tile = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(tile, (LABEL + column * (side + GAP), top))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file, optimize=True)


if __name__ == "__main__":
    main()
