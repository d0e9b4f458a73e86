"""What a step is fed with: the pictures of an inventory as cached latents and prompts, batch by batch."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import ImageOps

from simpletuner_trainer import data
from simpletuner_trainer.base import Edges
from simpletuner_trainer.buckets import Aim, Fit, Size, aim_of, aspect_pick, fit
from simpletuner_trainer.cache import TensorCache, key_of
from simpletuner_trainer.cachedir import CacheDir, Lease
from simpletuner_trainer.data import Inventory, Picture
from simpletuner_trainer.models import Family
from simpletuner_trainer.report import StageName
from simpletuner_trainer.schedule import Batches, Mixture, caption_choices, flips, generator, seed_of

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
class View:
    """One way a picture is seen."""

    picture: Picture
    fit: Fit
    mirrored: bool
    """Left for right, after it was scaled and cut."""
    key: str
    """Of its moments in the cache."""

    @property
    def place(self) -> tuple[int, ...]:
        """`models.Noised.places`: of a mirrored view, where the cut lies in the mirrored image."""
        (width, height), (cut_width, cut_height) = self.picture.size, self.fit.size
        left, top = self.fit.mirrored_corner if self.mirrored else self.fit.corner
        return height, width, top, left, cut_height, cut_width

    def pixels(self) -> torch.Tensor:
        """[3, H, W] in -1..1, from the image file."""
        image = data.open_image(self.picture.path, self.fit)
        if self.mirrored:
            image = ImageOps.mirror(image)
        values = np.asarray(image, dtype=np.float32) / 127.5 - 1.0
        return torch.from_numpy(values).permute(2, 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The cached data set, and which of it a micro-batch has."""

    batches: Batches | Mixture
    views: tuple[tuple[View, ...], ...]
    """By picture: as it is, and mirrored where its data set asks for flips."""
    caption_keys: tuple[tuple[str, ...], ...]
    """By picture and caption."""
    empty_key: str
    latents: TensorCache
    texts: TensorCache
    lease: Lease
    """Keeps what is needed in the cache while this lives."""
    config: TrainConfig
    size: Size
    """Of the bucket that most pictures are in."""
    text_key: Callable[[str], str]

    @property
    def largest(self) -> tuple[int, ...]:
        """Pictures of a micro-batch with as many pixels as any has, whatever the seed."""
        sets = self.batches.sets if isinstance(self.batches, Mixture) else (self.batches,)
        full = [tuple(bucket[: one.batch_size]) for one in sets for bucket in one.buckets]
        return max(full, key=lambda chosen: len(chosen) * math.prod(self.views[chosen[0]][0].fit.size))

    def micro_batch(self, micro: int, chosen: Sequence[int] = ()) -> MicroBatch:
        """Micro-batch `micro`, counted from the start of the run, or the pictures `chosen` with its draws."""
        chosen = chosen or self.batches.at(micro)
        mirrored = flips(self.config.seed, micro, len(chosen))
        seen = [
            self.views[index][flip and len(self.views[index]) > 1] for index, flip in zip(chosen, mirrored, strict=True)
        ]
        counts = [len(self.caption_keys[index]) for index in chosen]
        captions = caption_choices(self.config.seed, micro, counts, self.config.caption_dropout_probability)
        prompts = [
            self.empty_key if caption is None else self.caption_keys[index][caption]
            for index, caption in zip(chosen, captions, strict=True)
        ]
        return MicroBatch(
            moments=torch.stack([self.latents.get(view.key) for view in seen]),
            prompts=torch.stack([self.texts.get(key) for key in prompts]),
            places=torch.tensor([view.place for view in seen], dtype=torch.int64),
        )

    def prompt(self, text: str) -> torch.Tensor:
        """Embeddings [rows, width] of a prompt that was cached."""
        return self.texts.get(self.text_key(text))


def prepare(
    spec: TrainSpec, stock: Inventory, family: Family, work: WorkDir, *, numerics: str, say: Reporter, stop: Stop,
    team: Team,
) -> Material:  # fmt: skip
    """Fill both caches with what is missing, each process its share of it, and lay out the batches.

    `numerics` names what rounding depends on (`cache.numerics_of`): a value made otherwise is another value.
    """
    config = spec.config
    edges = Edges(multiple=family.edge_multiple, native=family.native_edge)
    aims = {dataset.id: aim_of(dataset, config, edges) for dataset in spec.datasets}
    flipping = {dataset.id for dataset in spec.datasets if dataset.random_flip}
    fits = [_fit(picture, aims[picture.dataset], config.seed) for picture in stock.pictures]
    made_by = (family.identity, numerics)
    views = [
        tuple(
            _view(picture, placed, made_by, mirrored=flip)
            for flip in (False, True)[: 1 + (picture.dataset in flipping)]
        )
        for picture, placed in zip(stock.pictures, fits, strict=True)
    ]

    def text_key(text: str) -> str:
        return key_of("text/1", *made_by, text)

    captions = [caption for picture in stock.pictures for caption in picture.captions]
    wanted = {text_key(text): text for text in (EMPTY_PROMPT, *config.validation_prompt, *captions)}
    seen = [view for of_one in views for view in of_one]
    place = CacheDir.find(os.environ, instead=work.cache, tell=say.text)
    lease = place.lease({*wanted, *(view.key for view in seen)})
    latents, texts = TensorCache(place.root / "latents"), TensorCache(place.root / "texts")
    with team.apart():
        _fill_latents(team.share(seen), family, latents, say, stop)
        _fill_texts(dict(team.share(list(wanted.items()))), family, texts, say, stop)
    if team.leads:
        place.trim()
    family.release_encoders()
    times = {dataset.id: dataset.repeats + 1 for dataset in spec.datasets}
    sizes: Counter[Size] = Counter()
    for picture, placed in zip(stock.pictures, fits, strict=True):
        sizes[placed.size] += times[picture.dataset]
    return Material(
        batches=_batches(spec, stock.pictures, fits),
        views=tuple(views),
        caption_keys=tuple(tuple(map(text_key, picture.captions)) for picture in stock.pictures),
        empty_key=text_key(EMPTY_PROMPT),
        latents=latents,
        texts=texts,
        lease=lease,
        config=config,
        size=max(sorted(sizes), key=sizes.__getitem__),
        text_key=text_key,
    )


def _view(picture: Picture, placed: Fit, made_by: tuple[str, ...], *, mirrored: bool) -> View:
    how = [asdict(placed), "mirrored"] if mirrored else [asdict(placed)]
    key = key_of("moments/1", *made_by, picture.sha256, *how)
    return View(picture=picture, fit=placed, mirrored=mirrored, key=key)


def _fit(picture: Picture, aim: Aim, seed: int) -> Fit:
    """A random crop is drawn once an image, from its content, so that it can be cached; so is a random aspect."""
    content = int(picture.sha256[:15], 16)
    across, down = torch.rand(2, generator=generator(seed, "crop", content)).tolist()
    return fit(picture.size, aim, (across, down), aspect_pick(seed, picture.sha256))


def _batches(spec: TrainSpec, pictures: Sequence[Picture], fits: Sequence[Fit]) -> Batches | Mixture:
    """All sets together, or each with its share where they have a `probability`."""
    config = spec.config
    if all(dataset.probability is None for dataset in spec.datasets):
        buckets = _buckets(spec.datasets, pictures, fits)
        return Batches(buckets=buckets, batch_size=config.train_batch_size, seed=config.seed)
    found = [(dataset, _buckets([dataset], pictures, fits)) for dataset in spec.datasets]
    sets = [
        Batches(buckets=buckets, batch_size=config.train_batch_size, seed=seed_of(config.seed, "set", number))
        for number, (_, buckets) in enumerate(found)
    ]
    return Mixture(sets=sets, shares=[dataset.probability or 0.0 for dataset, _ in found], seed=config.seed)


def _buckets(datasets: Sequence[DatasetConfig], pictures: Sequence[Picture], fits: Sequence[Fit]) -> list[list[int]]:
    """Indices of these sets' pictures by size, each as often as it is to be seen in an epoch; sizes in a fixed order."""
    times = {dataset.id: dataset.repeats + 1 for dataset in datasets}
    by_size: defaultdict[Size, list[int]] = defaultdict(list)
    for index, (picture, placed) in enumerate(zip(pictures, fits, strict=True)):
        if picture.dataset in times:
            by_size[placed.size] += [index] * times[picture.dataset]
    return [indices for _, indices in sorted(by_size.items())]


def _fill_latents(wanted: Sequence[View], family: Family, cache: TensorCache, say: Reporter, stop: Stop) -> None:
    missing = {view.key: view for view in wanted if not cache.has(view.key)}
    pictures = {view.picture.sha256: view.picture for view in missing.values()}
    faults = []
    for done, picture in enumerate(pictures.values()):
        stop.check()
        say.stage(StageName.LOAD_DATA, "checking that every image can be read", done, len(pictures))
        faults.append(data.fault_of(picture))
    if broken := [fault for fault in faults if fault]:
        raise data.broken_images(broken)
    for done, view in enumerate(missing.values()):
        stop.check()
        say.stage(StageName.CACHE, "encoding images", done, len(missing))
        cache.put(view.key, family.encode_image(view.pixels()))


def _fill_texts(wanted: Mapping[str, str], family: Family, cache: TensorCache, say: Reporter, stop: Stop) -> None:
    missing = {key: text for key, text in wanted.items() if not cache.has(key)}
    for done, (key, text) in enumerate(missing.items()):
        stop.check()
        say.stage(StageName.CACHE, "encoding captions", done, len(missing))
        cache.put(key, family.encode_prompt(text))
