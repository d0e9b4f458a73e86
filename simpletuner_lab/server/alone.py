"""`stcloud storage serve`: the object endpoint alone, with the very same handlers, where no notebook server runs."""

from __future__ import annotations

import asyncio
import hmac
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tornado import web
from tornado.httpserver import HTTPServer

from simpletuner_lab.core.errors import InvalidRequest, StoreUnusable
from simpletuner_lab.core.grant import ALL_VERBS, ANY_BUCKET, Grant
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.server import processes
from simpletuner_lab.server.listener import BODY_S, IDLE_S, MAX_HEADER_BYTES, READ_BYTES, NowhereHandler, log_answer
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.exchange import StorageContext
from simpletuner_lab.server.storage.handlers import storage_routes
from simpletuner_lab.server.storage.objects import ObjectStore

LEAST_SECRET: Final = 16
MOST_PROCESSES: Final = 64
MOST_PORT: Final = 65535
_THREADS: Final = 8
_ACCESS_KEY: Final = re.compile(r"\w{3,128}", re.ASCII)
_BASE_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """What is served, where, and to whom."""

    root: Path
    host: str
    port: int
    base_path: str
    access_key: str
    secret_key: Secret
    certfile: Path | None = None
    keyfile: Path | None = None
    processes: int = 1

    def __post_init__(self) -> None:
        if not _ACCESS_KEY.fullmatch(self.access_key):
            raise InvalidRequest("an access key is 3 to 128 of A-Z, a-z, 0-9 and underscore")
        if len(self.secret_key.reveal()) < LEAST_SECRET or not self.secret_key.reveal().isprintable():
            raise InvalidRequest(
                f"a secret key has at least {LEAST_SECRET} characters, all of them printable",
                hint="python -c 'import secrets; print(secrets.token_urlsafe(30))' makes one",
            )
        if not _BASE_PATH.fullmatch(self.base_path) or {".", ".."} & set(self.base_path.split("/")):
            raise InvalidRequest(
                f"{self.base_path!r} is no base path", hint="such as /user/ann/api/cloud/storage, or none"
            )
        if self.keyfile is not None and self.certfile is None:
            raise InvalidRequest("--keyfile goes with --certfile")
        if not 0 <= self.port <= MOST_PORT:
            raise InvalidRequest(f"--port is from 0 to {MOST_PORT}", hint="0 for any that is free")
        if not 1 <= self.processes <= MOST_PROCESSES:
            raise InvalidRequest(f"--processes is from 1 to {MOST_PROCESSES}")


def serve(stand: Stand, tell: Callable[[str], None]) -> int:
    """Serves until a signal ends it; `tell` is given the URL once the port takes connections. The exit code.

    Raises:
        InvalidRequest: the port is taken, or the certificate cannot be read.
        StoreUnusable: the root cannot be used.
    """
    tls = _tls(stand)
    try:
        bound = processes.bind(stand.host, stand.port, stand.processes)
    except OSError as error:
        raise InvalidRequest(
            f"cannot listen at {stand.host}, port {stand.port}: {error.strerror or error}",
            hint="choose another --port or --host",
        ) from error
    try:
        stand.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        objects = ObjectStore(stand.root)
        objects.sweep(time.time())
    except (OSError, S3Error) as error:
        raise StoreUnusable(f"{stand.root} cannot be used: {error}", hint="choose another --root") from error
    scheme = "http" if tls is None else "https"
    host = f"[{stand.host}]" if ":" in stand.host else stand.host or "127.0.0.1"
    tell(f"{scheme}://{host}:{bound[0][0].getsockname()[1]}{stand.base_path}")
    if len(bound) > 1:
        return processes.run(bound, lambda sockets, ears: asyncio.run(_serve(stand, objects, tls, sockets, ears)))
    asyncio.run(_serve(stand, objects, tls, bound[0]))
    return 0


async def _serve(
    stand: Stand,
    objects: ObjectStore,
    tls: ssl.SSLContext | None,
    sockets: Sequence[socket.socket],
    ears: int | None = None,
) -> None:
    """Serves sockets until a signal comes, or until the pipe says that the parent is gone."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in processes.ENDS:
        loop.add_signal_handler(number, ended.set)
    if ears is not None:
        loop.add_reader(ears, ended.set)
    with ThreadPoolExecutor(_THREADS, "simpletuner-disk") as disk, ThreadPoolExecutor(1, "simpletuner-db") as db:
        context = StorageContext(
            objects=objects,
            resolve=lambda _: None,
            known=_known(stand),
            disk=disk,
            db=db,
            clock=time.time,
            base_url=stand.base_path,
        )
        application = web.Application(
            list[Any](storage_routes(context, stand.base_path)),
            default_handler_class=NowhereHandler,
            log_function=log_answer,
        )
        server = HTTPServer(
            application,
            ssl_options=tls,
            chunk_size=READ_BYTES,
            max_header_size=MAX_HEADER_BYTES,
            idle_connection_timeout=IDLE_S,
            body_timeout=BODY_S,
        )
        server.add_sockets(sockets)
        await ended.wait()
        if ears is not None:
            loop.remove_reader(ears)
        server.stop()
        await server.close_all_connections()


def _known(stand: Stand) -> Callable[[str], tuple[Grant, Secret] | None]:
    owner = Grant(id=stand.access_key, job_id=None, bucket=ANY_BUCKET, prefix="", verbs=ALL_VERBS, expires_at=None)

    def known(access_key: str) -> tuple[Grant, Secret] | None:
        same = hmac.compare_digest(access_key.encode(), stand.access_key.encode())
        return (owner, stand.secret_key) if same else None

    return known


def _tls(stand: Stand) -> ssl.SSLContext | None:
    if stand.certfile is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(stand.certfile, stand.keyfile)
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(
            f"the certificate cannot be read: {error}", hint="PEM files, the chain in --certfile"
        ) from error
    return context
