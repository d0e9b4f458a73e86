"""A real nginx on loopback, with a configuration of the test's own, or one taken from the documents."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simpletuner_lab.testing import eventually

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
CADDY = shutil.which("caddy")

needs_nginx = pytest.mark.skipif(
    NGINX is None and not os.environ.get("CI_REQUIRE_ALL"), reason="there is no nginx here"
)
needs_caddy = pytest.mark.skipif(
    CADDY is None and not os.environ.get("CI_REQUIRE_ALL"), reason="there is no caddy here"
)

_FRAME = """
daemon off;
worker_processes 1;
error_log stderr;
pid {folder}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""


@contextmanager
def nginx(folder: Path, servers: str, port: int) -> Iterator[None]:
    """Runs nginx with these server blocks until the block ends; `port` is one that they listen at."""
    assert NGINX is not None, "CI must have nginx"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    user = "user root;\n" if os.getuid() == 0 else ""
    config.write_text(user + _FRAME.format(folder=folder, servers=servers))
    with _running([NGINX, "-p", str(folder), "-c", str(config), "-e", "stderr"], folder / "nginx.log", port):
        yield


@contextmanager
def caddy(folder: Path, text: str, port: int) -> Iterator[None]:
    """Runs Caddy with this Caddyfile until the block ends."""
    assert CADDY is not None, "CI must have caddy"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Caddyfile").write_text(text)
    command = [CADDY, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    own = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with _running(command, folder / "caddy.log", port, own):
        yield


@contextmanager
def _running(command: list[str], log: Path, port: int, environment: dict[str, str] | None = None) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        eventually(lambda: _takes(process, port, log), patience_s=30)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _takes(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text(errors="replace")
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
