"""The composition root of the server extension: traits in, one lab out, routes and executors around it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.utils import url_path_join
from traitlets import Integer, Unicode

from simpletuner_lab._version import __version__
from simpletuner_lab.core.errors import LabError, StoreUnusable
from simpletuner_lab.core.grant import Grant
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.server.handlers import api_rules
from simpletuner_lab.server.rooms import SETTING, Rooms
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.exchange import StorageContext
from simpletuner_lab.server.storage.handlers import storage_routes
from simpletuner_lab.server.storage.objects import ObjectStore
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.home import VARIABLE, Home
from simpletuner_lab.services.lab import Lab, Surroundings

_STORAGE: Final = "api/cloud/storage"


class SimpleTunerLabApp(ExtensionApp):
    """Train diffusion models from this notebook server. Secrets are never traits: `--show-config` prints those."""

    name = "simpletuner_lab"
    extension_url = "/api/cloud/health"
    load_other_extensions = True

    home = Unicode("", config=True, help=f"Folder of all state; default: ${VARIABLE}, else ~/.simpletuner.")
    max_object_bytes = Integer(
        5 << 30, min=1 << 20, config=True, help="Largest single upload to the object endpoint, in bytes."
    )

    def initialize_settings(self) -> None:
        """Makes the rooms; the store opens after the port listens."""
        self.rooms = Rooms(__version__)
        self.lab: Lab | None = None
        self.lab_home = Home(Path(self.home).expanduser().resolve()) if self.home else Home.find(os.environ)
        self.settings[SETTING] = self.rooms

    def initialize_handlers(self) -> None:
        """Routes of people and of programs, both under the server's base URL."""
        self.handlers.extend(api_rules("/api/cloud"))  # Jupyter puts its base URL in front
        self.objects = ObjectStore(self.lab_home.outputs)
        context = StorageContext(
            objects=self.objects,
            resolve=self._resolve,
            disk=self.rooms.executors.disk,
            db=self.rooms.executors.db,
            clock=time.time,
            base_url=self.serverapp.base_url,
            max_object_bytes=self.max_object_bytes,
        )
        routes = storage_routes(context, url_path_join(self.serverapp.base_url, _STORAGE))
        self.serverapp.web_app.add_handlers(".*$", routes)  # by the raw path, however a client quotes the base URL

    def _resolve(self, access_key: str) -> tuple[Grant, Secret] | None:
        return self.rooms.wait().lab.grants.resolve(access_key)

    async def _start_jupyter_server_extension(self, _serverapp: Any) -> None:
        """Called by Jupyter once the port listens: opens the lab off the event loop and begins to watch."""
        self._opening = asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        try:
            self.lab = await self.rooms.run(self.rooms.executors.disk, self._open_lab)
        except (OSError, S3Error) as error:
            self.log.exception("simpletuner_lab cannot open %s", self.lab_home.root)
            hint = "mend what is named, or set SIMPLETUNER_HOME to another folder, and start again"
            self.rooms.failed(StoreUnusable(f"{self.lab_home.root} cannot be used: {error}", hint=hint))
            return
        except LabError as error:
            self.log.error(  # noqa: TRY400 - an answer for a person, not a fault with a trace
                "simpletuner_lab cannot open its store: %s (%s)", error.message, error.hint
            )
            self.rooms.failed(error)
            return
        self.lab.recorder.listen(self.rooms.bus.publish)
        self.rooms.opened(Front(self.lab))
        self.lab.watcher.start()

    def _open_lab(self) -> Lab:
        self.lab_home.prepare()
        self.objects.sweep(time.time())
        around = Surroundings(environment=dict(os.environ), endpoint=endpoint_of(self.serverapp))
        return Lab.open(self.lab_home.root, around)

    async def stop_extension(self) -> None:
        """Called on an orderly end. Nothing depends on it: a kill loses nothing either."""
        self._opening.cancel()
        if self.lab is not None:
            await self.rooms.run(self.rooms.executors.net, self.lab.close)
        self.rooms.executors.close()


def endpoint_of(serverapp: Any) -> Callable[[], str | None]:
    """URL at which a process on this machine reaches the object endpoint.

    None where it cannot be reached plainly (a Unix socket, a certificate that a local trainer would not trust):
    results then come home as plain files.
    """

    def url() -> str | None:
        if serverapp.certfile or serverapp.sock:
            return None
        host = serverapp.ip if serverapp.ip not in {"", "*", "0.0.0.0", "::", "localhost"} else "127.0.0.1"  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{serverapp.port}{unquote(url_path_join(serverapp.base_url, _STORAGE))}"

    return url
