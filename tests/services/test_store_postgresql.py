"""What is PostgreSQL's own: how it is opened, what it says when it cannot be, and a server that goes away and returns."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from traitlets import TraitError

from simpletuner_lab.core.errors import InvalidRequest, StaleRecord, StoreUnreachable, StoreUnusable
from simpletuner_lab.core.job import JobFilter, JobState
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.doctor.home import database_findings
from simpletuner_lab.server.app import checked_database_url
from simpletuner_lab.services import schema
from simpletuner_lab.services.home import DATABASE_URL, Home
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.store import Store
from simpletuner_lab.testing import eventually
from tests.lab_kit import quick_home, settled, submitted
from tests.postgres_kit import PASSWORD
from tests.services.store_kit import new_job, open_store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kind():
    return "postgresql"


# ------------------------------------------------------------ opening


def test_it_opens_over_the_network_with_a_password(server, address):
    store = Store.open(Secret(server.tcp_url("postgres") + f"?{address.rpartition('&')[2]}"))
    store.jobs.insert(new_job(), "{}")
    assert PASSWORD not in repr(store._database._engine)
    store.close()


def test_the_migrations_build_exactly_the_tables_in_use(address):
    engine = sa.create_engine(address)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda s: s.tcp_url("postgres", password="wrong-Secret"), StoreUnusable, "does not let us in"),
        (lambda s: s.tcp_url("postgres", user="nobody_here"), StoreUnusable, "does not let us in"),
        (lambda s: s.tcp_url("not_there"), StoreUnusable, "there is no PostgreSQL database not_there"),
        (lambda _: f"postgresql://ann:{PASSWORD}@127.0.0.1:1/lab", StoreUnreachable, "cannot be reached"),
        (lambda _: f"postgresql://ann:{PASSWORD}@127.0.0.1:port/lab", StoreUnusable, "no database URL"),
        (lambda _: f"mysql://ann:{PASSWORD}@127.0.0.1/lab", StoreUnusable, "names no PostgreSQL database"),
        (lambda _: f"postgresql://ann:{PASSWORD}@127.0.0.1", StoreUnusable, "names no PostgreSQL database"),
        (lambda _: f"not a URL {PASSWORD}", StoreUnusable, "no database URL"),
    ],
    ids=["password", "user", "database", "server", "port", "kind", "no name", "no URL"],
)
def test_why_it_does_not_open(server, change, error, says):
    with pytest.raises(StoreUnusable) as refusal:
        Store.open(Secret(change(server)))
    assert type(refusal.value) is error
    assert says in refusal.value.message
    assert refusal.value.hint
    trace = "".join(traceback.format_exception(refusal.value)) + refusal.value.hint
    assert PASSWORD not in trace
    assert "wrong-Secret" not in trace


def test_a_database_that_is_not_unicode(server):
    server.order("CREATE DATABASE latin TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    with pytest.raises(StoreUnusable, match="SQL_ASCII") as refusal:
        open_store(server.url("latin"))
    assert "UTF8" in refusal.value.hint


def test_a_newer_database_is_refused(server, bare):
    open_store(bare).close()
    _change(bare, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnusable, match="9999"):
        open_store(bare)


def test_a_database_that_is_not_ours_to_write(server, bare):
    name = bare.rpartition("%3D")[2]
    server.order(
        "CREATE ROLE reader LOGIN",
        f"GRANT USAGE ON SCHEMA {name} TO reader",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    with pytest.raises(StoreUnusable, match="not ours to write"):
        open_store(bare.replace("lab_owner@", "reader@"))


def test_the_password_is_no_trait():
    assert checked_database_url("postgresql://ann@db.example/lab") == "postgresql://ann@db.example/lab"
    for text in (
        "postgresql://ann:s3cret@db/lab",
        "postgresql://ann@db/lab?password=s3cret",
        "postgresql://[s3cret/lab",
    ):
        with pytest.raises(TraitError) as refusal:
            checked_database_url(text)
        assert "s3cret" not in str(refusal.value)


def test_the_doctor_looks_at_it(server, address, tmp_path):
    home = Home(tmp_path / "home")
    assert [finding.name for finding in database_findings(home, {DATABASE_URL: address})] == ["database", "consent"]
    (finding,) = database_findings(home, {DATABASE_URL: server.tcp_url("not_there")})
    assert "there is no PostgreSQL database" in finding.message
    assert not home.database.exists()


# ------------------------------------------------------------ transactions


def test_a_reader_sees_one_state(store):
    with store._database.read() as connection:
        count = sa.select(sa.func.count()).select_from(schema.jobs)
        assert connection.execute(count).scalar() == 0
        store.jobs.insert(new_job(), "{}")
        assert connection.execute(count).scalar() == 0
    assert store.jobs.page(JobFilter()).total == 1


def test_a_held_database_is_said(store, address):
    short = open_store(address.replace("&options=", "&options=-c%20application_name%3Dshort%20"))
    engine = short._database._engine

    @sa.event.listens_for(engine, "connect")
    def _(connection, _record):
        connection.execute("SET lock_timeout = 20")
        connection.commit()

    engine.dispose()
    with store._database.write(), pytest.raises(StoreUnusable, match="in use by another process"):
        short.jobs.insert(new_job(), "{}")
    short.jobs.insert(new_job(), "{}")
    short.close()


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_what_the_server_took_back_may_be_tried_again(store, state):
    """Serialisation failures and deadlocks: ours lock in one order, a stranger's transaction may cross them."""
    with pytest.raises(StaleRecord), store._database.write() as connection:
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$")


def test_a_nul_is_refused(store):
    with pytest.raises(InvalidRequest):
        store.jobs.insert(new_job(name="a\0b"), "{}")
    assert store.jobs.page(JobFilter()).total == 0


# ------------------------------------------------------------ a server that goes and comes back


def test_a_restart_loses_what_was_under_way_and_no_more(server, address, tmp_path, images):
    environment = os.environ | {DATABASE_URL: address}
    with Lab.open(quick_home(tmp_path).root, Surroundings(environment=environment)) as lab:
        lab.watcher.start()
        before = submitted(lab, images)
        with pytest.raises(StoreUnreachable) as lost, lab.store._database.write() as connection:
            connection.execute(sa.update(schema.jobs).values(waiting="never"))
            server.stop()
            connection.execute(sa.update(schema.jobs).values(waiting="never"))
        assert "lost" in lost.value.message
        assert lost.value.status == 503
        with pytest.raises(StoreUnreachable, match="cannot be reached"):
            lab.store.jobs.get(before.id)
        server.start()
        assert lab.store.jobs.get(before.id).waiting != "never"
        assert settled(lab, before).state is JobState.COMPLETED, "the watcher went on by itself"


# ------------------------------------------------------------ two labs


def test_a_database_belongs_to_one_home(address, tmp_path, images):
    environment = os.environ | {DATABASE_URL: address}
    around = Surroundings(environment=environment)
    with Lab.open(tmp_path / "a", around) as lab:
        lab.store.settings.put("concurrency", None)
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    with pytest.raises(StoreUnusable, match=f"another home folder than {tmp_path / 'b'}") as refusal:
        Lab.open(tmp_path / "b", around)
    assert "a database of its own" in refusal.value.hint
    assert PASSWORD not in str(refusal.value)
    for folder in ("a", "moved"):
        Lab.open(tmp_path / folder, around).close()


def test_two_labs_share_one_database(address, tmp_path, images):
    """Another process watches; when it ends, this one does. Both see every event once."""
    home = quick_home(tmp_path)
    environment = os.environ | {DATABASE_URL: address}
    command = [sys.executable, "-m", "tests.services.lab_worker", str(home.root)]
    other = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        holder = other.stdout.readline().strip()
        with Lab.open(home.root, Surroundings(environment=environment)) as lab:
            assert eventually(lambda: _watching(address)) == holder
            lab.watcher.start()
            first = settled(lab, submitted(lab, images))
            assert first.state is JobState.COMPLETED
            assert _watching(address) == holder, "it was the other one's work"
            other.stdin.write(f"{first.id}\n")
            other.stdin.flush()
            seen = other.stdout.readline().split()
            assert seen == [str(event.seq) for event in lab.store.events.after(0)]
            assert other.wait(20) == 0
            second = settled(lab, submitted(lab, images))
            assert second.state is JobState.COMPLETED
            assert _watching(address) == lab.watcher._holder
    finally:
        other.kill()
        other.communicate()


def _watching(address) -> str | None:
    engine = sa.create_engine(address)
    with engine.connect() as connection:
        found = connection.execute(sa.select(schema.leases.c.holder)).scalar()
    engine.dispose()
    return found


def _change(address, statement) -> None:
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()
