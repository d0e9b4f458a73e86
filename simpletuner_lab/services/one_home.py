"""A shared database belongs to one home folder: logs, outputs, keys and spools of its jobs are files there."""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Mapping
from typing import Final

from simpletuner_lab.core.errors import StoreUnusable
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services.grants import ServerKey
from simpletuner_lab.services.home import DATABASE_URL, Home
from simpletuner_lab.services.store import Store

_HOME: Final = "home"


def open_store(home: Home, environment: Mapping[str, str]) -> Store:
    """The store of a home: its SQLite file, or the shared database that the environment names.

    Raises:
        StoreUnusable, StoreUnreachable, DiskFull: see `Store.open` and `require_one_home`.
    """
    target = home.database_of(environment)
    with contextlib.ExitStack() as undone:
        store = Store.open(target)
        undone.callback(store.close)
        if isinstance(target, Secret):
            require_one_home(store, home)
        undone.pop_all()
    return store


def require_one_home(store: Store, home: Home) -> None:
    """Puts on record whose database it is, where nobody has; the home's server key stands for it, wherever it is copied.

    Raises:
        StoreUnusable: it is another home's. Its jobs would be worked on here without their files.
    """
    ours = ServerKey.load_or_create(home.server_key).mac(b"home of a database")
    theirs = store.settings.first(_HOME, ours)
    if not hmac.compare_digest(str(theirs), ours):
        raise StoreUnusable(
            f"the database of {DATABASE_URL} belongs to another home folder than {home.root}",
            hint="one home folder for all servers of a database, or a database of its own for each; "
            f"where that home was lost, delete the row {_HOME!r} of its table settings",
        )
