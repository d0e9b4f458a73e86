"""A small, strict Hugging Face Hub on a free port of this machine, for tests of whatever uploads models there.

    with hub_emulator({"hf_write": Account(name="ann")}) as hub:
        api = HfApi(endpoint=hub.url, token="hf_write")

It speaks what `huggingface_hub` asks for model repositories: who a token is of, create and delete, preupload, large
files (whole or in parts), commits, trees, infos and downloads. Everything that is there and every request can be looked
at, and each route can be made to fail. Of the storage protocol Xet it knows nothing: set `HF_HUB_DISABLE_XET=1` before
`huggingface_hub` is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from tornado import web

from simpletuner_lab.testing.hub_handlers import ROUTES, TABLE
from simpletuner_lab.testing.hub_repositories import Account, Repositories
from simpletuner_lab.testing.hub_state import Fault, HubEmulator
from simpletuner_lab.testing.listening import HOST, listening

__all__ = ["ROUTES", "Account", "Fault", "HubEmulator", "hub_emulator"]

_MAX_BODY: Final = 1 << 30


@contextmanager
def hub_emulator(accounts: Mapping[str, Account], *, part_bytes: int = 64 << 20) -> Iterator[HubEmulator]:
    """Serves until the block ends.

    Args:
        accounts: who the tokens are of.
        part_bytes: large files over this size go in parts.
    """
    hub = HubEmulator(url="", holds=Repositories(accounts), part_bytes=part_bytes, routes=ROUTES)
    application = web.Application([(path, handler, {"hub": hub}) for path, handler in TABLE])
    with listening(application, max_body_bytes=_MAX_BODY) as port:
        hub.url = f"http://{HOST}:{port}"
        try:
            yield hub
        finally:
            for fault in hub.set_faults:
                fault.release()
