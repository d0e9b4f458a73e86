"""What a thread does once the port listens: imports all that takes time, and opens the lab."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from jupyter_server.utils import url_path_join

from simpletuner_lab.server.routes import STORAGE
from simpletuner_lab.server.storage.objects import ObjectStore
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.home import DATABASE_URL, Home
from simpletuner_lab.services.lab import Lab, Surroundings


def open_lab(
    home: Home,
    serverapp: Any,
    *,
    database_url: str,
    public_endpoint: Callable[[], str | None],
    max_job_bytes: int | None,
) -> Front:
    """The lab of this server, and the folder of its object endpoint cleared of what was left half done.

    Raises:
        LabError, S3Error, OSError: why it cannot be used.
    """
    home.prepare()
    ObjectStore(home.outputs).sweep(time.time())
    around = Surroundings(
        environment={**os.environ, **({DATABASE_URL: database_url} if database_url else {})},
        endpoint=endpoint_of(serverapp),
        public_endpoint=public_endpoint,
        max_job_bytes=max_job_bytes,
    )
    return Front(Lab.open(home.root, around))


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
        return f"http://{host}:{serverapp.port}{_plain(url_path_join(serverapp.base_url, STORAGE))}"

    return url


def _plain(path: str) -> str:
    """A path as clients want it: most quote it themselves; what no URL may hold as it is stays quoted."""
    return "".join(quote(char, safe="/@:!$&'()*+,;=") for char in unquote(path))
