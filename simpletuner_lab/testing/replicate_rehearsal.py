"""A lab and a Replicate of one's own, on this machine and for a while: to try a provider elsewhere without an account.

    with replicate_rehearsal() as stage:
        stage.lab.setup.change("replicate", stage.replicate.settings)
        stage.lab.setup.set_token("replicate", Secret(stage.replicate.token))

The lab is a real notebook server whose second listener takes webhooks and models from the emulator. It knows nothing of
the emulator before it is told.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simpletuner_lab.client import LabClient
from simpletuner_lab.services.home import Home
from simpletuner_lab.testing.lab_server import lab_server
from simpletuner_lab.testing.replicate_stand import Stand, replicate_stand

_BOOT_S: Final = 2.0
_TRAINING_S: Final = 5.0
"""Both of a wall clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicateRehearsal:
    """What is there: `lab` answers like any other, `replicate` is where it can send trainings."""

    lab: LabClient
    home: Home
    replicate: Stand


@contextmanager
def replicate_rehearsal(*, speed: float = 8.0) -> Iterator[ReplicateRehearsal]:
    """Everything up, until the block ends.

    Args:
        speed: how fast the time of this Replicate runs: a training of a minute is played in so much less.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        stand = stack.enter_context(replicate_stand(speed=speed, lasts_s=_TRAINING_S * speed))
        stand.emulator.conduct.boot_s = _BOOT_S * speed
        home = Home(folder / "home").prepare()
        lab = stack.enter_context(lab_server(folder, home, keys={"REPLICATE_API_TOKEN": ""}, public=True))
        yield ReplicateRehearsal(lab=lab, home=home, replicate=stand)
