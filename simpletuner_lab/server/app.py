"""The composition root of the server extension: traits in, one lab out, routes and executors around it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import Integer, Unicode

from simpletuner_lab._version import __version__
from simpletuner_lab.core.errors import LabError, StoreUnusable
from simpletuner_lab.server.announcer import JOB_EVENT, JOB_SCHEMA, Announcer, JobNews
from simpletuner_lab.server.door import Door
from simpletuner_lab.server.rooms import SETTING, Rooms
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.services.home import VARIABLE, Home

if TYPE_CHECKING:  # imported by the thread that opens the lab, after the port listens
    from simpletuner_lab.services.feed import Written
    from simpletuner_lab.services.front import Front
    from simpletuner_lab.services.lab import Lab


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
        self.lab: Lab | None = None
        self.lab_home = Home(Path(self.home).expanduser().resolve()) if self.home else Home.find(os.environ)
        self.rooms = Rooms(__version__, self.lab_home, Announcer(self._emit))
        self.settings[SETTING] = self.rooms
        self.serverapp.event_logger.register_event_schema(JOB_SCHEMA)

    def initialize_handlers(self) -> None:
        """The routes come when somebody asks for one."""
        self.serverapp.web_app.add_handlers(".*$", [Door(self._mount).rule])

    def _mount(self) -> None:
        from simpletuner_lab.server.routes import mount

        mount(self.serverapp.web_app, self.rooms, max_object_bytes=self.max_object_bytes)

    def _emit(self, news: JobNews) -> None:
        self.serverapp.event_logger.emit(schema_id=JOB_EVENT, data=dataclasses.asdict(news))

    async def _start_jupyter_server_extension(self, _serverapp: Any) -> None:
        """Called by Jupyter once the port listens: opens the lab off the event loop and begins to watch."""
        self._running = asyncio.ensure_future(self._run())
        self._running.add_done_callback(self._ended)

    def _ended(self, running: asyncio.Future[None]) -> None:
        if not running.cancelled() and (error := running.exception()) is not None:
            self.log.error("simpletuner_lab does not follow its store any more", exc_info=error)

    async def _run(self) -> None:
        front = await self._open()
        if front is None:
            return
        self.lab = front.lab
        events = self.lab.store.events
        seq = await self.rooms.run(self.rooms.executors.db, events.max_seq)
        self.rooms.announcer.start()
        self.lab.recorder.listen(self.rooms.announcer.publish)
        self.rooms.opened(front)
        self.lab.watcher.start()

        def written(after: int) -> Awaitable[Written]:
            return self.rooms.run(self.rooms.executors.db, events.written, after)

        await self.rooms.announcer.follow(written, seq)

    async def _open(self) -> Front | None:
        try:
            return await self.rooms.run(self.rooms.executors.disk, self._open_lab)
        except (OSError, S3Error) as error:
            self.log.exception("simpletuner_lab cannot open %s", self.lab_home.root)
            hint = "mend what is named, or set SIMPLETUNER_HOME to another folder, and start again"
            self.rooms.failed(StoreUnusable(f"{self.lab_home.root} cannot be used: {error}", hint=hint))
        except LabError as error:
            self.log.error(  # noqa: TRY400 - an answer for a person, not a fault with a trace
                "simpletuner_lab cannot open its store: %s (%s)", error.message, error.hint
            )
            self.rooms.failed(error)
        return None

    def _open_lab(self) -> Front:
        from simpletuner_lab.server.opening import open_lab

        return open_lab(self.lab_home, self.serverapp)

    async def stop_extension(self) -> None:
        """Called on an orderly end. Nothing depends on it: a kill loses nothing either."""
        self._running.cancel()
        if self.lab is not None:
            await self.rooms.run(self.rooms.executors.net, self.lab.close)
        self.rooms.executors.close()
