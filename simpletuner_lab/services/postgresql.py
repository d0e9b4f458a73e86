"""What is PostgreSQL's own: opening a database by its URL, and its errors in our words. No password is ever in one."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError

from simpletuner_lab.core.errors import DiskFull, InvalidRequest, LabError, StaleRecord, StoreUnreachable, StoreUnusable
from simpletuner_lab.core.secret import MASK, Secret
from simpletuner_lab.services.home import DATABASE_URL

CONNECT_S: Final = 10
SILENCE_S: Final = 20
"""After so long without an answer to what was sent, a connection counts as lost."""

_DRIVER: Final = "postgresql+psycopg"
_DIALECTS: Final = frozenset({"postgres", "postgresql", _DRIVER})
_LONGEST: Final = 300
_URL_HINT: Final = f"{DATABASE_URL} is postgresql://USER:PASSWORD@HOST:PORT/NAME"
_BACK_HINT: Final = "see that the server runs and can be reached; the lab goes on by itself once it is back"


def engine_of(address: Secret, *, busy_s: float) -> Engine:
    """An engine for a database URL; nothing is connected yet.

    Each connection is tried before it is used, so that a restart of the server costs the transactions under way and no
    more. Isolation is stated, whatever the server's own default is: writers wait for each other's lock and then must
    see what was committed.

    Args:
        address: the URL.
        busy_s: so long a statement waits for a lock.

    Raises:
        StoreUnusable: it is no URL of a PostgreSQL database, or the driver is not installed.
    """
    url = _url_of(address)
    limits = f"-c lock_timeout={busy_s * 1000:.0f}"
    try:
        return create_engine(
            url,
            connect_args={
                "connect_timeout": CONNECT_S,
                "application_name": "simpletuner_lab",
                "client_encoding": "utf8",
                "options": " ".join((*url.normalized_query.get("options", ()), limits)),
                "keepalives_idle": SILENCE_S,
                "tcp_user_timeout": SILENCE_S * 1000,
            },
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            hide_parameters=True,
        )
    except ImportError as error:
        hint = 'pip install "simpletuner-lab[postgresql]"'
        raise StoreUnusable("the driver for PostgreSQL, psycopg, is not installed", hint=hint) from error


def place(url: URL) -> str:
    """What a database is called towards a person."""
    host = url.host or ", ".join(url.normalized_query.get("host", ())) or "this machine"
    return f"PostgreSQL database {url.database} at {host}" + (f", port {url.port}" if url.port else "")


def translated(error: DBAPIError, url: URL) -> LabError:
    """An error of the server or of the way to it, for a person."""
    cause: Any = error.orig
    state, where, said = getattr(cause, "sqlstate", None) or "", place(url), _said(cause, url)
    if isinstance(error, DataError):
        return InvalidRequest(f"the database takes no such value: {said}", hint="a text may hold no NUL character")
    if error.connection_invalidated or state.startswith(("08", "57P")):
        return StoreUnreachable(f"the connection to {where} was lost: {said}", hint=_BACK_HINT)
    if not state:
        return _not_let_in(where, said)
    if state in _AGAIN:
        return StaleRecord(f"{where} took back a transaction: {said}", hint="read again and decide again")
    if state in _FULL:
        return DiskFull(f"no room left for {where}", hint="free some space and try again")
    what, hint = _STATES.get(state, ("failed", "see the server's log"))
    return StoreUnusable(f"{where} {what}: {said}", hint=hint)


_AGAIN: Final = frozenset({"40001", "40P01"})
"""Serialisation failure, deadlock. Ours take one lock, first; a stranger's transactions may cross them."""

_FULL: Final = frozenset({"53100"})

_STATES: Final = {
    "25006": ("is read-only", "name the primary server"),
    "42501": ("is not ours to write", "let the user create and use tables in its schema"),
    "55P03": ("is in use by another process", "close what holds it (a backup, a database browser)"),
    "3F000": ("has no schema to work in", "see search_path of the user"),
}


def _not_let_in(where: str, said: str) -> LabError:
    """A refused connection: the driver has the server's sentence alone."""
    if "does not exist" in said and "database" in said:
        return StoreUnusable(f"there is no {where}: {said}", hint="make it: createdb -E UTF8 NAME")
    if any(word in said for word in ("authentication", "password", "role ", "pg_hba")):
        return StoreUnusable(f"{where} does not let us in: {said}", hint=f"check user and password; {_URL_HINT}")
    return StoreUnreachable(f"{where} cannot be reached: {said}", hint=_BACK_HINT)


def _said(cause: object, url: URL) -> str:
    """An error's own words, in one line and without a password."""
    text = " ".join(str(cause).split())
    in_query = (value for name, values in url.normalized_query.items() if "password" in name for value in values)
    for secret in filter(None, (url.password, *in_query)):
        text = text.replace(secret, MASK)
    return text[:_LONGEST]


def _url_of(address: Secret) -> URL:
    try:
        url = make_url(address.reveal().strip())
    except (ArgumentError, ValueError):
        raise StoreUnusable(f"{DATABASE_URL} is no database URL", hint=_URL_HINT) from None
    if url.drivername not in _DIALECTS or not url.database:
        raise StoreUnusable(f"{DATABASE_URL} names no PostgreSQL database", hint=_URL_HINT)
    return url.set(drivername=_DRIVER)
