"""All routes of the extension, for people and for programs, under the server's base URL."""

from __future__ import annotations

import time
from typing import Any, Final

from jupyter_server.utils import url_path_join

from simpletuner_lab.core.grant import Grant
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.server.handlers import api_rules
from simpletuner_lab.server.rooms import Rooms
from simpletuner_lab.server.storage.exchange import StorageContext
from simpletuner_lab.server.storage.handlers import storage_routes
from simpletuner_lab.server.storage.objects import ObjectStore

API: Final = "api/cloud"
STORAGE: Final = "api/cloud/storage"


def mount(web_app: Any, rooms: Rooms, *, max_object_bytes: int) -> None:
    """Adds the routes to Jupyter's application, which looks whether each method authenticates."""

    def resolve(access_key: str) -> tuple[Grant, Secret] | None:
        return rooms.wait().lab.grants.resolve(access_key)

    base_url = web_app.settings["base_url"]
    context = StorageContext(
        objects=ObjectStore(rooms.home.outputs),
        resolve=resolve,
        disk=rooms.executors.disk,
        db=rooms.executors.db,
        clock=time.time,
        base_url=base_url,
        max_object_bytes=max_object_bytes,
    )
    storage = storage_routes(context, url_path_join(base_url, STORAGE))
    web_app.add_handlers(".*$", [*api_rules(url_path_join(base_url, API)), *storage])
