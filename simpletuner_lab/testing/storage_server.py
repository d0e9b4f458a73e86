"""The object endpoint on a free port of this machine, in a thread with its own loop: for tests of whatever uploads.

`with storage_server(tmp_path) as server: ...` gives the address, the owner's credentials and `issue` for a job's own.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tornado.web import Application

from simpletuner_lab.core.grant import Grant
from simpletuner_lab.server.storage.exchange import StorageContext
from simpletuner_lab.server.storage.handlers import storage_routes
from simpletuner_lab.server.storage.objects import ObjectStore
from simpletuner_lab.services.grants import Credentials, Grants, ServerKey
from simpletuner_lab.testing.listening import HOST, listening

_DAY_S: Final = 24 * 3600


class MemoryGrants:
    """Grants kept in memory, where no store is at hand."""

    def __init__(self) -> None:
        self._rows: dict[str, Grant] = {}

    def insert_grant(self, grant: Grant) -> None:
        """Adds a grant."""
        self._rows[grant.id] = grant

    def grant(self, grant_id: str, /) -> Grant | None:
        """The grant with this id."""
        return self._rows.get(grant_id)

    def revoke_grants(self, job_id: str, at: float) -> None:
        """Ends the job's grants at a time, those that end earlier excepted."""
        for row in list(self._rows.values()):
            if row.job_id == job_id and (row.revoked_at is None or row.revoked_at > at):
                self._rows[row.id] = replace(row, revoked_at=at)

    def ids_of_job(self, job_id: str) -> tuple[str, ...]:
        """The ids of the job's grants."""
        return tuple(row.id for row in self._rows.values() if row.job_id == job_id)

    def by_hand(self) -> tuple[Grant, ...]:
        """The grants that belong to no job, the newest first."""
        found = (row for row in self._rows.values() if row.job_id is None)
        return tuple(sorted(found, key=lambda row: (-row.created_at, row.id)))

    def revoke_by_hand(self, grant_id: str, at: float) -> None:
        """Ends one of them."""
        row = self._rows.get(grant_id)
        if row is not None and row.job_id is None and row.revoked_at is None:
            self._rows[grant_id] = replace(row, revoked_at=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageServer:
    """A running endpoint. `owner` reads and writes everything; `stored` lists (bucket, key, bytes) as they arrive."""

    endpoint_url: str
    owner: Credentials
    objects: ObjectStore
    grants: Grants
    stored: list[tuple[str, str, int]]
    clock: Callable[[], float]

    def issue(
        self, job_id: str, attempt: int = 1, *, life_s: float = _DAY_S, quota_bytes: int | None = None
    ) -> Credentials:
        """Credentials for one attempt of a job: bucket `outputs`, prefix `<job_id>/`."""
        return self.grants.issue_for_job(job_id, attempt, self.clock() + life_s, quota_bytes)[1]


@contextmanager
def storage_server(
    root: Path,
    *,
    base_url: str = "/",
    public_url: str | None = None,
    clock: Callable[[], float] = time.time,
    max_object_bytes: int = 5 << 30,
    body_timeout_s: float = 60.0,
    patience_s: float = 10.0,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> Iterator[StorageServer]:
    """Serves `<root>/objects` at `{base_url}api/cloud/storage` until the block ends; the server key is beside it."""
    objects = ObjectStore(root / "objects")
    objects.sweep(clock())
    grants = Grants(MemoryGrants(), ServerKey.load_or_create(root / "server.key"), clock)
    stored: list[tuple[str, str, int]] = []
    with ThreadPoolExecutor(4, "disk") as disk, ThreadPoolExecutor(1, "db") as db:
        context = StorageContext(
            objects=objects,
            resolve=grants.resolve,
            known=grants.owner_by,
            disk=disk,
            db=db,
            clock=clock,
            base_url=base_url,
            public_url=public_url,
            max_object_bytes=max_object_bytes,
            body_timeout_s=body_timeout_s,
            patience_s=patience_s,
            on_object_stored=lambda bucket, key, size: stored.append((bucket, key, size)),
        )
        prefix = base_url.rstrip("/") + "/api/cloud/storage"
        with listening(Application(storage_routes(context, prefix)), port=port, tls=tls) as bound:
            scheme = "http" if tls is None else "https"
            yield StorageServer(
                endpoint_url=f"{scheme}://{HOST}:{bound}{prefix}",
                owner=grants.owner(),
                objects=objects,
                grants=grants,
                stored=stored,
                clock=clock,
            )
