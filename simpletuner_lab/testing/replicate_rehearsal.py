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

_BOOT_S: Final = 1.5
"""Long enough to see why a job waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicateRehearsal:
    """What is there: `lab` answers like any other, `replicate` is where it can send trainings."""

    lab: LabClient
    home: Home
    replicate: Stand


@contextmanager
def replicate_rehearsal(*, training_s: float = 6.0) -> Iterator[ReplicateRehearsal]:
    """Everything up, until the block ends. A training is played in so many seconds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        stand = stack.enter_context(replicate_stand(lasts_s=training_s))
        stand.emulator.conduct.boot_s = _BOOT_S
        home = Home(folder / "home").prepare()
        lab = stack.enter_context(lab_server(folder, home, keys={"REPLICATE_API_TOKEN": ""}, public=True))
        yield ReplicateRehearsal(lab=lab, home=home, replicate=stand)
