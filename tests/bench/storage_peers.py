"""The servers of bench_storage, each a process of its own with an empty folder of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from simpletuner_lab.testing import eventually

ACCESS_KEY: Final = "BENCHMARKACCESSKEY01"
SECRET_KEY: Final = "benchmark-secret-of-forty-characters-0123"
BUCKET: Final = "bench-bucket"
_ROOT: Final = Path(__file__).parents[2]
_NGINX: Final = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}
http {{ access_log off; sendfile on; client_max_body_size 0; client_body_temp_path {folder}/temp;
  keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{port}; root {folder}/data; dav_methods PUT DELETE; create_full_put_path on; }} }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A running server."""

    name: str
    url: str
    process: psutil.Process
    speaks_s3: bool = True
    """nginx stores and sends files, and verifies nothing."""
    small_alone: bool = False
    """The bare floor of tornado keeps a whole object in memory."""
    by_boto3_alone: bool = False
    """moto's development server does not answer plain sockets."""

    def cpu_s(self) -> float:
        """CPU seconds of the process and its children so far."""
        times = [one.cpu_times() for one in self._all()]
        return sum(time.user + time.system for time in times)

    def memory_mib(self) -> float:
        """Peak resident memory of the largest of its processes."""
        return max(_peak_kib(one.pid) for one in self._all()) / 1024

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def peers(folder: Path, stack: ExitStack) -> Iterator[Peer]:
    """Starts everyone who is there: ourselves first."""
    port = free_port()
    command = [sys.executable, "-m", "simpletuner_lab", "storage", "serve", "--root", str(folder / "lab"), "--host",
               "127.0.0.1", "--port", str(port), "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]  # fmt: skip
    yield _started("lab", command, port, stack)
    yield from _nginx(folder / "nginx", stack)
    port = free_port()
    bare = [sys.executable, str(_ROOT / "tests" / "bench" / "bare_tornado.py"), str(port), str(folder / "bare")]
    yield replace(_started("tornado", bare, port, stack), speaks_s3=False, small_alone=True)
    for name, command in _from_venv(folder):
        if Path(command[0]).exists():
            port = free_port()
            started = _started(name, [text.replace("PORT", str(port)) for text in command], port, stack)
            yield replace(started, by_boto3_alone=name == "moto")
        else:
            print(f"{name} is not here: make .venv-bench/.stamp")


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _from_venv(folder: Path) -> list[tuple[str, list[str]]]:
    programs = _ROOT / ".venv-bench" / "bin"
    data = folder / "rclone"
    data.mkdir()
    rclone = [str(programs / "rclone"), "serve", "s3", "--addr", "127.0.0.1:PORT", "--auth-key",
              f"{ACCESS_KEY},{SECRET_KEY}", str(data)]  # fmt: skip
    return [("rclone", rclone), ("moto", [str(programs / "moto_server"), "-H", "127.0.0.1", "-p", "PORT"])]


def _nginx(folder: Path, stack: ExitStack) -> Iterator[Peer]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        print("nginx is not here: apt-get install nginx-light")
        return
    (folder / "data" / BUCKET).mkdir(parents=True)
    folder.chmod(0o755)
    port = free_port()
    config = folder / "nginx.conf"
    user = "user root;" if Path.home() == Path("/root") else ""
    config.write_text(user + _NGINX.format(folder=folder, port=port))
    peer = _started("nginx", [program, "-c", str(config)], port, stack)
    yield replace(peer, speaks_s3=False)


def _started(name: str, command: list[str], port: int, stack: ExitStack) -> Peer:
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    stack.callback(process.terminate)
    eventually(lambda: _listens(port))
    return Peer(name=name, url=f"http://127.0.0.1:{port}", process=psutil.Process(process.pid))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _peak_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return psutil.Process(pid).memory_info().rss // 1024
    return next((int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")), 0)
