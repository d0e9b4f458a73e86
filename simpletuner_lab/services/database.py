"""Opening a database and doing transactions on it, the same way on SQLite and PostgreSQL.

SQLite runs in WAL mode with `synchronous=FULL`: a commit is on the disk before it returns. NORMAL would survive a
killed process as well, but a power cut could take back the commit that says "a run was started there", and with it
the only trace of a run that costs money. The lab commits a few times a second at most; FULL is one more fsync each.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    and_,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoneFree

from simpletuner_lab.core.errors import (
    Conflict,
    DiskFull,
    InvalidRequest,
    LabError,
    StoreUnusable,
    is_interrupt,
    lacks_room,
)
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services import postgresql, schema
from simpletuner_lab.services.mounts import network_kind, read_mounts

BUSY_S: Final = 20.0
"""So long a writer waits for another process's transaction. Ours take milliseconds."""

IDLE_S: Final = 60
"""On PostgreSQL a writer that does nothing for so long (a machine asleep) is cut off, so that the others go on."""

_WRITES: Final = "simpletuner_lab_writes"
_MIGRATION_LOCK: Final = 0x73746C6162
_MOVE_HINT: Final = "set SIMPLETUNER_HOME to a folder on a local disk"


class Database:
    """Connections of one database; several threads and several processes may use it at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{_WRITES: True})
        self._sqlite = engine.dialect.name == "sqlite"
        self._reader = engine if self._sqlite else engine.execution_options(isolation_level="REPEATABLE READ")

    @classmethod
    def open(cls, target: Path | Secret) -> Database:
        """Opens a SQLite file or the URL of a PostgreSQL database, and brings its tables up to date.

        Raises:
            StoreUnusable: on a network file system, damaged, of a newer release, not ours to write, not there.
            StoreUnreachable: the server does not answer.
            DiskFull: no room to create it.
        """
        if isinstance(target, Path):
            _prepare_file(target)
            engine = _engine(target)
        else:
            engine = postgresql.engine_of(target, busy_s=BUSY_S)
        database = cls(engine)
        try:
            database.upgrade()
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, and sees one state of the database throughout.

        Raises:
            StoreUnusable, DiskFull: the database failed.
        """
        with _translated(self._engine), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the writers' lock from its start: what it reads stays true until it commits.

        Raises:
            Conflict: a row of this key is already there.
            StoreUnusable, DiskFull: the database failed; nothing was written.
            StoreUnreachable: the connection was lost. Lost at the very commit, all may have been written: read again.
        """
        with _translated(self._engine), self._writer.begin() as connection:
            if not self._sqlite:
                connection.execute(_TAKE_TURN)
            yield connection

    def upgrade(self) -> None:
        """Creates or migrates the tables. Alembic is loaded only where that is needed.

        Raises:
            StoreUnusable: the tables were written by a newer release.
        """
        with self.read() as connection:
            if _version(connection) == schema.REVISIONS[-1]:
                return
        with _translated(self._engine), self._writer.begin() as connection:
            if not self._sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
                _require_unicode(connection)
            if _version(connection) != schema.REVISIONS[-1]:
                _migrate(connection)


def draw_numbers(connection: Connection, count: int) -> int:
    """Draws numbers that were never given before, in the order of the commits; returns the first of them."""
    value = schema.sequence.c.value
    connection.execute(update(schema.sequence).values(value=value + count))
    return int(connection.execute(select(value)).scalar_one()) - count + 1


def put(connection: Connection, table: Table, keys: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Sets the row of some keys, whether or not it is there. The writers' lock makes it one step."""
    ours = and_(*(table.c[name] == value for name, value in keys.items()))
    if not connection.execute(update(table).where(ours).values(dict(values))).rowcount:
        connection.execute(insert(table).values({**keys, **values}))


_TAKE_TURN: Final = select(
    schema.sequence.c.value, func.set_config("idle_in_transaction_session_timeout", f"{IDLE_S}s", True)
).with_for_update()
"""Of PostgreSQL alone: the writers' lock, and a limit to how long a writer that sleeps may hold it."""


def _engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_S})
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if version is not None and version not in schema.REVISIONS:
        raise StoreUnusable(
            f"the database has schema {version}, which a newer release wrote; this one knows {schema.REVISIONS[-1]}",
            hint="upgrade simpletuner-lab, or set SIMPLETUNER_HOME to another folder",
        )
    return version


def _require_unicode(connection: Connection) -> None:
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise StoreUnusable(
            f"the database keeps text as {encoding}, and names of jobs are Unicode",
            hint="make another: createdb -T template0 -E UTF8 NAME",
        )


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _prepare_file(path: Path) -> None:
    try:
        kind = network_kind(path.resolve(), read_mounts())
        if kind is not None:
            raise StoreUnusable(f"{path} lies on a network file system ({kind})", hint=_MOVE_HINT)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.chmod(0o600)
    except OSError as error:
        if lacks_room(error):
            raise DiskFull(f"no room for {path}", hint="free some space and try again") from error
        raise StoreUnusable(f"{path} cannot be opened: {error.strerror}", hint=_MOVE_HINT) from error


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise _translate(error, engine) from error
    except NoneFree as error:
        raise StoreUnusable("too many transactions at once", hint="try again in a moment") from error
    except UnicodeEncodeError as error:
        raise InvalidRequest("a text holds half a character pair", hint="it cannot be written as UTF-8") from error
    except AssertionError as error:
        if is_interrupt(error):  # SQLAlchemy's own clean-up, cut in half by Ctrl-C
            raise KeyboardInterrupt from error
        raise


_LITTLE_BYTES: Final = 1 << 18

_SQLITE: Final[dict[int, tuple[str, str]]] = {
    sqlite3.SQLITE_BUSY: ("is in use by another process", "close what holds it (a backup, a database browser)"),
    sqlite3.SQLITE_READONLY: ("is read-only", _MOVE_HINT),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", _MOVE_HINT),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "check the disk"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", "put it aside, or restore a copy, and start again"),
    sqlite3.SQLITE_NOTADB: ("is not a database, or damaged", "put it aside, or restore a copy, and start again"),
}


def _no_room_beside(where: str) -> bool:
    try:
        return shutil.disk_usage(Path(where.removeprefix("sqlite:///")).parent).free < _LITTLE_BYTES
    except OSError:
        return False


def _translate(error: DBAPIError, engine: Engine) -> LabError:
    if isinstance(error, IntegrityError):
        said = str(error.orig).partition("\n")[0]
        return Conflict(f"a row is already there, or its job is not: {said}", hint="read again and decide again")
    if engine.dialect.name != "sqlite":
        return postgresql.translated(error, engine.url)
    where = engine.url.render_as_string()
    cause: Any = error.orig
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_IOERR and _no_room_beside(where):
        code = sqlite3.SQLITE_FULL  # what SQLite says when its shared memory file cannot grow
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(f"no room left for {where}", hint="free some space and try again")
    what, hint = _SQLITE.get(code, (f"failed: {cause}", "see the server's log"))
    return StoreUnusable(f"{where} {what}", hint=hint)
