"""A notebook server with the extension, over a home of its own: for rehearsals and demonstrations.

with lab_server(folder, Home(folder / "home").prepare(), public=True) as lab:
    lab.plan(...)
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from simpletuner_lab.client import LabClient
from simpletuner_lab.core.errors import ServerUnreachable
from simpletuner_lab.services.home import DATABASE_URL, Home
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.listening import HOST

_START_S: Final = 60.0
_GOODBYE_S: Final = 20.0
_LAST_WORDS: Final = 1500


@contextmanager
def lab_server(
    folder: Path, home: Home, *, keys: Mapping[str, str] = MappingProxyType({}), public: bool = False
) -> Iterator[LabClient]:
    """Serves on this machine until the block ends; gives its owner's client.

    Args:
        folder: for what Jupyter writes, and `server.log`.
        home: of the lab.
        keys: variables of its environment beside those of this process; an empty one counts as none.
        public: with a second listener, on loopback too, at which runs elsewhere are told to call and to deliver.

    Raises:
        ServerUnreachable: it did not come up; the message has its last words.
    """
    own, port, token = folder / "jupyter", free_port(), secrets.token_urlsafe(24)
    own.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ, "HOME": str(own), "SIMPLETUNER_HOME": str(home.root), "JUPYTER_TOKEN": token, "IPYTHONDIR": str(own / "ipython"),
        "JUPYTER_CONFIG_DIR": str(own / "config"), "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"), DATABASE_URL: "", **keys,
    }  # fmt: skip
    command = [
        sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--ServerApp.ip={HOST}",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={own}",
        *(_second_listener() if public else ()),
    ]  # fmt: skip
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
    client = LabClient(f"http://{HOST}:{port}/", token)
    try:
        eventually(lambda: _answers(client, process, log), patience_s=_START_S)
        yield client
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _second_listener() -> tuple[str, str]:
    port = free_port()
    return f"--SimpleTunerLabApp.public_port={port}", f"--SimpleTunerLabApp.public_url=http://{HOST}:{port}"


def _answers(client: LabClient, process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        said = log.read_text("utf-8", errors="replace")[-_LAST_WORDS:]
        raise ServerUnreachable(f"the notebook server did not come up: {said}")
    try:
        client.consent()
    except ServerUnreachable:
        return False
    return True
