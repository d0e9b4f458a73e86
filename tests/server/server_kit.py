"""A real notebook server in a process of its own, under any base URL, that can be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import httpx

from simpletuner_lab.client import LabClient
from simpletuner_lab.services.queue_views import ConcurrencyChange
from simpletuner_lab.testing import eventually

TOKEN = "test-token"


class Server:
    """`start`, `kill`, `stop`; the port stays the same over restarts."""

    def __init__(
        self,
        folder: Path,
        home: Path,
        base: str = "/",
        *options: str,
        app: str = "jupyter_server",
        ours: bool = True,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`app` is the module to run; without `ours` the extension is off; `environment` is beside this process's."""
        self.home = home
        self.folder = folder
        self.base = base
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{base}"
        self.options = options if ours else (*options, "--ServerApp.jpserver_extensions={'simpletuner_lab': False}")
        self.ours = ours
        self.app = app
        self.environment = environment
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: list[LabClient] = []

    def start(self) -> Server:
        """Returns once the lab answers."""
        own = self.folder / "jupyter"
        environment = os.environ | {
            "HOME": str(own), "SIMPLETUNER_HOME": str(self.home), "JUPYTER_CONFIG_DIR": str(own / "config"),
            "JUPYTER_DATA_DIR": str(own / "data"), "JUPYTER_RUNTIME_DIR": str(own / "runtime"), "IPYTHONDIR": str(own / "ipython"),
            "JUPYTER_TOKEN": TOKEN, **self.environment,
        }  # fmt: skip
        own.mkdir(parents=True, exist_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.app, "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
                 f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.base_url={self.base}",
                 f"--ServerApp.root_dir={own}", "--ServerApp.allow_unauthenticated_access=False", *self.options],
                env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        eventually(self._answers, patience_s=60)
        return self

    def client(self) -> LabClient:
        """The REST client of its owner."""
        made = LabClient(self.url, TOKEN)
        self._clients.append(made)
        return made

    def http(self, *, token: str = TOKEN) -> httpx.Client:
        """A bare HTTP client below `api/cloud`."""
        headers = {"Authorization": f"token {token}"} if token else {}
        return httpx.Client(base_url=self.url + "api/cloud", headers=headers, timeout=30)

    def slots(self, number: int) -> Server:
        """So many jobs at once on this machine."""
        change = ConcurrencyChange(local_job_max_concurrent=number, user_max_concurrent=number)
        self.client().queue.set_concurrency(change)
        return self

    def kill(self) -> None:
        """SIGKILL, as a crash of the machine's memory would."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """An orderly end."""
        for client in self._clients:
            client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log(self) -> str:
        """What it printed."""
        return (self.folder / "server.log").read_text(errors="replace")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            with self.http() as http:
                if not self.ours:
                    return http.get(f"{self.url}api/status", timeout=5).is_success
                return http.get("/health", timeout=5).json()["status"] in {"healthy", "degraded", "unhealthy"}
        except httpx.HTTPError:
            return False


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
