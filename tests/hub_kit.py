"""What tests of delivery share: an emulated Hub with a few people, and a storage server to kill and start again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simpletuner_lab.testing.hub_emulator import Account, HubEmulator, hub_emulator

TOKEN = "hf_" + "PlantedTokenOfAnn" * 2
READ_TOKEN = "hf_" + "PlantedReadToken00" * 2
SECRET_KEY = "PlantedSecretKey/" + "k" * 23


@contextmanager
def hub_of_ann(**options: int) -> Iterator[HubEmulator]:
    """ann may write, bob has a repository that she cannot see."""
    accounts = {
        TOKEN: Account(name="ann", organizations=("studio",)),
        READ_TOKEN: Account(name="ann", role="read"),
        "hf_bob": Account(name="bob"),
    }
    with hub_emulator(accounts, **options) as running:
        running.holds.create("taken", None, accounts["hf_bob"], private=True)
        yield running


class StorageProcess:
    """The object endpoint in a process of its own, always at the same port."""

    def __init__(self, root: Path, port: int = 0) -> None:
        self._root = root
        self.port = port
        self.url = self.access_key = self.secret_key = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub_kit", str(self._root), str(self.port)],
            stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        self.url, self.access_key, self.secret_key = said["url"], said["access_key"], said["secret_key"]
        self.port = int(self.url.rpartition(":")[2].partition("/")[0])

    def kill(self) -> None:
        """As a machine that loses power does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None


def _serve(root: Path, port: int) -> None:
    from simpletuner_lab.testing.storage_server import storage_server

    with storage_server(root, port=port) as server:
        owner = server.owner
        said = {"url": server.endpoint_url, "access_key": owner.access_key, "secret_key": owner.secret_key.reveal()}
        print(json.dumps(said), flush=True)
        sys.stdin.read()  # until whoever started it is gone


if __name__ == "__main__":
    signal.alarm(120)
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
    os._exit(0)
