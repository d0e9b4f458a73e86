"""Verifies webhooks that are signed as Standard Webhooks has it: HMAC-SHA256 over `{id}.{timestamp}.{raw body}`.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final

from simpletuner_lab.core.errors import CredentialUnusable, Forbidden
from simpletuner_lab.core.secret import Secret

TOLERANCE_S: Final = 300.0
"""How far a timestamp may lie from our clock, before or after."""

_MARK: Final = "whsec_"
_VERSION: Final = "v1"
_ID: Final = re.compile(r"[!-\-/-~]{1,256}")
"""Printable, without a full stop: that is what divides the signed text, and an id with one could be cut elsewhere."""

_SIGNATURE: Final = re.compile(r"[A-Za-z0-9+/]{43}=")
"""32 bytes in base64."""

_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[Secret], *, now: float) -> str:
    """Checks the signature and the age of a webhook; returns its id, the same in every try of one webhook.

    Args:
        headers: as they came; names in any case.
        body: the raw bytes.
        secrets: base64, with or without `whsec_` and padding. Several while one takes over from another: any will do.
        now: seconds since the epoch.

    Raises:
        Forbidden: no signature is right, or the time is not; which of them is not said.
        CredentialUnusable: there is no secret, or one is empty or not base64.
    """
    keys = [_key(secret) for secret in secrets]
    if not keys:
        raise CredentialUnusable("webhooks cannot be verified: there is no signing secret")
    message_id, timestamp, signatures = _read(headers, now)
    signed = f"{message_id}.{timestamp}.".encode() + body
    wanted = [base64.b64encode(hmac.digest(key, signed, "sha256")) for key in keys]
    if not any(hmac.compare_digest(one, other.encode()) for one in wanted for other in signatures):
        raise _refused()
    return message_id


def require_form(headers: Mapping[str, str], *, now: float) -> None:
    """Refuses what no secret can make right, before anybody is asked for one.

    Raises:
        Forbidden: no header has the form of a signature, or the time is not right; which of them is not said.
    """
    _read(headers, now)


def _read(headers: Mapping[str, str], now: float) -> tuple[str, str, list[str]]:
    """Id, timestamp, and what may be signatures of it."""
    given = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not _ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp):
        raise _refused()
    signatures = _signatures(given.get("webhook-signature", ""))
    if not signatures or abs(now - int(timestamp)) > TOLERANCE_S:
        raise _refused()
    return message_id, timestamp, signatures


def _signatures(header: str) -> list[str]:
    """Those of the one version that is read; `v1a` is another, of a key pair."""
    found = (entry.partition(",") for entry in header.split(" "))
    return [text for version, _, text in found if version == _VERSION and _SIGNATURE.fullmatch(text)]


def _key(secret: Secret) -> bytes:
    text = secret.reveal().removeprefix(_MARK).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):  # the latter for what is not ASCII; no cause, which would show the secret
        key = b""
    if not key:
        raise CredentialUnusable("webhooks cannot be verified: a signing secret is empty or not base64")
    return key


def _refused() -> Forbidden:
    return Forbidden("the webhook is not signed as it must be, or its time is more than 5 minutes off")
