"""Fixtures of the tests of the lab and of its store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from simpletuner_lab.services import schema
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.testing.hub_emulator import HubEmulator
from simpletuner_lab.testing.storage_server import StorageServer, storage_server
from tests.hub_kit import TOKEN, hub_of_ann
from tests.lab_kit import dataset, quick_home
from tests.postgres_kit import postgres, require_postgres
from tests.services.courier_kit import Labs
from tests.services.store_kit import open_store


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return dataset(tmp_path / "images")


@pytest.fixture
def hub() -> Iterator[HubEmulator]:
    with hub_of_ann() as running:
        yield running


@pytest.fixture
def away(tmp_path: Path) -> Iterator[StorageServer]:
    """Somebody's S3."""
    with storage_server(tmp_path / "away") as running:
        yield running


@pytest.fixture
def labs(tmp_path: Path, hub: HubEmulator, away: StorageServer) -> Iterator[Labs]:
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_TOKEN": TOKEN, "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1", "AWS_ACCESS_KEY_ID": away.owner.access_key,
        "AWS_SECRET_ACCESS_KEY": away.owner.secret_key.reveal(),
    }  # fmt: skip
    with ExitStack() as stack:
        yield Labs(tmp_path, stack, environment)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab.open(quick_home(tmp_path).root) as opened:
        yield opened


@pytest.fixture
def watched(lab: Lab) -> Lab:
    lab.watcher.start()
    return lab


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A migrated database to copy: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("fresh") / "lab.db"
    open_store(path).close()
    return path


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server of these tests' own."""
    require_postgres()
    with postgres() as running:
        yield running


@pytest.fixture(scope="session")
def tables(server):
    """URL of a migrated database in it, to be emptied."""
    url = server.create_schema()
    open_store(url).close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request):
    return request.param


@pytest.fixture
def address(kind, request, tmp_path):
    """Path or URL of a database with tables and nothing in them."""
    if kind == "sqlite":
        return shutil.copy(request.getfixturevalue("fresh"), tmp_path / "lab.db")
    url = request.getfixturevalue("tables")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for table in reversed(schema.metadata.sorted_tables):
            connection.execute(sa.delete(table))
        connection.execute(sa.insert(schema.sequence).values(id=1, value=0))
    engine.dispose()
    return url


@pytest.fixture
def bare(kind, request, tmp_path):
    """Path or URL of a database without tables."""
    if kind == "sqlite":
        return tmp_path / "bare.db"
    return request.getfixturevalue("server").create_schema()


@pytest.fixture
def store(address):
    store = open_store(address)
    yield store
    store.close()
