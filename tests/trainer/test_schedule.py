"""What happens at which step: pure functions of (seed, step, rank)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from simpletuner_trainer.buckets import Aim, bucket_size, fit
from simpletuner_trainer.schedule import Batches, caption_choices, learning_rate, noise, quantiles, seed_of
from simpletuner_trainer.spec import TrainConfig
from simpletuner_trainer.weights import write_safetensors


def rates(total: int = 10, **config: Any) -> list[float]:
    made = TrainConfig(pretrained_model_name_or_path="x", max_train_steps=total, learning_rate=1.0, **config)
    return [round(learning_rate(made, step, total), 4) for step in range(total)]


def test_learning_rates() -> None:
    assert rates(4, lr_scheduler="constant", lr_warmup_steps=0) == [1, 1, 1, 1]
    assert rates(4, lr_scheduler="constant_with_warmup", lr_warmup_steps=2) == [0.5, 1, 1, 1]
    assert rates(5, lr_scheduler="linear", lr_warmup_steps=1) == [1, 1, 0.75, 0.5, 0.25]
    assert rates(4, lr_scheduler="cosine") == [1, 0.8536, 0.5, 0.1464]
    assert rates(8, lr_scheduler="cosine_with_restarts", lr_num_cycles=2) == [1, 0.8536, 0.5, 0.1464] * 2


def test_an_epoch_has_every_picture_as_often_as_it_should() -> None:
    batches = Batches(buckets=[[0, 1, 2, 3, 4], [5, 5, 6, 6]], batch_size=2, seed=3)
    assert batches.per_epoch == 5
    epochs = [[batches.at(epoch * 5 + place) for place in range(5)] for epoch in range(3)]
    for epoch in epochs:
        assert Counter(index for batch in epoch for index in batch) == {0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2}
        assert all(set(batch) <= {0, 1, 2, 3, 4} or set(batch) <= {5, 6} for batch in epoch)
    assert epochs[0] != epochs[1]
    assert Batches(buckets=[[0, 1, 2, 3, 4], [5, 5, 6, 6]], batch_size=2, seed=3).at(12) == epochs[2][2]


def test_draws_depend_on_every_counter_and_nothing_else() -> None:
    assert seed_of(1, "a", 2) == seed_of(1, "a", 2)
    assert (
        len({seed_of(1, "a", 2), seed_of(2, "a", 1), seed_of(1, "a", 12), seed_of(1, "b", 2), seed_of(11, "a", 2)}) == 5
    )
    first = noise(1, "noise", 3, (2, 2))
    torch.rand(7)
    assert torch.equal(first, noise(1, "noise", 3, (2, 2)))
    assert not torch.equal(first, noise(1, "posterior", 3, (2, 2)))
    assert not torch.equal(first, noise(1, "noise", 3, (2, 2), rank=1))


def test_quantiles_are_spread_evenly_over_a_batch() -> None:
    drawn = torch.stack([quantiles(0, micro, 8) for micro in range(500)])
    assert sorted(int(one * 8) for one in drawn[0]) == list(range(8)), "one from every eighth"
    assert 0 <= drawn.min() < 0.001
    assert 0.999 < drawn.max() <= 1
    each = drawn.mean(dim=0)
    assert torch.allclose(each, torch.full((8,), 0.5, dtype=torch.float64), atol=0.06), "each place is uniform"


def test_captions_are_chosen_and_dropped_as_often_as_asked() -> None:
    drawn = [choice for micro in range(500) for choice in caption_choices(0, micro, [3, 1], 0.25)]
    assert 0.21 < drawn.count(None) / len(drawn) < 0.29
    assert {choice for choice in drawn if choice is not None} == {0, 1, 2}
    assert None not in caption_choices(0, 0, [1] * 100, 0.0)
    assert set(caption_choices(0, 0, [1] * 100, 1.0)) == {None}


def aim(**parts: Any) -> Aim:
    return Aim(**{"resolution": 512.0, "resolution_type": "pixel_area", "multiple": 64, **parts})


@pytest.mark.parametrize(
    ("image", "parts", "size"),
    [
        ((512, 512), {}, (512, 512)),
        ((1000, 1000), {"resolution": 64.0, "multiple": 16}, (64, 64)),
        ((1920, 1080), {}, (704, 384)),
        ((1080, 1920), {}, (384, 704)),
        ((1920, 1080), {"aspects": (1.0,)}, (512, 512)),
        ((1920, 1080), {"aspects": (0.75, 1.0, 1.5)}, (640, 448)),
        ((1080, 1920), {"aspects": (0.75, 1.0, 1.5)}, (448, 576)),
        ((1920, 1080), {"resolution_type": "pixel"}, (896, 512)),
        ((1080, 1920), {"resolution_type": "pixel"}, (512, 896)),
        ((1000, 1000), {"resolution": 0.25, "resolution_type": "area"}, (512, 512)),
        ((10_000, 10), {}, (16192, 64)),
    ],
)
def test_bucket_sizes(image: tuple[int, int], parts: dict[str, Any], size: tuple[int, int]) -> None:
    assert bucket_size(image, aim(**parts)) == size


@given(
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)), st.booleans(), st.booleans(),
    st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
)  # fmt: skip
def test_a_fit_always_covers_its_bucket(
    image: tuple[int, int], square: bool, random_crop: bool, draw: tuple[float, float]
) -> None:
    placed = fit(
        image, aim(aspects=(1.0,) if square else (), random_crop=random_crop, multiple=16, resolution=64.0), draw
    )
    for axis in (0, 1):
        assert placed.size[axis] % 16 == 0
        assert 0 <= placed.corner[axis] <= placed.scaled[axis] - placed.size[axis]
    assert placed.scaled[0] == placed.size[0] or placed.scaled[1] == placed.size[1], "no more than needed is cut"


def test_safetensors_are_read_by_the_library_and_always_the_same_bytes(tmp_path: Path) -> None:
    tensors = {
        "b": torch.arange(6, dtype=torch.float32).reshape(2, 3).t(),
        "a/x": torch.tensor(3.0),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "empty": torch.empty(0, 4),
        "flag": torch.tensor([True, False]),
    }
    metadata = dict.fromkeys("zyxwvu", "x")
    write_safetensors(tmp_path / "one", tensors, metadata)
    write_safetensors(tmp_path / "two", dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    read = load_file(tmp_path / "one")
    assert set(read) == set(tensors)
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    with safe_open(tmp_path / "one", "pt") as opened:
        assert opened.metadata() == metadata
