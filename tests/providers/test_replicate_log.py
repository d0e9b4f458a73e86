"""What the published model's log says of its progress."""

from __future__ import annotations

import pytest

from simpletuner_lab.core.provider import LogProgress
from simpletuner_lab.providers._replicate_log import progress_of


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("", None),
        ("loading the base\nready\n", None),
        ("Epoch 1/2 ... Step 12 of 400\n", LogProgress(step=12, total_steps=400)),
        ("Step 12/400\nvalidating\n", LogProgress(step=12, total_steps=400)),
        (
            "Steps:   3%|▎  | 12/400 [00:12<06:28,  1.00s/it, step_loss=0.125, lr=1e-4]",
            LogProgress(step=12, total_steps=400, loss=0.125, lr=1e-4),
        ),
        (
            "  3%|▎ | 11/400 [00:11<06:29, loss=0.2]\r  3%|▎ | 12/400 [00:12<06:28, loss=0.1, lr=.0001]",
            LogProgress(step=12, total_steps=400, loss=0.1, lr=1e-4),
        ),
        ("step 5 of 10, loss: 1.5e-2\nCaching latents:  50%|██ | 4/8 [00:01<00:01]\n", LogProgress(step=5, total_steps=10, loss=0.015)),
        ("Downloading: 100%|███| 7/7 [00:01<00:00]\n", None),
        ("step 11 of 10\n", None),
        ("step 3 of 10, loss: nan\n", LogProgress(step=3, total_steps=10)),
        ("first step of 3 things\n", None),
    ],
)  # fmt: skip
def test_the_newest_step_that_it_speaks_of(log: str, expected: LogProgress | None) -> None:
    assert progress_of(log) == expected


def test_a_long_log_costs_no_time() -> None:
    assert progress_of("x" * 5_000_000 + "\nstep 1 of 2\n") == LogProgress(step=1, total_steps=2)
    assert progress_of("step 1 of 2\n" + "9" * 100_000) is None
