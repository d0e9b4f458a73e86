"""Credentials of the object endpoint: made for one attempt of one job, or by hand; and the owner's own (SPEC O2, D1)."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from simpletuner_lab.core.destination import OUTPUTS_BUCKET, job_prefix
from simpletuner_lab.core.errors import InvalidRequest, NotFound, ServerKeyUnusable
from simpletuner_lab.core.grant import (
    ALL_VERBS,
    ANY_BUCKET,
    READING,
    Grant,
    derive_secret,
    grant_id,
    is_grant_id,
)
from simpletuner_lab.core.naming import MARKER, is_bucket
from simpletuner_lab.core.secret import Secret

KEY_BYTES: Final = 32

_NAME_LENGTH: Final = 100


class GrantRows(Protocol):
    """Where grants are kept; the store implements it."""

    def insert_grant(self, grant: Grant) -> None:
        """Adds a grant; its id is new."""

    def grant(self, grant_id: str, /) -> Grant | None:
        """The grant with this id, revoked or not."""

    def revoke_grants(self, job_id: str, at: float) -> None:
        """Sets `revoked_at` on each grant of the job that has none, or a later one."""

    def ids_of_job(self, job_id: str) -> Sequence[str]:
        """The ids of a job's grants, revoked or not."""

    def by_hand(self) -> Sequence[Grant]:
        """The grants that belong to no job, the newest first."""

    def revoke_by_hand(self, grant_id: str, at: float) -> None:
        """Sets `revoked_at` on a grant that belongs to no job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a client signs with."""

    access_key: str
    secret_key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a grant made by hand is to allow. Times are seconds since the epoch; None for no end, or no quota."""

    name: str
    bucket: str
    prefix: str = ""
    read_only: bool = False
    expires_at: float | None = None
    quota_bytes: int | None = None


class ServerKey:
    """The 32 bytes from which every secret of this server is derived. Never printed, never stored elsewhere."""

    __slots__ = ("_bytes",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ServerKeyUnusable(f"a server key has {KEY_BYTES} bytes, this one has {len(key)}")
        self._bytes = key

    def __repr__(self) -> str:
        return "ServerKey(********)"

    @classmethod
    def load_or_create(cls, path: Path, random: Callable[[int], bytes] = os.urandom) -> ServerKey:
        """Reads the key, or makes it where none is. Of several processes that try at once, one makes it.

        Raises:
            ServerKeyUnusable: not a plain file of 32 bytes that its owner alone may read.
        """
        while True:
            key = _read_key(path)
            if key is not None:
                return cls(key)
            _create_key(path, random(KEY_BYTES))

    def secret_for(self, access_key: str) -> Secret:
        """The secret access key of an access key id."""
        return Secret(derive_secret(self._bytes, access_key))

    def mac(self, text: bytes) -> str:
        """HMAC-SHA256 under this key, as hex. The text begins with what it is for, as no other use of the key does."""
        return hmac.new(self._bytes, text, hashlib.sha256).hexdigest()

    def owner_id(self) -> str:
        """The owner's access key id: fixed for this key, so that it can be shown again."""
        return grant_id(hmac.new(self._bytes, b"owner", hashlib.sha256).digest()[:10])


class Grants:
    """Issues, revokes and finds grants. `clock` gives seconds since the epoch, `random` that many random bytes."""

    def __init__(
        self,
        rows: GrantRows,
        key: ServerKey,
        clock: Callable[[], float],
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._rows = rows
        self._key = key
        self._clock = clock
        self._random = random
        self._owner = Grant(
            id=key.owner_id(), job_id=None, bucket=ANY_BUCKET, prefix="", verbs=ALL_VERBS, expires_at=None
        )

    def issue_for_job(
        self,
        job_id: str,
        attempt: int,
        expires_at: float,
        quota_bytes: int | None = None,
        *,
        endpoint_url: str = "",
    ) -> tuple[Grant, Credentials]:
        """Credentials for one attempt: the job's own prefix, nothing else. Those of earlier attempts end first.

        `endpoint_url` is where the run is told to deliver: its signatures are right for that place as well.

        Raises:
            ValueError: the job id is not one path segment, or attempts are not counted from one.
        """
        if not job_id or "/" in job_id or attempt < 1:
            raise ValueError(f"no grant for attempt {attempt} of job {job_id!r}")
        self.revoke_job(job_id)
        grant = Grant(
            id=grant_id(self._random(10)),
            job_id=job_id,
            bucket=OUTPUTS_BUCKET,
            prefix=job_prefix(job_id),
            verbs=ALL_VERBS,
            expires_at=expires_at,
            quota_bytes=quota_bytes,
            endpoint_url=endpoint_url,
            created_at=self._clock(),
        )
        self._rows.insert_grant(grant)
        return grant, self._credentials(grant.id)

    def secrets_of(self, job_id: str) -> tuple[Secret, ...]:
        """The secrets of all grants that a job ever had."""
        return tuple(self._key.secret_for(grant_id) for grant_id in self._rows.ids_of_job(job_id))

    def revoke_job(self, job_id: str, *, at: float | None = None) -> None:
        """Ends every grant of the job, now or at a later time; one that ends earlier stays so."""
        self._rows.revoke_grants(job_id, self._clock() if at is None else at)

    def issue_by_hand(self, terms: Terms) -> tuple[Grant, Credentials]:
        """Credentials that the owner hands out: they hold until their end, or until they are revoked.

        Raises:
            InvalidRequest: a name, bucket or prefix that cannot be.
        """
        _require_possible(terms)
        grant = Grant(
            id=grant_id(self._random(10)),
            job_id=None,
            bucket=terms.bucket,
            prefix=terms.prefix,
            verbs=READING if terms.read_only else ALL_VERBS,
            expires_at=terms.expires_at,
            quota_bytes=terms.quota_bytes,
            name=terms.name,
            created_at=self._clock(),
        )
        self._rows.insert_grant(grant)
        return grant, self._credentials(grant.id)

    def by_hand(self) -> Sequence[Grant]:
        """The grants made by hand, the newest first, with those that have ended."""
        return self._rows.by_hand()

    def revoke(self, access_key: str) -> Grant:
        """Ends a grant made by hand, at once; one that has ended stays so.

        Raises:
            NotFound: there is none with this id.
        """
        found = self._rows.grant(access_key) if is_grant_id(access_key) else None
        if found is None or found.job_id is not None:
            raise NotFound(f"no grant made by hand has the id {access_key}", hint="stcloud storage grants lists them")
        self._rows.revoke_by_hand(access_key, self._clock())
        return self._rows.grant(access_key) or found

    def owner(self) -> Credentials:
        """Credentials of the person whose lab this is: every bucket. They last as long as the server key."""
        return self._credentials(self._owner.id)

    def resolve(self, access_key: str) -> tuple[Grant, Secret] | None:
        """The grant behind an access key id and the secret to verify with; None for a key we never gave out."""
        if not is_grant_id(access_key):
            return None
        if (owner := self.owner_by(access_key)) is not None:
            return owner
        grant = self._rows.grant(access_key)
        return None if grant is None else (grant, self._key.secret_for(grant.id))

    def owner_by(self, access_key: str) -> tuple[Grant, Secret] | None:
        """The owner's grant and secret when this is the owner's key. Asks nobody, and answers at once."""
        return (self._owner, self._key.secret_for(self._owner.id)) if access_key == self._owner.id else None

    def _credentials(self, access_key: str) -> Credentials:
        return Credentials(access_key=access_key, secret_key=self._key.secret_for(access_key))


def _require_possible(terms: Terms) -> None:
    """A grant for what cannot exist would look like a gift and be none."""
    if not terms.name or len(terms.name) > _NAME_LENGTH or not terms.name.isprintable():
        raise InvalidRequest(f"a grant's name has 1 to {_NAME_LENGTH} characters, all of them printable")
    if not is_bucket(terms.bucket):
        hint = "3 to 63 of a-z, 0-9, dot and hyphen, no address, and not 'api'"
        raise InvalidRequest(f"{terms.bucket!r} is no bucket", hint=hint)
    segments = terms.prefix.split("/")
    if (
        not terms.prefix.isprintable()
        or "" in segments[:-1]
        or {".", "..", MARKER} & {segment.casefold() for segment in segments}
        or "\\" in terms.prefix
    ):
        raise InvalidRequest(
            f"{terms.prefix!r} is the beginning of no key", hint="such as models/ann/, with no slash in front"
        )
    if terms.quota_bytes is not None and terms.quota_bytes < 1:
        raise InvalidRequest("a quota is at least one byte", hint="leave it out for none")


def _read_key(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServerKeyUnusable(f"{path} cannot be opened: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ServerKeyUnusable(f"{path} is not a plain file")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ServerKeyUnusable(
                f"{path} can be read by others", hint=f"chmod 600 {path}, or delete it for a new one"
            )
        key = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        hint = "put the file back from a backup, or delete it: a new key is made and old credentials end"
        raise ServerKeyUnusable(f"{path} does not hold exactly {KEY_BYTES} bytes", hint=hint)
    return key


def _create_key(path: Path, key: bytes) -> None:
    """Writes the whole key under another name and links it into place, so that nobody reads half of it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(descriptor)
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()
