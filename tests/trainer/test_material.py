"""What a step is fed with: flips and weighted sets, exact with caches on, and made ahead of the step that needs it."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from simpletuner_trainer.ahead import Ahead
from simpletuner_trainer.buckets import Aim, fit, measure
from simpletuner_trainer.data import open_image
from simpletuner_trainer.errors import BadData
from simpletuner_trainer.models import open_family
from simpletuner_trainer.report import Exit
from simpletuner_trainer.schedule import Batches, Mixture, caption_choices, flips
from tests.trainer.test_optim import training_of
from tests.trainer.trainer_kit import Job, make_pictures, material_of, sha256

Jobs = Callable[..., Job]
CPU = torch.device("cpu")
WEIGHTS = "pytorch_lora_weights.safetensors"


# ---------------------------------------------------------------------------------------------------------------- flips


def test_flips_are_one_in_two_and_of_the_micro_batch_alone() -> None:
    drawn = [flip for micro in range(500) for flip in flips(3, micro, 4)]
    assert 0.46 < sum(drawn) / len(drawn) < 0.54
    assert flips(3, 7, 4) == flips(3, 7, 4)
    assert (
        len({tuple(flips(3, 7, 20)), tuple(flips(4, 7, 20)), tuple(flips(3, 8, 20)), tuple(flips(3, 7, 20, rank=1))})
        == 4
    )


@pytest.mark.parametrize("crop", [{}, {"crop": True, "crop_style": "random"}], ids=["bucket", "crop"])
def test_a_batch_with_caches_is_the_batch_without(job: Jobs, crop: dict[str, object]) -> None:
    """Bit for bit: each image read from its file, mirrored where this micro-batch has it so, and encoded again."""
    made = job(dataset={**crop, "random_flip": True})
    material, family = material_of(made), open_family("sd", made.base, device=CPU)
    config, seen = material.config, Counter()
    for micro in range(6):
        batch, chosen = material.micro_batch(micro), material.batches.at(micro)
        mirrored = flips(config.seed, micro, len(chosen))
        captions = caption_choices(config.seed, micro, [2] * len(chosen), config.caption_dropout_probability)
        for row, (index, flip, caption) in enumerate(zip(chosen, mirrored, captions, strict=True)):
            view = material.views[index][0]
            image = open_image(view.picture.path, view.fit)
            image = ImageOps.mirror(image) if flip else image
            pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 127.5 - 1.0).permute(2, 0, 1)
            assert torch.equal(batch.moments[row], family.encode_image(pixels))
            said = "" if caption is None else view.picture.captions[caption]
            assert torch.equal(batch.prompts[row], family.encode_prompt(said))
            seen[flip] += 1
    assert min(seen[True], seen[False]) > 3


def test_the_place_of_a_mirrored_view_is_where_its_pixels_lie_in_the_mirrored_image(job: Jobs) -> None:
    material = material_of(job(dataset={"crop": True, "crop_style": "random", "random_flip": True}))
    aside = 0
    for plain, mirrored in material.views:
        whole = Image.open(plain.picture.path).convert("RGB").resize(plain.fit.scaled, Image.Resampling.LANCZOS)
        for view, image in ((plain, whole), (mirrored, ImageOps.mirror(whole))):
            height, width, top, left, cut_height, cut_width = view.place
            assert (width, height) == view.picture.size
            cut = (
                np.asarray(image.crop((left, top, left + cut_width, top + cut_height)), dtype=np.float32) / 127.5 - 1.0
            )
            assert torch.equal(view.pixels(), torch.from_numpy(cut).permute(2, 0, 1))
        aside += plain.place[3] != mirrored.place[3]
    assert aside, "some cut is not in the middle"


def test_only_sets_that_ask_are_flipped(job: Jobs) -> None:
    assert {len(views) for views in material_of(job()).views} == {1}


# -------------------------------------------------------------------------------------------------------- weighted sets


def mixture(*shares: float) -> Mixture:
    sets = [
        Batches(buckets=[[0, 1, 2, 3, 4, 5], [6, 7]], batch_size=2, seed=1),
        Batches(buckets=[[10, 11, 12, 13, 14, 15, 16, 17]], batch_size=2, seed=2),
        Batches(buckets=[[20, 21]], batch_size=2, seed=3),
    ]
    return Mixture(sets=sets[: len(shares)], shares=shares, seed=5)


@pytest.mark.parametrize(
    ("shares", "quotas"),
    [((1, 1), [4, 4]), ((3, 1), [6, 2]), ((0.3, 0.1), [6, 2]), ((1, 2), [3, 5]), ((1e-9, 1), [1, 7]), ((1, 1, 1), [3, 3, 3]),
     ((1, 0.001, 0.001), [7, 1, 1]), ((5,), [4])],
)  # fmt: skip
def test_each_set_has_its_share_of_every_epoch(shares: tuple[float, ...], quotas: list[int]) -> None:
    mixed = mixture(*shares)
    assert mixed.quotas() == quotas
    assert sum(quotas) == mixed.per_epoch
    for epoch in range(3):
        batches = [mixed.at(epoch * mixed.per_epoch + place) for place in range(mixed.per_epoch)]
        assert all(len({index // 10 for index in batch}) == 1 for batch in batches), "no batch mixes two sets"
        drawn = Counter(batch[0] // 10 for batch in batches)
        assert [drawn[number] for number in range(len(shares))] == quotas


def test_a_weighted_set_goes_through_all_its_images_before_any_again() -> None:
    mixed = mixture(3, 1)
    order = [mixed.at(micro) for micro in range(64)]
    assert [mixture(3, 1).at(micro) for micro in (63, 0, 17)] == [order[63], order[0], order[17]], "no state is carried"
    large = [index for batch in order for index in batch if index >= 10]
    for start in range(0, len(large), 8):
        assert sorted(large[start : start + 8]) == list(range(10, 18))
    assert order[:8] != order[8:16]


def test_a_run_with_weighted_sets_flips_and_epochs(job: Jobs) -> None:
    """Two sets, 3 to 1: the same twice, also when it was stopped in between; a whole epoch has every step."""
    names = []
    for name, steps in (("whole", 0), ("parts", 1)):
        made = job(name, config={"max_train_steps": 0, "num_train_epochs": 1, "checkpoint_step_interval": 0})
        spec = json.loads(made.write().read_text("utf-8"))
        make_pictures(made.folder / "more", 3)
        first = {**spec["dataloader"][0], "probability": 3, "random_flip": True}
        more = {
            "id": "more",
            "instance_data_dir": "more",
            "probability": "1",
            "repeats": 1,
            "caption_strategy": "filename",
        }
        made.more["dataloader"] = [first, more]
        if steps:
            assert made.run_until(steps, lambda: os.kill(os.getpid(), signal.SIGTERM)) == Exit.INTERRUPTED
        assert made.run() == Exit.DONE
        names.append(sha256(made.output / WEIGHTS))
        assert made.metrics()[-1]["step"] == 5, "3 micro-batches of one set and 2 of the other"
    assert names[0] == names[1]


# ---------------------------------------------------------------------------------------------------------------- sizes


def test_a_large_image_is_scaled_down_before_it_is_cut() -> None:
    aim = Aim(resolution=64, resolution_type="pixel", multiple=16, aspects=(1.0,), downsample=(200, 100))
    assert fit((150, 300), aim, (0, 0)).scaled == (64, 128), "not larger than the bound: as small as covers"
    placed = fit((400, 800), aim, (0, 0))
    assert (placed.scaled, placed.size, placed.corner) == ((100, 200), (64, 64), (18, 68))
    by_area = Aim(resolution=0.01, resolution_type="area", multiple=4, aspects=(1.0,), downsample=(0.16, 0.04))
    assert fit((500, 500), by_area, (0, 0)).scaled == (200, 200)
    by_square = Aim(resolution=100, resolution_type="pixel_area", multiple=4, aspects=(1.0,), downsample=(400, 50))
    assert fit((500, 500), by_square, (0, 0)).scaled == (100, 100), "the bucket is covered whatever the target"
    assert measure((200, 50), "pixel_area") == 100


def test_random_aspects_come_from_the_list_and_are_of_the_image(job: Jobs) -> None:
    aspects = {"crop": True, "crop_aspect": "random", "crop_aspect_buckets": [0.5, 1, 2]}
    found = [view.fit.size for (view,) in material_of(job(dataset=aspects)).views]
    assert set(found) <= {(24, 48), (32, 32), (48, 24)}
    assert len(set(found)) > 1
    assert found == [view.fit.size for (view,) in material_of(job("again", dataset=aspects)).views]
    nearest = material_of(job("nearest", dataset={**aspects, "crop_aspect": "closest"})).views
    assert {view.fit.size for (view,) in nearest} <= {(32, 32), (48, 24)}


# ---------------------------------------------------------------------------------------------------------------- ahead


def test_members_come_in_order_and_no_more_are_made_than_asked_for() -> None:
    made: list[int] = []
    begun = threading.Barrier(2, timeout=10)

    def make(number: int) -> str:
        made.append(number)
        if number == 2:
            begun.wait()
        return f"{number} in {threading.current_thread().name[:5]}"

    with Ahead(make, end=4) as ahead:
        assert ahead.take(0) == "0 in MainT"
        begun.wait()  # 2 is being made, though nobody asked for it
        assert [ahead.take(number) for number in (1, 2, 3)] == ["1 in ahead", "2 in ahead", "3 in ahead"]
        assert sorted(made) == [0, 1, 2, 3]
        assert ahead.take(0) == "0 in MainT", "out of turn it is made here"
    with Ahead(make, end=9, stride=3, begin=lambda: made.append(-1)) as ahead:
        assert [ahead.take(number) for number in (0, 3, 6)][1:] == ["3 in ahead", "6 in ahead"]
        assert made.count(-1) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_what_goes_wrong_ahead_is_raised_where_it_is_needed() -> None:
    def make(number: int) -> int:
        if number == 1:
            raise BadData("the second is broken", "replace it")
        return number

    with pytest.raises(BadData, match="the second is broken"), Ahead(make, end=3) as ahead:
        assert ahead.take(0) == 0
        ahead.take(1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_a_run_that_works_ahead_is_the_run_that_does_not(job: Jobs) -> None:
    config = {"max_train_steps": 4, "gradient_accumulation_steps": 2, "lora_dropout": 0.2, "use_ema": True}
    made = job(config=config, dataset={"random_flip": True})
    assert made.run() == Exit.DONE
    training = training_of(job("direct", config=config, dataset={"random_flip": True}))
    points = [training.train_step(step) for step in range(4)]
    assert [(point.loss, point.grad_norm) for point in points] == [
        (line["loss"], line["grad_norm"]) for line in made.metrics()
    ]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
