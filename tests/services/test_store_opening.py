"""Opening a database: fresh, of another version, damaged, on a network file system, without room."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from pathlib import PurePosixPath

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from simpletuner_lab.core.errors import DiskFull, StoreUnusable
from simpletuner_lab.core.job import JobFilter, JobState
from simpletuner_lab.services import migrations, schema
from simpletuner_lab.services.mounts import Mount, mount_of, network_kind, parse_macos_mount, parse_proc_mounts
from simpletuner_lab.services.store import Store
from tests.services.store_kit import QUEUE_COLUMNS, new_job


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "lab.db"


def test_a_fresh_database_is_for_its_owner_alone(path):
    store = Store.open(path)
    store.jobs.insert(new_job(), "{}")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = list(path.parent.iterdir())
    assert {file.name for file in files} >= {"lab.db", "lab.db-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    store.close()


def test_the_migrations_build_exactly_the_tables_in_use(path):
    Store.open(path).close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    scripts = ScriptDirectory.from_config(config)
    assert tuple(reversed([script.revision for script in scripts.walk_revisions()])) == schema.REVISIONS


def test_the_database_is_safe_against_a_power_cut(path):
    store = Store.open(path)
    with store._database.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        }
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}
    store.close()


def test_alembic_is_loaded_for_a_change_of_version_only(path):
    script = "import sys, pathlib; from simpletuner_lab.services.store import Store; Store.open(pathlib.Path(sys.argv[1])).close(); print('alembic' in sys.modules)"
    outputs = [
        subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert outputs == ["True\n", "False\n"]


def test_a_newer_database_is_refused_and_left_alone(path):
    Store.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match="9999") as refusal:
        Store.open(path)
    assert "upgrade" in refusal.value.hint
    assert path.read_bytes() == before


def test_no_database_at_all(path):
    path.parent.mkdir()
    path.write_bytes(b"this is a letter to my aunt, not a database\n" * 200)
    with pytest.raises(StoreUnusable, match="not a database") as refusal:
        Store.open(path)
    assert refusal.value.hint


def test_a_database_with_a_hole_in_it(path):
    store = Store.open(path)
    for number in range(300):
        store.jobs.insert(new_job(f"j{number}"), "x" * 500)
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(StoreUnusable, match="damaged"):
        _use(path)


def _use(path):
    store = Store.open(path)
    try:
        store.jobs.page(JobFilter())
    finally:
        store.close()


def test_a_folder_in_the_way(path):
    path.mkdir(parents=True)
    with pytest.raises(StoreUnusable):
        Store.open(path)


def test_a_file_in_place_of_the_folder(path):
    path.parent.write_text("in the way")
    with pytest.raises(StoreUnusable, match="cannot be opened"):
        Store.open(path)


def test_a_full_disk_is_said_and_harms_nothing(path):
    """`max_page_count` is SQLite's own bound; it answers SQLITE_FULL exactly as for a full disk."""
    store = Store.open(path)
    store.jobs.insert(new_job("first"), "{}")
    with store._database.read() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
    with pytest.raises(DiskFull) as refusal:
        store.jobs.insert(new_job("second"), "x" * 10_000_000)
    assert refusal.value.hint
    assert [job.id for job in store.jobs.page(JobFilter()).jobs] == ["first"]
    store.close()


def test_a_held_database_is_said(path):
    store = Store.open(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with store._database.read() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 10")
    with pytest.raises(StoreUnusable, match="in use by another process"):
        store.jobs.insert(new_job(), "{}")
    holder.close()
    store.close()


PROC = r"""/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
srv:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/ann/local ext4 rw 0 0
me@host: /mnt/my\040disk fuse.sshfs rw 0 0
tmpfs /over tmpfs rw 0 0
C:\134 /over 9p rw 0 0
short line
"""

MACOS = """/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
map auto_home on /System/Volumes/Data/home (autofs, automounted, nobrowse)
//ann@nas/my share on /Volumes/my share (smbfs, nodev, nosuid)
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lab.db", None),
        ("/home/ann/.simpletuner/lab.db", "nfs4"),
        ("/home/ann/local/lab.db", None),
        ("/home/ann/localised/lab.db", "nfs4"),
        ("/homestead/lab.db", None),
        ("/mnt/my disk/lab.db", "fuse.sshfs"),
        ("/over/lab.db", "9p"),
    ],
)
def test_network_file_systems_of_linux(path, kind):
    assert network_kind(PurePosixPath(path), parse_proc_mounts(PROC)) == kind


@pytest.mark.parametrize(("path", "kind"), [("/Users/ann/lab.db", None), ("/Volumes/my share/lab.db", "smbfs")])
def test_network_file_systems_of_macos(path, kind):
    assert network_kind(PurePosixPath(path), parse_macos_mount(MACOS)) == kind


def test_no_mounts_are_known():
    assert mount_of(PurePosixPath("/x"), ()) is None
    assert mount_of(PurePosixPath("/x"), (Mount(point="/", kind="ext4"),)).kind == "ext4"


def test_plans_of_the_release_before_are_read(path):
    """Home had a bucket in its destination then."""
    old = '{"name":"a","identity":{"destination":{"kind":"home","bucket":"outputs"},"config":{"bucket":"outputs"}}}'
    store = Store.open(path)
    store.jobs.insert(new_job("a"), old)
    store.close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(sa.text("DROP INDEX jobs_queue"))
        for name in QUEUE_COLUMNS:
            connection.execute(sa.text(f"ALTER TABLE jobs DROP COLUMN {name}"))
        for name in ("snapshots", "charges", "pushes", "reservations"):
            connection.execute(sa.text(f"DROP TABLE {name}"))
        for name in ("endpoint_url", "name", "created_at"):
            connection.execute(sa.text(f"ALTER TABLE grants DROP COLUMN {name}"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0002'"))
    engine.dispose()
    store = Store.open(path)
    assert store.jobs.snapshot("a") == old.replace(',"bucket":"outputs"}', "}", 1)
    assert store.pushes.of_job("a") == ()
    store.close()


def test_jobs_that_began_before_there_were_slots_have_one(path):
    store = Store.open(path)
    states = {"a": JobState.PENDING, "b": JobState.UPLOADING, "c": JobState.QUEUED, "d": JobState.RUNNING}
    for job_id, state in states.items():
        store.jobs.insert(new_job(job_id, state=state), "{}")
    store.jobs.insert(new_job("theirs", state=JobState.QUEUED, nonce=""), "{}")
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE charges DROP COLUMN by_hand")
        connection.execute("UPDATE alembic_version SET version_num = '0008'")
    connection.close()
    store = Store.open(path)
    assert {job.id for job in store.queue.held()} == {"b", "c", "d", "theirs"}
    assert store.queue.blocked() == ()
    store.close()
