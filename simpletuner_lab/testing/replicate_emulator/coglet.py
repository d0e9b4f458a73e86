"""A real Cog server as a process: it runs the model of a folder on a free port of this machine, without Docker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simpletuner_lab.testing.listening import HOST

_PREDICTOR: Final = "predict.py:Predictor"
_SECRET_WORDS: Final = ("TOKEN", "SECRET", "PASSWORD", "API_KEY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coglet:
    """A server that was started. It is ready once GET `url`/health-check says READY."""

    process: subprocess.Popen[bytes]
    url: str

    @classmethod
    def start(
        cls, folder: Path, scratch: Path, *, webhook_token: str = "", upload_url: str | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Coglet:  # fmt: skip
        """Starts a server for the model in `folder`.

        Args:
            folder: has `predict.py` and `.cog/openapi_schema.json`.
            scratch: a folder for its home, its temporary files, and its own log, `server.log`.
            webhook_token: is sent with each webhook, as `Authorization: Bearer`.
            upload_url: where files go that the model makes; without it they are in the output as `data:`.
            environment: what its own is made from; whatever sounds like a secret is left out.
        """
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        for name in ("home", "tmp"):
            (scratch / name).mkdir(parents=True, exist_ok=True)
        given = {k: v for k, v in environment.items() if not any(word in k.upper() for word in _SECRET_WORDS)}
        own = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), given.get("PATH", os.defpath)]),  # the worker is `python`
            "HOME": str(scratch / "home"), "TMPDIR": str(scratch / "tmp"), "PORT": str(port),
            "COG_PREDICT_TYPE_STUB": _PREDICTOR, "WEBHOOK_AUTH_TOKEN": webhook_token, "NO_PROXY": HOST, "no_proxy": HOST,
            "COG_THROTTLE_RESPONSE_INTERVAL": "0",  # else it keeps a line until the next one comes
        }  # fmt: skip
        command = [sys.executable, "-m", "cog.server.http", "--host", HOST]
        if upload_url is not None:
            command += ["--upload-url", upload_url]
        with (scratch / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=folder, env={**given, **own}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        return cls(process=process, url=f"http://{HOST}:{port}")

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """SIGTERM ends the server, as when its machine is taken away; SIGKILL its worker, as when memory runs out."""
        if number is signal.SIGTERM:
            self.process.terminate()
            return
        import psutil

        with suppress(psutil.NoSuchProcess):
            for worker in psutil.Process(self.process.pid).children():
                worker.send_signal(number)

    def kill(self) -> None:
        """Ends the server and its worker at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
