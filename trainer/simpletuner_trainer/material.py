"""What a step is fed with: the pictures of an inventory as cached latents and prompts, batch by batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from simpletuner_trainer import data
from simpletuner_trainer.buckets import Aim, Fit, Size, fit
from simpletuner_trainer.cache import TensorCache, key_of
from simpletuner_trainer.data import Inventory, Picture
from simpletuner_trainer.models import Family
from simpletuner_trainer.report import StageName
from simpletuner_trainer.schedule import Batches, caption_choices, generator

if TYPE_CHECKING:
    from simpletuner_trainer.reporter import Reporter
    from simpletuner_trainer.spec import DatasetConfig, TrainConfig, TrainSpec
    from simpletuner_trainer.stop import Stop
    from simpletuner_trainer.team import Team
    from simpletuner_trainer.workdir import WorkDir

EMPTY_PROMPT = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """n images of one size, on the CPU."""

    moments: torch.Tensor
    """[n, 2 * channels, h, w]."""
    prompts: torch.Tensor
    """[n, rows, width]."""
    places: torch.Tensor
    """int64 [n, 6]: `models.Noised.places`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The cached data set, and which of it a micro-batch has."""

    batches: Batches
    latent_keys: tuple[str, ...]
    """By picture."""
    places: tuple[tuple[int, ...], ...]
    """By picture: `models.Noised.places`."""
    caption_keys: tuple[tuple[str, ...], ...]
    """By picture and caption."""
    empty_key: str
    latents: TensorCache
    texts: TensorCache
    config: TrainConfig
    size: Size
    """Of the bucket that most pictures are in."""
    text_key: Callable[[str], str]

    def micro_batch(self, micro: int) -> MicroBatch:
        """Micro-batch `micro`, counted from the start of the run."""
        chosen = self.batches.at(micro)
        counts = [len(self.caption_keys[index]) for index in chosen]
        captions = caption_choices(self.config.seed, micro, counts, self.config.caption_dropout_probability)
        prompts = [
            self.empty_key if caption is None else self.caption_keys[index][caption]
            for index, caption in zip(chosen, captions, strict=True)
        ]
        return MicroBatch(
            moments=torch.stack([self.latents.get(self.latent_keys[index]) for index in chosen]),
            prompts=torch.stack([self.texts.get(key) for key in prompts]),
            places=torch.tensor([self.places[index] for index in chosen], dtype=torch.int64),
        )

    def prompt(self, text: str) -> torch.Tensor:
        """Embeddings [rows, width] of a prompt that was cached."""
        return self.texts.get(self.text_key(text))


def prepare(
    spec: TrainSpec, stock: Inventory, family: Family, work: WorkDir, *, numerics: str, say: Reporter, stop: Stop,
    team: Team,
) -> Material:  # fmt: skip
    """Fill both caches with what is missing, each process its share of it, and lay out the batches.

    `numerics` names what rounding depends on (device, threads): a value made otherwise is another value.
    """
    config = spec.config
    latents, texts = TensorCache(work.cache / "latents"), TensorCache(work.cache / "texts")
    aims = {dataset.id: _aim(dataset, config, family) for dataset in spec.datasets}
    fits = [_fit(picture, aims[picture.dataset], config.seed) for picture in stock.pictures]
    latent_keys = [
        key_of("moments/1", family.identity, numerics, picture.sha256, asdict(placed))
        for picture, placed in zip(stock.pictures, fits, strict=True)
    ]

    def text_key(text: str) -> str:
        return key_of("text/1", family.identity, numerics, text)

    pictures = list(zip(stock.pictures, fits, latent_keys, strict=True))
    captions = [caption for picture in stock.pictures for caption in picture.captions]
    wanted = {text_key(text): text for text in (EMPTY_PROMPT, *config.validation_prompt, *captions)}
    with team.apart():
        _fill_latents(team.share(pictures), family, latents, say, stop)
        _fill_texts(dict(team.share(list(wanted.items()))), family, texts, say, stop)
    family.release_encoders()
    repeats = {dataset.id: dataset.repeats + 1 for dataset in spec.datasets}
    buckets = _buckets(stock.pictures, fits, repeats)
    return Material(
        batches=Batches(buckets=list(buckets.values()), batch_size=config.train_batch_size, seed=config.seed),
        latent_keys=tuple(latent_keys),
        places=tuple(_place(picture, placed) for picture, placed in zip(stock.pictures, fits, strict=True)),
        caption_keys=tuple(tuple(map(text_key, picture.captions)) for picture in stock.pictures),
        empty_key=text_key(EMPTY_PROMPT),
        latents=latents,
        texts=texts,
        config=config,
        size=max(buckets, key=lambda size: len(buckets[size])),
        text_key=text_key,
    )


def _place(picture: Picture, placed: Fit) -> tuple[int, ...]:
    (width, height), (left, top), (cut_width, cut_height) = picture.size, placed.corner, placed.size
    return height, width, top, left, cut_height, cut_width


def _aim(dataset: DatasetConfig, config: TrainConfig, family: Family) -> Aim:
    resolution, resolution_type = config.resolution, config.resolution_type
    if dataset.resolution is not None:
        resolution, resolution_type = dataset.resolution, dataset.resolution_type or config.resolution_type
    if resolution is None:
        resolution, resolution_type = float(family.native_edge), "pixel_area"
    return Aim(
        resolution=resolution,
        resolution_type=resolution_type,
        multiple=family.edge_multiple,
        square=dataset.crop and dataset.crop_aspect == "square",
        random_crop=dataset.crop and dataset.crop_style == "random",
    )


def _fit(picture: Picture, aim: Aim, seed: int) -> Fit:
    """A random crop is drawn once an image, from its content, so that it can be cached."""
    source = generator(seed, "crop", int(picture.sha256[:15], 16))
    across, down = torch.rand(2, generator=source).tolist()
    return fit(picture.size, aim, (across, down))


def _buckets(pictures: Sequence[Picture], fits: Sequence[Fit], repeats: Mapping[str, int]) -> dict[Size, list[int]]:
    """Indices of pictures by size, each as often as it is to be seen in an epoch; sizes in a fixed order."""
    by_size: defaultdict[Size, list[int]] = defaultdict(list)
    for index, (picture, placed) in enumerate(zip(pictures, fits, strict=True)):
        by_size[placed.size] += [index] * repeats[picture.dataset]
    return dict(sorted(by_size.items()))


def _fill_latents(
    wanted: Sequence[tuple[Picture, Fit, str]], family: Family, cache: TensorCache, say: Reporter, stop: Stop
) -> None:
    missing = {key: (picture, placed) for picture, placed, key in wanted if not cache.has(key)}
    faults = []
    for done, (picture, _) in enumerate(missing.values()):
        stop.check()
        say.stage(StageName.LOAD_DATA, "checking that every image can be read", done, len(missing))
        faults.append(data.fault_of(picture))
    if broken := [fault for fault in faults if fault]:
        raise data.broken_images(broken)
    for done, (key, (picture, placed)) in enumerate(missing.items()):
        stop.check()
        say.stage(StageName.CACHE, "encoding images", done, len(missing))
        pixels = np.asarray(data.open_image(picture.path, placed), dtype=np.float32) / 127.5 - 1.0
        cache.put(key, family.encode_image(torch.from_numpy(pixels).permute(2, 0, 1)))


def _fill_texts(wanted: Mapping[str, str], family: Family, cache: TensorCache, say: Reporter, stop: Stop) -> None:
    missing = {key: text for key, text in wanted.items() if not cache.has(key)}
    for done, (key, text) in enumerate(missing.items()):
        stop.check()
        say.stage(StageName.CACHE, "encoding captions", done, len(missing))
        cache.put(key, family.encode_prompt(text))
