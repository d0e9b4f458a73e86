"""A real HTTP proxy on a port of this machine: it forwards plain requests and tunnels those with TLS."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

HOST = "127.0.0.1"
BLOCK = 1 << 16


@dataclass(slots=True, kw_only=True)
class Proxy:
    """`forwarded` has the first line of every request that came through."""

    url: str
    forwarded: list[str] = field(default_factory=list)


@contextmanager
def proxying(*, refusing: int = 0) -> Iterator[Proxy]:
    """Serves until the block ends; with `refusing`, that status is its only answer."""
    with socket.create_server((HOST, 0)) as server:
        proxy = Proxy(url=f"http://{HOST}:{server.getsockname()[1]}")

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    threading.Thread(target=_serve, args=(client, proxy, refusing), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _serve(client: socket.socket, proxy: Proxy, refusing: int) -> None:
    """One connection, one request: the next one opens another."""
    with client, suppress(OSError, ValueError):
        head, _, rest = _until_blank(client).partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        proxy.forwarded.append(lines[0])
        method, target, _ = lines[0].split(" ")
        if refusing:
            client.sendall(f"HTTP/1.1 {refusing} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return
        tunnel = method == "CONNECT"
        place = urlsplit(f"//{target}" if tunnel else target)
        try:
            upstream = socket.create_connection((place.hostname, place.port or 80), timeout=10)
        except OSError:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        with upstream:
            if tunnel:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = place.path + (f"?{place.query}" if place.query else "")
                kept = [line for line in lines[1:] if not line.lower().startswith(("connection:", "proxy-"))]
                upstream.sendall(
                    "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode()
                )
            upstream.sendall(rest)
            back = threading.Thread(target=_pump, args=(upstream, client), daemon=True)
            back.start()
            _pump(client, upstream)
            back.join(10)


def _until_blank(client: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        block = client.recv(BLOCK)
        if not block:
            raise ValueError("the connection ended within a head")
        got += block
    return got


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(BLOCK):
            sink.sendall(block)
        sink.shutdown(socket.SHUT_WR)
