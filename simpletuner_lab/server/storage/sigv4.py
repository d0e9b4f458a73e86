"""Verifies AWS Signature Version 4, in the Authorization header and in presigned URLs. Pure: the time is given.

Rules: the S3 API reference, "Authenticating Requests (AWS Signature Version 4)". S3 encodes a path once, so the
canonical URI is the path exactly as it was received. The signature is verified before anyone asks how the payload
travels: that order is what keeps an unsigned trailer from becoming a way in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from simpletuner_lab.server.storage.errors import S3Error

ALGORITHM: Final = "AWS4-HMAC-SHA256"
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
MAX_SKEW_S: Final = 15 * 60
MAX_PRESIGN_S: Final = 7 * 24 * 3600
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_PRESIGN_NAMES: Final = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
_V2_NAMES: Final = frozenset({"AWSAccessKeyId", "Signature"})
_V2_REFUSED: Final = (
    'this is Signature Version 2; sign with version 4 (boto3: Config(signature_version="s3v4")), the only one accepted'
)
_UNSIGNED: Final = "there are headers in the request that begin with x-amz- and are not signed, or host is not signed"
_HEX64: Final = re.compile(r"[0-9a-f]{64}")
_DIGITS: Final = re.compile(r"[0-9]{1,9}")
_SPACES: Final = re.compile(r"[ \t]+")
_UNRESERVED: Final = re.compile(rb"[A-Za-z0-9._~-]*")
_TIMESTAMP: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a client may believe it sent the request: the Host header and the raw path it signed."""

    host: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request as it was received: text is latin-1 for bytes, nothing decoded, header names in lower case.

    `joined` has each header once, as the signature sees it: several joined with commas. `pairs` are the decoded
    parameters of the query, in order; a plus is a space, `?uploads` is `?uploads=`.
    """

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    joined: Mapping[str, str] = field(init=False, repr=False, compare=False)
    pairs: Sequence[tuple[bytes, bytes]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        joined: dict[str, str] = {}
        for name, value in self.headers:
            text = value.strip(" \t")
            text = _SPACES.sub(" ", text) if "  " in text or "\t" in text else text
            joined[name] = f"{joined[name]},{text}" if name in joined else text
        object.__setattr__(self, "joined", joined)
        object.__setattr__(self, "pairs", _pairs(self.query))

    def header(self, name: str) -> str | None:
        """The value of a header, None where there is none."""
        return self.joined.get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who a request says it is from, read and checked for form and time, not yet verified."""

    access_key: str
    scope: str
    timestamp: str
    signed_headers: tuple[str, ...]
    signature: str
    payload: str
    presigned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """What the signatures of chunks continue from: a verified request's key, time, scope and signature."""

    key: bytes
    timestamp: str
    scope: str
    signature: str


def read_claim(request: Request, now: float) -> Claim:
    """Finds the signature of a request and checks its form, its times and that it covers what it must.

    Args:
        request: as received.
        now: seconds since the epoch.

    Raises:
        S3Error: nothing is signed, it cannot be read, it is too old or too new, or it leaves x-amz- headers out.
    """
    query = _single(request.pairs)
    authorization = request.header("authorization")
    presigned = any(f"X-Amz-{name}" in query for name in _PRESIGN_NAMES)
    if authorization is not None and (presigned or query.keys() & _V2_NAMES):
        raise S3Error("InvalidArgument", "only one way to authenticate is allowed: header or query, not both")
    if presigned:
        claim = _from_query(request, query, now)
    elif query.keys() & _V2_NAMES:
        raise S3Error("InvalidRequest", _V2_REFUSED)
    elif authorization is None:
        raise S3Error("AccessDenied", "the request is not signed, and nothing here is public")
    else:
        claim = _from_header(request, authorization, now)
    present = [name for name in request.joined if name.startswith("x-amz-")]
    if not {"host", *present} <= set(claim.signed_headers):
        raise S3Error("AccessDenied", _UNSIGNED)
    return claim


def verify(request: Request, claim: Claim, secret: str, places: Sequence[Place]) -> Seed:
    """Compares the signature, in constant time, with the one the secret gives at any of the places.

    Raises:
        S3Error: SignatureDoesNotMatch.
    """
    key = _signing_key(secret, claim.scope)
    matches = False
    for place in places:
        canonical = hashlib.sha256(_canonical(request, claim, place)).hexdigest()
        text = f"{ALGORITHM}\n{claim.timestamp}\n{claim.scope}\n{canonical}"
        matches |= hmac.compare_digest(sign(key, text).encode(), claim.signature.encode("latin-1"))
    if not matches:
        raise S3Error(
            "SignatureDoesNotMatch",
            "the signature is not the one this server computes: check the secret key, and that no proxy changes "
            "the Host header or the path",
        )
    return Seed(key=key, timestamp=claim.timestamp, scope=claim.scope, signature=claim.signature)


def sign(key: bytes, text: str) -> str:
    """The hexadecimal HMAC-SHA256 that every signature of version 4 is."""
    return hmac.digest(key, text.encode("latin-1"), "sha256").hex()


@lru_cache(maxsize=256)
def _signing_key(secret: str, scope: str) -> bytes:
    """The key of one secret for one day, region and service: the same for all requests of that day."""
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode("latin-1"), "sha256")
    return key


def places(request: Request, base_url: str, public_url: str | None) -> tuple[Place, ...]:
    """As received, and once more as seen from `public_url`, which stands where `base_url` stands here.

    Nothing the sender says in a forwarded header counts.
    """
    received = Place(host=request.header("host") or "", path=request.path)
    depth = base_url.rstrip("/").count("/") + 1
    below = request.path.split("/", depth)
    if public_url is None or len(below) <= depth:
        return (received,)
    url = urlsplit(public_url)
    default = {"http": 80, "https": 443}.get(url.scheme)
    name = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
    host = name if url.port in {None, default} else f"{name}:{url.port}"
    return received, Place(host=host, path=f"{url.path.rstrip('/')}/{below[depth]}")


def _pairs(query: str) -> list[tuple[bytes, bytes]]:
    pieces = (piece.partition("=") for piece in query.replace("+", "%20").split("&") if piece)
    return [(_unquoted(name), _unquoted(value)) for name, _, value in pieces]


def _unquoted(text: str) -> bytes:
    raw = text.encode("latin-1")
    return unquote_to_bytes(raw) if "%" in text else raw


def _quoted(raw: bytes) -> str:
    return raw.decode() if _UNRESERVED.fullmatch(raw) else quote_from_bytes(raw, safe="-_.~")


def _single(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        text = name.decode("latin-1")
        if text in found:
            raise S3Error("InvalidArgument", "a query parameter is given twice")
        found[text] = value.decode("latin-1")
    return found


def _from_header(request: Request, authorization: str, now: float) -> Claim:
    scheme, _, rest = authorization.partition(" ")
    if scheme == "AWS":
        raise S3Error("InvalidRequest", _V2_REFUSED)
    fields = dict(_pair(piece) for piece in rest.split(",")) if scheme == ALGORITHM else {}
    if fields.keys() != {"Credential", "SignedHeaders", "Signature"}:
        raise S3Error(
            "AuthorizationHeaderMalformed", f"expected {ALGORITHM} Credential=..., SignedHeaders=..., Signature=..."
        )
    timestamp = _header_time(request)
    if abs(_seconds(timestamp) - now) > MAX_SKEW_S:
        raise S3Error("RequestTimeTooSkewed", "the clocks of client and server differ by more than 15 minutes")
    payload = request.header("x-amz-content-sha256")
    if payload is None:
        raise S3Error("InvalidRequest", "the header x-amz-content-sha256 is missing")
    return _claim(fields, timestamp, payload, "AuthorizationHeaderMalformed", presigned=False)


def _from_query(request: Request, query: dict[str, str], now: float) -> Claim:
    code = "AuthorizationQueryParametersError"
    fields = {name: query[f"X-Amz-{name}"] for name in _PRESIGN_NAMES if query.get(f"X-Amz-{name}")}
    if len(fields) != len(_PRESIGN_NAMES) or fields["Algorithm"] != ALGORITHM:
        wanted = ", ".join(f"X-Amz-{name}" for name in _PRESIGN_NAMES)
        raise S3Error(code, f"a presigned URL carries {wanted}, each once, with {ALGORITHM}")
    if not _DIGITS.fullmatch(fields["Expires"]):
        raise S3Error(code, "X-Amz-Expires is a number of seconds")
    start, expires_s = _seconds(fields["Date"]), int(fields["Expires"])
    if not 1 <= expires_s <= MAX_PRESIGN_S:
        raise S3Error("AccessDenied", f"X-Amz-Expires is from 1 to {MAX_PRESIGN_S} seconds")
    if start - now > MAX_SKEW_S:
        raise S3Error("AccessDenied", "the request is not valid yet")
    if now >= start + expires_s:
        raise S3Error("AccessDenied", "the request has expired")
    payload = request.header("x-amz-content-sha256") or query.get("X-Amz-Content-Sha256") or UNSIGNED
    return _claim(fields, fields["Date"], payload, code, presigned=True)


def _claim(fields: dict[str, str], timestamp: str, payload: str, code: str, *, presigned: bool) -> Claim:
    access_key, *scope = fields["Credential"].split("/")
    if len(scope) != 4 or not all(scope) or scope[2:] != ["s3", "aws4_request"] or scope[0] != timestamp[:8]:
        raise S3Error(code, "the credential is KEY/YYYYMMDD/REGION/s3/aws4_request, with the day of the request")
    signed_headers = tuple(fields["SignedHeaders"].split(";"))
    if list(signed_headers) != sorted({name.lower() for name in signed_headers}) or not all(signed_headers):
        raise S3Error(code, "the signed headers are a sorted list of names in lower case")
    if not _HEX64.fullmatch(fields["Signature"]):
        raise S3Error("SignatureDoesNotMatch", "a signature is 64 hexadecimal digits")
    return Claim(
        access_key=access_key,
        scope="/".join(scope),
        timestamp=timestamp,
        signed_headers=signed_headers,
        signature=fields["Signature"],
        payload=payload,
        presigned=presigned,
    )


def _pair(piece: str) -> tuple[str, str]:
    name, _, value = piece.strip().partition("=")
    return name, value


def _header_time(request: Request) -> str:
    """`x-amz-date`, else `Date`, in the form a signature uses."""
    given = request.header("x-amz-date")
    if given is not None:
        return given
    try:
        date = parsedate_to_datetime(request.header("date") or "")
        return date.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    except (ValueError, OverflowError) as error:
        raise S3Error("AccessDenied", "a signed request needs a valid x-amz-date or Date header") from error


def _seconds(timestamp: str) -> float:
    digits = _TIMESTAMP.fullmatch(timestamp)
    try:
        year, month, day, hour, minute, second = map(int, digits.groups() if digits else ())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError as error:
        raise S3Error("AccessDenied", "a signed request needs a valid x-amz-date or Date header") from error


def _canonical(request: Request, claim: Claim, place: Place) -> bytes:
    pairs = sorted(
        (_quoted(name), _quoted(value))
        for name, value in request.pairs
        if not (claim.presigned and name == b"X-Amz-Signature")
    )
    lines = []
    for name in claim.signed_headers:
        value = place.host if name == "host" else request.header(name)
        if value is None:
            raise S3Error("SignatureDoesNotMatch", "a signed header is not in the request")
        lines.append(f"{name}:{value}\n")
    query = "&".join(f"{name}={value}" for name, value in pairs)
    parts = (request.method, place.path or "/", query, "".join(lines), ";".join(claim.signed_headers), claim.payload)
    return "\n".join(parts).encode("latin-1")
