"""A private PostgreSQL server on loopback, ended with the block, and databases in it. It knows no other server here."""

from __future__ import annotations

import glob
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from simpletuner_lab.testing import eventually

USER = "lab_owner"
PASSWORD = "s3cret-Of-The-Test"
_DEBIAN = "/usr/lib/postgresql/*/bin"
_TUNING = (
    "fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=60",
    "wal_level=minimal", "max_wal_senders=0", "autovacuum=off",
)  # fmt: skip


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`, the newest there is; None where PostgreSQL is not installed."""
    found = [*glob.glob(_DEBIAN), *filter(None, [os.path.dirname(shutil.which("postgres") or "")])]
    return max(map(Path, found), key=lambda folder: folder.parts, default=None)


class Postgres:
    """One server: it can be ended and started again over the same data."""

    def __init__(self, folder: Path, *, safe: bool = False) -> None:
        self._folder = folder
        self._bin = programs()
        self._tuning = _TUNING[3:] if safe else _TUNING
        self._as = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        self._names = itertools.count(1)
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        if self._as:
            shutil.chown(self._folder, "postgres", "postgres")
        password = self._folder / "password"
        password.write_text(PASSWORD)
        self._run(
            "initdb", "-D", str(self._data), "-U", USER, "--pwfile", str(password), "--auth-local=trust",
            "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip

    def start(self) -> None:
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port), "-k", str(self._folder)]
        command += ["-c", "listen_addresses=127.0.0.1", *(word for setting in self._tuning for word in ("-c", setting))]
        with (self._folder / "server.log").open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd="/", **self._as)
        eventually(self._answers, patience_s=30)

    def stop(self) -> None:
        """At once; transactions under way are broken off, and connections lost."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
            self.process = None

    def url(self, name: str, schema: str = "public") -> str:
        """Of a schema of a database in it, over its Unix socket, without a password."""
        where = f"host={self._folder}&port={self.port}&options=-c%20search_path%3D{schema}"
        return f"postgresql+psycopg://{USER}@/{name}?{where}"

    def tcp_url(self, name: str, *, user: str = USER, password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{name}"

    def create_schema(self) -> str:
        """Makes a schema with nothing in it: a database of one's own for a hundredth of the time. Its URL."""
        name = f"lab_{next(self._names)}"
        self.order(f"CREATE SCHEMA {name}")
        return self.url("postgres", name)

    def order(self, *statements: str) -> None:
        """As the server's owner, each by itself."""
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=120, **self._as)
        assert done.returncode == 0, done.stdout + done.stderr

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self._folder / "server.log").read_text(errors="replace")
        try:
            self.order("SELECT 1")
        except sa.exc.OperationalError:
            return False
        return True


@contextmanager
def postgres(*, safe: bool = False) -> Iterator[Postgres]:
    """A server of its own until the block ends.

    Args:
        safe: it writes through to the disk, as one with real data does.
    """
    folder = Path(tempfile.mkdtemp(prefix="simpletuner-pg-"))  # a short path: that of a socket is bounded
    server = Postgres(folder, safe=safe)
    try:
        server.prepare()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def require_postgres() -> None:
    """Skips the test where PostgreSQL is not installed; CI must have it."""
    if programs() is None:
        assert not os.environ.get("CI_REQUIRE_ALL"), "CI must have PostgreSQL"
        pytest.skip("there is no PostgreSQL here")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
