"""All routes of the extension, for people and for programs: under the server's base URL, and on the second listener."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from jupyter_server.utils import url_path_join

from simpletuner_lab.core.grant import Grant
from simpletuner_lab.core.provider import WEBHOOK_PATH
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.server.callers import Network
from simpletuner_lab.server.handlers import api_rules
from simpletuner_lab.server.hooks import Hooks, WebhookHandler
from simpletuner_lab.server.listener import NowhereHandler
from simpletuner_lab.server.openapi import DescriptionHandler
from simpletuner_lab.server.queueing import queue_rules
from simpletuner_lab.server.rooms import Rooms
from simpletuner_lab.server.storage.exchange import StorageContext
from simpletuner_lab.server.storage.handlers import either_spelling, storage_routes
from simpletuner_lab.server.storage.objects import ObjectStore
from simpletuner_lab.server.uploads import UploadProgressHandler
from simpletuner_lab.server.webhook_tests import AddressTestHandler

API: Final = "api/cloud"
QUEUE: Final = "api/queue"
STORAGE: Final = "api/cloud/storage"
WEBHOOKS: Final = WEBHOOK_PATH.strip("/")


def people_rules(base_url: str) -> list[Any]:
    """The routes for people, who log in: all that have a description but one."""
    described = (url_path_join(base_url, API, r"openapi\.json"), DescriptionHandler, {"rules": described_rules})
    queue = queue_rules(url_path_join(base_url, QUEUE))
    webhooks = [
        (url_path_join(base_url, WEBHOOKS, "test"), AddressTestHandler),
        (url_path_join(base_url, WEBHOOKS, r"upload/progress/([A-Za-z0-9._-]{1,128})"), UploadProgressHandler),
    ]
    return [described, *api_rules(url_path_join(base_url, API)), *queue, *webhooks]


def webhook_rule(base_url: str, hooks: Hooks | None = None) -> Any:
    """The route for providers."""
    return (url_path_join(base_url, WEBHOOKS, r"([A-Za-z0-9_-]{1,64})"), WebhookHandler, {"hooks": hooks})


def described_rules() -> list[Any]:
    """All that the description of the API is about, without a base URL."""
    return [*people_rules("/"), webhook_rule("/")]


class Routes:
    """The two sets of routes, over one object store."""

    def __init__(
        self, rooms: Rooms, *, public_url: str | None, max_object_bytes: int, trusted_proxies: Sequence[Network] = ()
    ) -> None:
        self._rooms = rooms
        self._public_url = public_url
        self._max_object_bytes = max_object_bytes
        self._objects = ObjectStore(rooms.home.outputs)
        self._hooks = Hooks(rooms, trusted_proxies)

    def mount(self, web_app: Any) -> None:
        """Adds those for Jupyter's application, which looks whether each method authenticates."""
        base_url = web_app.settings["base_url"]
        storage = storage_routes(self._context(base_url), url_path_join(base_url, STORAGE))
        nowhere = (url_path_join(base_url, WEBHOOKS, ".*"), NowhereHandler)  # JSON: a program would not read a page
        web_app.add_handlers(".*$", [*people_rules(base_url), *storage, self._webhooks(base_url), nowhere])

    def public(self) -> list[Any]:
        """Those of the second listener: webhooks, the object endpoint, and the same at the root."""
        context = self._context("/")
        return [
            self._webhooks("/"),
            *storage_routes(context, f"/{STORAGE}"),
            (r"/api(?:/.*)?", NowhereHandler),
            *storage_routes(context, ""),
        ]

    def _webhooks(self, base_url: str) -> Any:
        return webhook_rule(either_spelling(base_url), self._hooks)

    def _context(self, base_url: str) -> StorageContext:
        executors = self._rooms.executors
        return StorageContext(
            objects=self._objects,
            resolve=self._resolve,
            known=self._known,
            disk=executors.disk,
            db=executors.db,
            clock=time.time,
            base_url=base_url,
            public_url=self._public_url,
            max_object_bytes=self._max_object_bytes,
        )

    def _resolve(self, access_key: str) -> tuple[Grant, Secret] | None:
        return self._rooms.wait().lab.grants.resolve(access_key)

    def _known(self, access_key: str) -> tuple[Grant, Secret] | None:
        return self._rooms.wait().lab.grants.owner_by(access_key) if self._rooms.ready else None
