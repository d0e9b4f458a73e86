"""An emulated Replicate to stand in for the real one: with our trainer to run, one account, and what a lab has to be told.

    with replicate_stand() as stand:
        print(stand.directions)

`stcloud emulator` is this in a terminal. The scripted engine plays trainings in seconds; the engine `cog` trains for
good, as the image would at Replicate, in a real Cog server on this machine.
"""

from __future__ import annotations

import enum
import importlib.util
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import simpletuner_trainer
from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.testing.replicate_emulator import (
    MODELS,
    Account,
    CogEngine,
    Conduct,
    ReplicateEmulator,
    ScaledClock,
    cog_model,
    replicate_emulator,
)
from simpletuner_lab.testing.replicate_emulator.training_play import TRAINER, Training, trainer_model

OWNER: Final = "ann"
MOST_PORT: Final = 65535
_TOKEN: Final = re.compile(r"r8_[A-Za-z0-9_-]{3,125}")
_QUEUE_S: Final = 1.0
_BOOT_S: Final = 2.0
_GONE_S: Final = 10.0


class EngineName(enum.StrEnum):
    """What runs the models."""

    SCRIPTED = "scripted"
    COG = "cog"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """An emulator that runs, whom it knows, and what it runs."""

    emulator: ReplicateEmulator
    token: str
    engine: EngineName

    @property
    def settings(self) -> Mapping[str, str]:
        """What a lab's provider has to be set to."""
        return {"base_url": self.emulator.url, "image": TRAINER}

    @property
    def directions(self) -> str:
        """How a person points a lab at it, step by step, and back."""
        return _DIRECTIONS.format(
            engine=_ENGINES[self.engine], url=self.emulator.url, token=self.token, owner=OWNER, image=TRAINER
        )

    @property
    def document(self) -> dict[str, Any]:
        """The same for a script. `control_token` opens `/_emu/`, where everything can be looked at and made to fail."""
        return {
            "url": self.emulator.url, "token": self.token, "account": OWNER, "engine": self.engine.value,
            "settings": dict(self.settings), "control_token": self.emulator.control_token,
        }  # fmt: skip


@contextmanager
def replicate_stand(
    *,
    port: int = 0,
    token: str = "",
    engine: EngineName = EngineName.SCRIPTED,
    speed: float = 1.0,
    lasts_s: float = 20.0,
) -> Iterator[Stand]:
    """Serves on 127.0.0.1 until the block ends, and leaves nothing.

    Args:
        port: 0 for any that is free.
        token: of its one account; empty: one is made up.
        engine: what runs the models.
        speed: how fast the emulator's clock runs; a real training takes real time.
        lasts_s: what a scripted training takes on that clock.

    Raises:
        InvalidRequest: one of them cannot be, the port is taken, or Cog is not here.
    """
    _require(port, token, engine, speed, lasts_s)
    token = token or "r8_" + secrets.token_hex(18)
    with ExitStack() as stack:
        made = replicate_emulator(
            {token: Account(username=OWNER)}, clock=ScaledClock(speed), conduct=Conduct(queue_s=_QUEUE_S, boot_s=_BOOT_S),
            port=port, **_models(engine, lasts_s, stack),
        )  # fmt: skip
        try:
            emulator = stack.enter_context(made)
        except OSError as error:
            raise InvalidRequest(
                f"cannot listen at 127.0.0.1, port {port}: {error.strerror or error}", hint="choose another --port"
            ) from error
        yield Stand(emulator=emulator, token=token, engine=engine)


def _require(port: int, token: str, engine: EngineName, speed: float, lasts_s: float) -> None:
    if not 0 <= port <= MOST_PORT:
        raise InvalidRequest(f"--port is from 0 to {MOST_PORT}", hint="0 for any that is free")
    if token and not _TOKEN.fullmatch(token):
        raise InvalidRequest("a token is r8_ and 3 letters or digits at least", hint="leave it out: one is made up")
    if not 0 < speed < float("inf"):
        raise InvalidRequest("--speed is a number above 0", hint="10 plays a training in a tenth of its time")
    if not 0 < lasts_s < float("inf"):
        raise InvalidRequest("--lasts is a number of seconds above 0", hint="3000 is longer than one run may take")
    if engine is EngineName.COG and speed != 1:
        raise InvalidRequest("--speed is for the scripted engine", hint="a real training takes the time that it takes")


def _models(engine: EngineName, lasts_s: float, stack: ExitStack) -> dict[str, Any]:
    if engine is EngineName.SCRIPTED:
        return {"models": (*MODELS, trainer_model()), "plays": {TRAINER: Training(lasts_s=lasts_s)}}
    folder = Path(simpletuner_trainer.__file__).resolve().parent.parent
    if not (folder / "predict.py").is_file():
        raise InvalidRequest(
            f"the trainer's predict.py is not at {folder}",
            hint="the engine cog wants a checkout: pip install -e ./trainer",
        )
    if missing := [name for name in ("cog", "psutil") if importlib.util.find_spec(name) is None]:
        raise InvalidRequest(
            f"{' and '.join(missing)} not installed here",
            hint="pip install 'cog>=0.23.1,<0.24' psutil, or --engine scripted",
        )
    cog = CogEngine({TRAINER: folder})
    stack.callback(_clear, cog.scratch)
    return {"models": (*MODELS, cog_model(TRAINER, folder)), "engine": cog}


def _clear(scratch: Path) -> None:
    """Ends whatever still works below a folder, and removes it.

    A trainer outlives its server for a while, for a last checkpoint; here nobody waits for that.
    """
    import psutil

    below = f"{scratch}{os.sep}"
    found = [
        process for process in psutil.process_iter(["cmdline"])
        if any(word.startswith(below) for word in process.info["cmdline"] or ())
    ]  # fmt: skip
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(found, timeout=_GONE_S)
    shutil.rmtree(scratch, ignore_errors=True)


_ENGINES: Final = {EngineName.SCRIPTED: "plays trainings", EngineName.COG: "trains for good, in Cog"}

_DIRECTIONS: Final = """\
An emulated Replicate that {engine}, at {url} until Ctrl-C. No account, and nothing leaves this machine.

  token  {token}   (account {owner})
  image  {image}

1. A notebook server to which models come home, with a second listener:
     jupyter lab --SimpleTunerLabApp.public_port=8899 --SimpleTunerLabApp.public_url=http://127.0.0.1:8899
2. Point its lab here:
     stcloud provider replicate --set base_url={url} --set image={image}
     echo {token} | stcloud provider replicate --token
   (REPLICATE_API_TOKEN in the server's environment goes before the token that is kept.)
3. Train:
     stcloud submit config.json --provider replicate --wait
4. And back to the real one, once every job of this rehearsal has ended: one that has not stands still until base_url
   and token are set back to this address, and cannot be deleted:
     stcloud jobs
     stcloud provider replicate --set base_url=https://api.replicate.com --set image= --forget-token"""
