"""Fixtures of the tests of the lab and of its store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from simpletuner_lab.services.lab import Lab
from simpletuner_lab.testing.hub_emulator import HubEmulator
from simpletuner_lab.testing.storage_server import StorageServer, storage_server
from tests.hub_kit import TOKEN, hub_of_ann
from tests.lab_kit import dataset, quick_home
from tests.services.courier_kit import Labs
from tests.services.store_kit import open_store

POSTGRES = os.environ.get("SIMPLETUNER_TEST_POSTGRES", "")


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


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRES else [])])
def address(request, tmp_path, fresh):
    if request.param == "sqlite":
        return shutil.copy(fresh, tmp_path / "lab.db")
    engine = sa.create_engine(POSTGRES)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return POSTGRES


@pytest.fixture
def store(address):
    store = open_store(address)
    yield store
    store.close()
