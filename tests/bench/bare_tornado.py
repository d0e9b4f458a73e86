"""The floor of bench_storage: tornado as we use it, without signatures, checksums, records, conditions or syncs.

    python tests/bench/bare_tornado.py PORT FOLDER

A body is gathered and written on an executor; a file is read there and sent in one piece.
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tornado import web

_FOLDER = Path()
_THREADS = ThreadPoolExecutor(8)


@web.stream_request_body
class File(web.RequestHandler):
    """One file, by its path."""

    def prepare(self) -> None:
        self.body = bytearray()

    def data_received(self, chunk: bytes) -> None:
        self.body += chunk

    def compute_etag(self) -> None:
        """None, as ours."""

    async def get(self, name: str) -> None:
        """Reads it on a thread."""
        self.write(await asyncio.get_running_loop().run_in_executor(_THREADS, (_FOLDER / name).read_bytes))

    async def put(self, name: str) -> None:
        """Writes it on a thread."""
        await asyncio.get_running_loop().run_in_executor(_THREADS, _store, _FOLDER / name, self.body)


def _store(path: Path, body: bytearray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    draft.write_bytes(body)
    os.replace(draft, path)


async def main() -> None:
    application = web.Application([(r"/(.*)", File)], log_function=lambda _: None)
    application.listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    _FOLDER = Path(sys.argv[2])
    asyncio.run(main())
