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
    given = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not _ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp):
        raise _refused()
    signed = f"{message_id}.{timestamp}.".encode() + body
    told = [text.encode(errors="replace") for text in _signatures(given.get("webhook-signature", ""))]
    wanted = [base64.b64encode(hmac.digest(key, signed, "sha256")) for key in keys]
    right = any(hmac.compare_digest(one, other) for one in wanted for other in told)
    if not right or abs(now - int(timestamp)) > TOLERANCE_S:
        raise _refused()
    return message_id


def _signatures(header: str) -> list[str]:
    """Those of the one version that is read; `v1a` is another, of a key pair."""
    found = (entry.partition(",") for entry in header.split(" "))
    return [text for version, _, text in found if version == _VERSION]


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
