"""The endpoint in a process of its own, to be killed, measured and started again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services.grants import Credentials

SERVE = """
import json, os, signal, sys
from pathlib import Path
from simpletuner_lab.testing.storage_server import storage_server
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.setxattr", "os.truncate", "os.utime",
         "os.listdir", "os.scandir", "fcntl.flock"}
left = int(sys.argv[2])
armed = False
def step(event, arguments):
    global left
    if armed and event in STEPS:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
if left:
    sys.addaudithook(step)
with storage_server(Path(sys.argv[1])) as server:
    keys = server.owner
    armed = True
    print(json.dumps([server.endpoint_url, keys.access_key, keys.secret_key.reveal()]), flush=True)
    sys.stdin.read()
"""


class Elsewhere:
    """A server in a process of its own, with the attributes the clients of the kit need."""

    def __init__(self, root: Path, *, dies_at: int = 0) -> None:
        """`dies_at`: kills itself before so many steps were done on the disk; 0 for never."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(root), str(dies_at)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.endpoint_url, access_key, secret = json.loads(self.process.stdout.readline())
        self.owner = Credentials(access_key=access_key, secret_key=Secret(secret))

    def peak_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024

    def end(self, *, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        self.process.communicate()


@contextmanager
def elsewhere(root: Path):
    server = Elsewhere(root)
    try:
        yield server
    finally:
        server.end()
