"""Fixtures of the tests of the lab and of its store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from simpletuner_lab.services.lab import Lab
from tests.lab_kit import dataset, quick_home
from tests.services.store_kit import open_store

POSTGRES = os.environ.get("SIMPLETUNER_TEST_POSTGRES", "")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return dataset(tmp_path / "images")


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
