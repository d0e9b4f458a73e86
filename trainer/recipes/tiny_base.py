"""Make the tiny diffusion base model and the captioned style sets from Noto emoji.

Fetch the pictures once: `npm pack emoji-datasource-google@16.0.0 && tar xzf *.tgz`, then run

    python tiny_base.py vae      --package package --work work
    python tiny_base.py denoiser --package package --work work
    python tiny_base.py export   --package package --work work --out assets/tiny_base
    python tiny_base.py styles   --package package --out assets/styles
    python tiny_base.py evaluate --package package --base assets/tiny_base --styles assets/styles --work work

Everything is seeded; results repeat exactly for the same thread and process count. `vae` and
`denoiser` resume from their checkpoint in --work.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.multiprocessing as mp
from diffusers import StableDiffusionPipeline
from peft.utils import get_peft_model_state_dict
from tiny_base_data import COLOURS, Library, ink, load_library, neon, over
from tiny_base_fit import Plan, Run, fit, join
from tiny_base_judge import (
    as_table,
    closeness,
    grid,
    psnr,
    read_holdout,
    read_training,
    recognised,
    reconstruct,
    sample,
    train_lora,
    write_rgb,
)
from tiny_base_models import (
    Autoencoding,
    Denoising,
    Lessons,
    TextToLatent,
    assemble,
    build_autoencoder,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    encode_lessons,
    standardise_latents,
    tokenizer_corpus,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import AutoencoderKL
    from torch import Tensor

VAE_PLAN = Plan(steps=6000, lr=2.5e-3, weight_decay=1e-4, warmup_steps=50, ema_decay=0.998, decay_share=0.3, seed=1)
VAE_BATCH = 16
DENOISER_PLAN = Plan(steps=7500, lr=1.5e-3, decay_share=0.2, seed=2, log_every=100, checkpoint_every=250)
DENOISER_BATCH = 64


def train_vae(rank: int, world: int, args: argparse.Namespace) -> None:
    """One rank of the autoencoder's training; rank 0 leaves vae.pt."""
    join(rank, world, args.work / "meet_vae")
    vae = build_autoencoder().to(memory_format=torch.channels_last)
    file = args.work / "vae.pt"
    run = Run(vae, replan(VAE_PLAN, args.steps), file)
    fit(run, Autoencoding(vae, load_library(args.package), VAE_BATCH // world), file, rank=rank, world=world)


def train_denoiser(rank: int, world: int, args: argparse.Namespace) -> None:
    """One rank of the denoiser's training; rank 0 leaves denoiser.pt."""
    join(rank, world, args.work / "meet_denoiser")
    tokenizer = build_tokenizer(tokenizer_corpus(load_library(args.package)))
    model = TextToLatent(build_unet().to(memory_format=torch.channels_last), build_text_encoder(tokenizer))
    lessons = Lessons(**torch.load(args.work / "lessons.pt", weights_only=True))
    file = args.work / "denoiser.pt"
    run = Run(model, replan(DENOISER_PLAN, args.steps), file)
    fit(run, Denoising(model, lessons, DENOISER_BATCH // world), file, rank=rank, world=world)


def prepare_lessons(args: argparse.Namespace) -> None:
    """Encode every variant of every learned picture once, about 80 CPU-seconds, into lessons.pt."""
    library = load_library(args.package)
    tokenizer = build_tokenizer(tokenizer_corpus(library))
    lessons = encode_lessons(trained_vae(args.package, args.work), tokenizer, library)
    torch.save(
        {field.name: getattr(lessons, field.name) for field in dataclasses.fields(lessons)}, args.work / "lessons.pt"
    )


def replan(plan: Plan, steps: int | None) -> Plan:
    """Shorten or lengthen the plan to `steps`, if given."""
    return plan if steps is None else dataclasses.replace(plan, steps=steps)


def trained_vae(package: Path, work: Path) -> AutoencoderKL:
    """Averaged weights of the autoencoder with standardised latents, ready to use."""
    vae = build_autoencoder()
    Run(vae, VAE_PLAN, work / "vae.pt").adopt_average()
    library = load_library(package)
    rgba = torch.stack([library.emoji[i].rgba for i in library.distinct])
    standardise_latents(vae.requires_grad_(False), rgba, torch.Generator().manual_seed(0))
    return vae.eval()


def assemble_from(package: Path, work: Path) -> StableDiffusionPipeline:
    """Pipeline of the averaged weights found in the work folder; untrained parts stay random."""
    torch.manual_seed(0)
    library = load_library(package)
    tokenizer = build_tokenizer(tokenizer_corpus(library))
    model = TextToLatent(build_unet(), build_text_encoder(tokenizer))
    Run(model, DENOISER_PLAN, work / "denoiser.pt").adopt_average()
    return assemble(trained_vae(package, work), model.unet.eval(), model.text_encoder.eval(), tokenizer)


STYLES: dict[str, Callable[[Tensor], Tensor]] = {"neon": neon, "ink": ink}
PALETTE = {"neon": 64, "ink": 16}
"""Colours per style picture: keeps the sets small, not visible at 64 px."""


def export(args: argparse.Namespace) -> None:
    """Write the pipeline folder in half precision, to be loaded in single precision.

    Without a word on it in the configuration, transformers would keep the text encoder in half
    precision where diffusers widens the other parts, and a plain `from_pretrained` would not run.
    """
    assemble_from(args.package, args.work).to(torch.float16).save_pretrained(args.out)
    config = args.out / "text_encoder" / "config.json"
    described = json.loads(config.read_text(encoding="utf-8")) | {"dtype": "float32"}
    config.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def write_styles(args: argparse.Namespace) -> None:
    """Write each style's training and held-out pictures with their captions."""
    library = load_library(args.package)
    train = spread(library.style_training, args.train)
    held = spread(library.style_holdout, args.holdout)
    for name, style in STYLES.items():
        write_style(args.out / name / "train", library, train, style, PALETTE[name], sidecars=True)
        write_style(args.out / name / "holdout", library, held, style, PALETTE[name], sidecars=False)


def spread(indices: tuple[int, ...], count: int) -> list[int]:
    """`count` evenly spaced entries."""
    return [indices[k * len(indices) // count] for k in range(count)]


def write_style(
    folder: Path,
    library: Library,
    indices: list[int],
    style: Callable[[Tensor], Tensor],
    colours: int,
    *,
    sidecars: bool,
) -> None:
    """Styled PNGs; captions as .txt beside each picture, or all in captions.json."""
    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for index in indices:
        entry = library.emoji[index]
        stem = re.sub(r"[^a-z0-9]+", "-", entry.caption.split(",")[0]).strip("-")
        write_rgb(style(entry.rgba[None])[0], folder / f"{stem}.png", colours=colours)
        captions[f"{stem}.png"] = entry.caption
        if sidecars:
            (folder / f"{stem}.txt").write_text(entry.caption + "\n", encoding="utf-8")
    if len(captions) != len(indices):
        raise ValueError("two pictures share a file name")
    if not sidecars:
        (folder / "captions.json").write_text(json.dumps(captions, indent=1) + "\n", encoding="utf-8")


def evaluate(args: argparse.Namespace) -> None:
    """Measure the autoencoder, the base and one LoRA per style; write results.json and grid.png."""
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    library = load_library(args.package)
    pipe = load(args.base)
    results: dict[str, object] = {"autoencoder_psnr_db": autoencoder_psnr(pipe, library)}
    results["base"] = base_accuracy(pipe, library)
    rows: list[Tensor] = []
    for name in STYLES:
        training, held = read_training(args.styles / name / "train"), read_holdout(args.styles / name / "holdout")
        pipe = load(args.base)
        before = sample(pipe, held.captions)
        trial = train_lora(pipe, training, rank=args.rank, steps=args.steps, lr=args.lr)
        after = sample(pipe, held.captions)
        # Not through diffusers' convert_state_dict_to_diffusers: that renames attention keys so that, next to
        # convolution keys, a reload drops them.
        pipe.save_lora_weights(args.work / f"lora_{name}", unet_lora_layers=get_peft_model_state_dict(pipe.unet))
        results[name] = {
            "trial": trial,
            "base": closeness(before, held.images),
            "lora": closeness(after, held.images),
            "ceiling": closeness(reconstruct(pipe, held.images), held.images),
        }
        shown = [k * len(held.captions) // 12 for k in range(12)]
        rows += [before[shown]] if not rows else []
        rows += [after[shown], held.images[shown]]
        print(name, as_table({name: results[name]}), flush=True)
    (args.work / "results.json").write_text(as_table(results), encoding="utf-8")
    grid(rows, args.work / "grid.png")


def load(base: Path) -> StableDiffusionPipeline:
    """Load the exported pipeline in single precision."""
    pipe = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def autoencoder_psnr(pipe: StableDiffusionPipeline, library: Library) -> dict[str, float]:
    """PSNR in dB on learned pictures, on pictures never seen, and on both styles of the held-out."""
    learned = torch.stack([library.emoji[i].rgba for i in library.learned])
    unseen = torch.stack([library.emoji[i].rgba for i in library.autoencoder_holdout])
    images = {
        "learned_on_white": over(learned, COLOURS["white"]),
        "learned_on_blue": over(learned, COLOURS["blue"]),
        "learned_neon": neon(learned),
        "learned_ink": ink(learned),
        "unseen_on_white": over(unseen, COLOURS["white"]),
        "unseen_neon": neon(unseen),
        "unseen_ink": ink(unseen),
    }
    return {name: round(psnr(reconstruct(pipe, shown), shown), 2) for name, shown in images.items()}


def base_accuracy(pipe: StableDiffusionPipeline, library: Library, count: int = 96) -> dict[str, float]:
    """Share of captions whose sample is nearest to the right one of all learned pictures."""
    positions = torch.tensor(spread(tuple(range(len(library.learned))), count))
    rgba = torch.stack([library.emoji[i].rgba for i in library.learned])
    captions = [library.emoji[library.learned[int(k)]].caption for k in positions]
    scores = {}
    for suffix, gallery in (
        ("", over(rgba, COLOURS["white"])),
        (", blue background", over(rgba, COLOURS["blue"])),
    ):
        drawn = sample(pipe, tuple(caption + suffix for caption in captions))
        scores["recognised" + suffix.replace(", ", "_").replace(" ", "_")] = round(
            recognised(drawn, positions, gallery), 3
        )
    return scores


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = {name: commands.add_parser(name) for name in ("vae", "denoiser", "export", "styles", "evaluate")}
    for name, command in made.items():
        command.add_argument("--package", type=Path, required=True, help="unpacked emoji-datasource-google")
        if name != "styles":
            command.add_argument("--work", type=Path, required=True, help="scratch folder, outside the repository")
        if name in {"export", "styles"}:
            command.add_argument("--out", type=Path, required=True)
        if name in {"vae", "denoiser"}:
            command.add_argument("--steps", type=int, help="length of the run; default: the recipe's")
            command.add_argument("--processes", type=int, default=2, help="ranks of one thread each; part of the seed")
    made["styles"].add_argument("--train", type=int, default=96)
    made["styles"].add_argument("--holdout", type=int, default=36)
    judged = made["evaluate"]
    judged.add_argument("--base", type=Path, required=True)
    judged.add_argument("--styles", type=Path, required=True)
    judged.add_argument("--rank", type=int, default=16)
    judged.add_argument("--steps", type=int, default=300)
    judged.add_argument("--lr", type=float, default=2e-3)
    judged.add_argument("--threads", type=int, default=1, help="one is cheapest: the networks are too small for more")
    return parser.parse_args(arguments)


def spawn(train: Callable[[int, int, argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Run a training on its ranks and wait for all of them."""
    args.work.mkdir(parents=True, exist_ok=True)
    (args.work / f"meet_{args.command}").unlink(missing_ok=True)
    mp.spawn(train, args=(args.processes, args), nprocs=args.processes)


def main() -> None:
    """Run one stage."""
    args = parse()
    if args.command == "vae":
        spawn(train_vae, args)
    elif args.command == "denoiser":
        if not (args.work / "lessons.pt").exists():
            prepare_lessons(args)
        spawn(train_denoiser, args)
    else:
        {"export": export, "styles": write_styles, "evaluate": evaluate}[args.command](args)


if __name__ == "__main__":
    main()
