"""Validation images: the same prompts and seed at every interval, so that one sees what training does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from simpletuner_trainer.files import sha256_of, writing
from simpletuner_trainer.material import EMPTY_PROMPT, Material
from simpletuner_trainer.models import Family, Request
from simpletuner_trainer.report import Image, StageName

if TYPE_CHECKING:
    import torch

    from simpletuner_trainer.reporter import Reporter
    from simpletuner_trainer.spec import TrainConfig
    from simpletuner_trainer.stop import Stop
    from simpletuner_trainer.workdir import WorkDir

_KEY: Final = "simpletuner"
"""Text chunk of the PNG that says how it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Painter:
    """Paints what `validation_*` asks for."""

    config: TrainConfig
    family: Family
    material: Material
    work: WorkDir
    say: Reporter
    stop: Stop
    training: str
    """`checkpoint.Fingerprint.training`: a picture of another training is painted anew."""

    def due(self, step: int, total: int) -> bool:
        """Before the first step, at every interval, and after the last."""
        interval = self.config.validation_step_interval
        at_interval = interval > 0 and step % interval == 0
        return bool(self.config.validation_prompt) and (step in (0, total) or at_interval)

    def paint(self, denoiser: torch.nn.Module, step: int) -> tuple[Image, ...]:
        """One PNG a prompt under `work.samples`, those from before an interruption as they are.

        `Stopped` between two of them when it is time to end: the rest is painted when the run goes on.
        """
        requests = self._requests()
        names = [f"samples/step-{step:08d}-{index}.png" for index in range(len(requests))]
        recipes = [self._recipe(step, prompt, request) for prompt, request in
                   zip(self.config.validation_prompt, requests, strict=True)]  # fmt: skip
        todo = [index for index, name in enumerate(names) if _recipe_of(self.work.output / name) != recipes[index]]
        painted = self.family.paint(denoiser, [requests[index] for index in todo])
        for done, index in enumerate(todo):
            self.stop.check()
            self.say.stage(StageName.VALIDATE, f"painting validation images at step {step}", done, len(todo))
            with writing(names[index], step):
                _save(next(painted), self.work.output / names[index], recipes[index])
        return tuple(
            Image(step=step, index=index, prompt=prompt, key=name, sha256=sha256_of(self.work.output / name))
            for index, (prompt, name) in enumerate(zip(self.config.validation_prompt, names, strict=True))
        )

    def _requests(self) -> Sequence[Request]:
        config = self.config
        return [
            Request(
                prompt=self.material.prompt(prompt),
                negative=self.material.prompt(EMPTY_PROMPT),
                size=config.validation_resolution or self.material.size,
                steps=config.validation_num_inference_steps,
                guidance=config.validation_guidance,
                seed=config.seed if config.validation_seed is None else config.validation_seed,
            )
            for prompt in config.validation_prompt
        ]

    def _recipe(self, step: int, prompt: str, request: Request) -> str:
        recipe = {"prompt": prompt, "step": step, "seed": request.seed, "steps": request.steps}
        recipe |= {"guidance": request.guidance, "width": request.size[0], "height": request.size[1]}
        return json.dumps(recipe | {"training": self.training})


def _save(image: Pillow.Image, path: Path, recipe: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    written = PngInfo()
    written.add_itxt(_KEY, recipe)
    image.save(partial, format="PNG", pnginfo=written)
    partial.replace(path)


def _recipe_of(path: Path) -> str | None:
    """How a PNG was made; None where there is none, or it is torn."""
    try:
        with Pillow.open(path) as opened:
            opened.load()
            return str(opened.info.get(_KEY))
    except (OSError, SyntaxError):
        return None
