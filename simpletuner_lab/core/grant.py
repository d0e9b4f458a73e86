"""Who may do what at the object endpoint (SPEC O2): one grant is one bucket, one prefix, some verbs, an end."""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import string
from dataclasses import dataclass
from typing import Final

ENDPOINT_PATH: Final = "/api/cloud/storage"
"""What the URL of an object endpoint has below the URL of its server."""

MAX_JOB_BYTES: Final = 500 << 30
"""What a job may store, unless a setting says otherwise: hundreds of checkpoints of a large LoRA."""

ID_PREFIX: Final = "STLG"
ID_LENGTH: Final = 20
ANY_BUCKET: Final = "*"
"""Bucket of the owner's grant; never the name of a bucket."""

SECRET_LENGTH: Final = 40
_ID_LETTERS: Final = frozenset(string.ascii_uppercase + string.digits)


class Verb(enum.StrEnum):
    """What a call does to the store. Creating, filling, completing and aborting a multipart upload are all PUT."""

    GET = "GET"
    HEAD = "HEAD"
    LIST = "LIST"
    PUT = "PUT"
    DELETE = "DELETE"


ALL_VERBS: Final = frozenset(Verb)
READING: Final = frozenset({Verb.GET, Verb.HEAD, Verb.LIST})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Leave to use part of the store. Its id is the access key id; the secret is derived and never stored.

    Times are seconds since the epoch; `revoked_at` may lie ahead (a last upload may be under way when a job ends).
    None for `expires_at` means it lasts, for `quota_bytes` no limit of its own. `endpoint_url` is where its holder was
    told to go, so a signature for that place is right; `name` is what the owner called a grant made by hand.
    """

    id: str
    job_id: str | None
    bucket: str
    prefix: str
    verbs: frozenset[Verb]
    expires_at: float | None
    revoked_at: float | None = None
    quota_bytes: int | None = None
    endpoint_url: str = ""
    name: str = ""
    created_at: float = 0.0

    @property
    def is_owner(self) -> bool:
        """True for the credentials of the person whose lab this is: every bucket, and bucket calls."""
        return self.bucket == ANY_BUCKET


def is_live(grant: Grant, now: float) -> bool:
    """Neither revoked nor past its end."""
    return all(end is None or now < end for end in (grant.revoked_at, grant.expires_at))


def allows(grant: Grant, verb: Verb, bucket: str, key: str, now: float) -> bool:
    """Whether this grant covers an object, or for LIST every key that starts with `key`. Checked at each request."""
    return allows_bucket(grant, verb, bucket, now) and key.startswith(grant.prefix)


def allows_bucket(grant: Grant, verb: Verb, bucket: str, now: float) -> bool:
    """Whether this grant may ask about the bucket itself: does it exist, make it if it does not."""
    return is_live(grant, now) and verb in grant.verbs and (grant.is_owner or bucket == grant.bucket)


def grant_id(random: bytes) -> str:
    """An access key id from ten random bytes: `STLG` and sixteen of A-Z, 2-7."""
    if len(random) != 10:
        raise ValueError("a grant id is made of exactly ten bytes")
    return ID_PREFIX + base64.b32encode(random).decode("ascii")


def is_grant_id(text: str) -> bool:
    """Whether the text has the form of an access key id of ours; asked before the text reaches a database."""
    return len(text) == ID_LENGTH and text.startswith(ID_PREFIX) and _ID_LETTERS.issuperset(text)


def derive_secret(server_key: bytes, access_key: str) -> str:
    """The secret access key that belongs to an access key id under this server's key (SPEC O2)."""
    mac = hmac.new(server_key, b"grant:" + access_key.encode("ascii"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).decode("ascii")[:SECRET_LENGTH]
