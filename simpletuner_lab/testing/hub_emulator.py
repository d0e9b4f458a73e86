"""A small, strict Hugging Face Hub on a free port of this machine, for tests of whatever uploads models there.

    with hub_emulator({"hf_write": Account(name="ann")}) as hub:
        api = HfApi(endpoint=hub.url, token="hf_write")

It speaks what `huggingface_hub` asks for model repositories: who a token is of, create and delete, preupload, large
files (whole or in parts), commits, trees, infos and downloads. Everything that is there and every request can be looked
at, and each route can be made to fail. Of the storage protocol Xet it knows nothing: set `HF_HUB_DISABLE_XET=1` before
`huggingface_hub` is imported.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final

from tornado import web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from simpletuner_lab.testing.hub_handlers import ROUTES, TABLE
from simpletuner_lab.testing.hub_repositories import Account, Repositories
from simpletuner_lab.testing.hub_state import Fault, HubEmulator

__all__ = ["ROUTES", "Account", "Fault", "HubEmulator", "hub_emulator"]

_HOST: Final = "127.0.0.1"
_PATIENCE_S: Final = 30
_MAX_BODY: Final = 1 << 30


@contextmanager
def hub_emulator(accounts: Mapping[str, Account], *, part_bytes: int = 64 << 20) -> Iterator[HubEmulator]:
    """Serves until the block ends.

    Args:
        accounts: who the tokens are of.
        part_bytes: large files over this size go in parts.
    """
    hub = HubEmulator(url="", holds=Repositories(accounts), part_bytes=part_bytes, routes=ROUTES)
    ready: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        server = HTTPServer(web.Application([(path, handler, {"hub": hub}) for path, handler in TABLE]),
                            max_body_size=_MAX_BODY)  # fmt: skip
        sockets = bind_sockets(0, _HOST)
        server.add_sockets(sockets)
        stop = asyncio.Event()
        ready.set_result((sockets[0].getsockname()[1], asyncio.get_running_loop(), stop))
        await stop.wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="hub-emulator", daemon=True)
    thread.start()
    port, loop, stop = ready.result(_PATIENCE_S)
    hub.url = f"http://{_HOST}:{port}"
    try:
        yield hub
    finally:
        for fault in hub.set_faults:
            fault.release()
        loop.call_soon_threadsafe(stop.set)
        thread.join(_PATIENCE_S)
