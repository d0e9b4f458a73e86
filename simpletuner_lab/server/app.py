"""The composition root of the server extension: traits in, one lab out, routes and executors around it."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import os
from collections.abc import Awaitable
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from jupyter_server.extension.application import ExtensionApp
from traitlets import Integer, List, TraitError, Unicode, validate

from simpletuner_lab._version import __version__
from simpletuner_lab.core.errors import LabError, StoreUnusable
from simpletuner_lab.core.grant import ENDPOINT_PATH, MAX_JOB_BYTES
from simpletuner_lab.discretion import Discretion
from simpletuner_lab.server.announcer import JOB_EVENT, JOB_SCHEMA, Announcer, JobNews
from simpletuner_lab.server.door import Door
from simpletuner_lab.server.rooms import SETTING, Part, Rooms
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.services.home import DATABASE_URL, VARIABLE, Home

if TYPE_CHECKING:  # imported by the thread that opens the lab, after the port listens
    from simpletuner_lab.server.listener import Listener
    from simpletuner_lab.server.routes import Routes
    from simpletuner_lab.services.feed import Written
    from simpletuner_lab.services.front import Front
    from simpletuner_lab.services.lab import Lab

_REOPEN_S: Final = 2.0
"""Between two tries to open a store that cannot be opened."""


class SimpleTunerLabApp(ExtensionApp):
    """Train diffusion models from this notebook server. Secrets are never traits: `--show-config` prints those."""

    name = "simpletuner_lab"
    extension_url = "/api/cloud/health"
    load_other_extensions = True

    home = Unicode("", config=True, help=f"Folder of all state; default: ${VARIABLE}, else ~/.simpletuner.")
    database_url = Unicode(
        "", config=True,
        help=f"Shared PostgreSQL database, postgresql://USER@HOST/NAME without a password; default: ${DATABASE_URL}, "
        "which may hold one, else a file in the home.",
    )  # fmt: skip
    max_object_bytes = Integer(
        5 << 30, min=1 << 20, config=True, help="Largest single upload to the object endpoint, in bytes."
    )
    max_job_bytes = Integer(
        MAX_JOB_BYTES, min=0, config=True, help="What a job may store at the object endpoint, in bytes; 0: no limit."
    )
    public_port = Integer(
        0, min=0, max=65535, config=True,
        help="Port of the second listener, which serves webhooks and the object endpoint and nothing else; 0: none.",
    )  # fmt: skip
    public_ip = Unicode("127.0.0.1", config=True, help="Address that the second listener binds to.")
    public_url = Unicode(
        "", config=True,
        help="How the second listener is seen from outside: http(s)://HOST[:PORT][/PATH]. Where there is none "
        "(JupyterHub), how this server is seen from outside, with its base URL.",
    )  # fmt: skip

    trusted_proxies = List(
        Unicode(), config=True,
        help="Addresses and networks (CIDR) of proxies that tell in X-Forwarded-For who called; of no one else is it "
        "believed. Needed where a provider's webhook_allowed_ips is set and a proxy or tunnel is in front.",
    )  # fmt: skip

    @validate("trusted_proxies")
    def _checked_proxies(self, proposal: Any) -> list[str]:
        return checked_networks(proposal["value"])

    @validate("database_url")
    def _checked_database(self, proposal: Any) -> str:
        return checked_database_url(proposal["value"])

    @validate("public_url")
    def _checked_url(self, proposal: Any) -> str:
        return checked_public_url(proposal["value"])

    def initialize_settings(self) -> None:
        """Makes the rooms; the store opens after the port listens."""
        self.lab: Lab | None = None
        self._listener: Listener | None = None
        self.lab_home = Home(Path(self.home).expanduser().resolve()) if self.home else Home.find(os.environ)
        self.rooms = Rooms(__version__, self.lab_home, Announcer(self._emit))
        self.settings[SETTING] = self.rooms
        self._discretion = Discretion(self.rooms.redactor)
        self._discretion.watch(self.log, *map(logging.getLogger, ("simpletuner_lab", "tornado", "httpx", "asyncio")))
        self.serverapp.event_logger.register_event_schema(JOB_SCHEMA)

    @functools.cached_property
    def _routes(self) -> Routes:
        from simpletuner_lab.server.callers import networks
        from simpletuner_lab.server.routes import Routes

        return Routes(
            self.rooms,
            public_url=self.public_url or None,
            max_object_bytes=self.max_object_bytes,
            trusted_proxies=networks(self.trusted_proxies),
        )

    def initialize_handlers(self) -> None:
        """The routes come when somebody asks for one."""
        self.serverapp.web_app.add_handlers(".*$", [Door(self._mount).rule])

    def _mount(self) -> None:
        self._routes.mount(self.serverapp.web_app)

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
        while (front := await self._open()) is None:  # noqa: ASYNC110 - nothing tells when a database is back
            await asyncio.sleep(_REOPEN_S)
        self.lab = front.lab
        events = self.lab.store.events
        seq = await self.rooms.run(self.rooms.executors.db, events.max_seq)
        self.rooms.announcer.start()
        self.lab.recorder.listen(self.rooms.announcer.publish)
        if self.public_port:
            self._listen()
        self.rooms.opened(front)
        self.lab.watcher.start()

        def written(after: int) -> Awaitable[Written]:
            return self.rooms.run(self.rooms.executors.db, events.written, after)

        await self.rooms.announcer.follow(written, seq)

    def _listen(self) -> None:
        """Opens the second listener. Where that cannot be, the notebook goes on without it, and `/health` says so."""
        from simpletuner_lab.server.listener import Listener

        place = f"{self.public_ip or 'all addresses'}, port {self.public_port}"
        listener = Listener(self._routes.public())
        try:
            listener.open(self.public_ip, self.public_port)
        except OSError as error:
            message = f"cannot listen at {place}: {error.strerror or error}"
            hint = "choose another SimpleTunerLabApp.public_port or public_ip, or end what has it, and start again"
            self.log.error("simpletuner_lab %s (%s)", message, hint)  # noqa: TRY400 - an answer, not a fault
            self.rooms.listener = Part(name="public listener", status="unhealthy", message=f"{message}; {hint}")
            return
        self._listener = listener
        self.rooms.listener_host = f"{_reached(self.public_ip)}:{listener.port}"
        self.rooms.listener = Part(name="public listener", status="healthy", message=place)
        self.log.info("simpletuner_lab serves webhooks and the object endpoint, and nothing else, at %s", place)

    def _public_endpoint(self) -> str | None:
        """Where runs elsewhere deliver to; None where nobody said so, or the listener is not up."""
        up = self.public_port == 0 or self._listener is not None
        return f"{self.public_url.rstrip('/')}{ENDPOINT_PATH}" if self.public_url and up else None

    async def _open(self) -> Front | None:
        """The lab; None where it cannot be opened now, which is logged once for each reason."""
        try:
            return await self.rooms.run(self.rooms.executors.disk, self._open_lab)
        except (OSError, S3Error) as error:
            hint = "mend what is named, or set SIMPLETUNER_HOME to another folder and start again"
            why: LabError = StoreUnusable(f"{self.lab_home.root} cannot be used: {error}", hint=hint)
        except LabError as error:
            why = error
        if why.message != self.rooms.problem:
            self.log.error("simpletuner_lab cannot open its store: %s (%s)", why.message, why.hint)
        self.rooms.failed(why)
        return None

    def _open_lab(self) -> Front:
        from simpletuner_lab.server.opening import open_lab

        return open_lab(
            self.lab_home,
            self.serverapp,
            database_url=self.database_url,
            public_endpoint=self._public_endpoint,
            max_job_bytes=self.max_job_bytes or None,
        )

    async def stop_extension(self) -> None:
        """Called on an orderly end. Nothing depends on it: a kill loses nothing either."""
        self._discretion.leave()
        self._running.cancel()
        if self._listener is not None:
            await self._listener.close()
        if self.lab is not None:
            await self.rooms.run(self.rooms.executors.net, self.lab.close)
        self.rooms.executors.close()


def _reached(ip: str) -> str:
    """What an address is called by who connects to it."""
    host = "127.0.0.1" if ip in {"", "*", "0.0.0.0", "::", "localhost"} else ip  # noqa: S104 - what is looked for
    return f"[{host}]" if ":" in host else host


def checked_database_url(text: str) -> str:
    """The URL, if it has no password in it: `--show-config` prints traits.

    Raises:
        TraitError: it has one.
    """
    hint = f"put a URL with one into {DATABASE_URL}, or the password into ~/.pgpass"
    try:
        parts = urlsplit(text)
    except ValueError:
        raise TraitError(f"database_url is postgresql://USER@HOST[:PORT]/NAME without a password; {hint}") from None
    if parts.password is not None or "password" in parts.query:
        raise TraitError(f"database_url must have no password; {hint}")
    return text


def checked_public_url(text: str) -> str:
    """The URL without a last slash, if it can be one; empty stays empty.

    Raises:
        TraitError: what it must look like.
    """
    wanted = "public_url is http(s)://HOST[:PORT][/PATH], with no query and no user name in it"
    try:
        url = urlsplit(text)
        possible = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError as error:
        raise TraitError(f"{wanted}; not {text!r} ({error})") from error
    if text and not (possible and not (url.query or url.fragment or "@" in url.netloc or not text.isprintable())):
        raise TraitError(f"{wanted}; not {text!r}")
    if url.path.rstrip("/").endswith(ENDPOINT_PATH):
        raise TraitError(f"public_url is without {ENDPOINT_PATH}, which is added; not {text!r}")
    return text.rstrip("/")


def checked_networks(texts: list[str]) -> list[str]:
    """The same, if each is an address or a network.

    Raises:
        TraitError: which one is not.
    """
    for text in texts:
        try:
            ip_network(text)
        except ValueError as error:
            raise TraitError(f"trusted_proxies are addresses and networks such as 10.0.0.0/8: {error}") from error
    return texts
