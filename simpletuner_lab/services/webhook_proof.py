"""A webhook that this lab sends to itself, to see whether others would arrive. Nobody else can make one.

It is signed with a key that is derived from the server key, good for one minute and taken once, and it is answered with
what only that key gives: so a stranger can neither use it nor pose as the lab that took it. No provider ever reads it.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.errors import Forbidden
from simpletuner_lab.services.grants import ServerKey
from simpletuner_lab.services.webhooks import Taken

HEADER: Final = "x-simpletuner-webhook-test"
MAX_BODY_BYTES: Final = 4096

_GOOD_FOR_S: Final = 60.0
_FORM: Final = re.compile(r"([0-9a-f]{32})\.([0-9]{1,12})\.([0-9a-f]{64})")
_SAMPLE: Final = "spaces  and é, 学, \u2028, / and \\ as they are; "
"""What a body meets on its way that somebody reads and writes anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What is sent, and what must come back."""

    header: str
    body: bytes
    answer: str


class Prover:
    """Makes proofs and takes them."""

    def __init__(self, key: ServerKey, clock: Callable[[], float]) -> None:
        self._key = key
        self._clock = clock
        self._taken = Taken(clock)

    def make(self, provider_id: str) -> Proof:
        """One to send to a provider's route."""
        nonce, at = secrets.token_hex(16), str(int(self._clock()))
        body = json.dumps({"webhook_test": nonce, "sample": _SAMPLE * 20}, ensure_ascii=False).encode()
        mac = self._mac(provider_id, nonce, at, body)
        return Proof(header=f"{nonce}.{at}.{mac}", body=body, answer=self._answer(nonce))

    def take(self, provider_id: str, header: str, body: bytes) -> str:
        """The answer to one that has come.

        Raises:
            Forbidden: it is not of this lab, not whole, older than a minute, or was taken before.
        """
        told = _FORM.fullmatch(header)
        if told is None:
            raise _refused()
        nonce, at, mac = told.groups()
        right = hmac.compare_digest(mac, self._mac(provider_id, nonce, at, body))
        if not right or abs(self._clock() - int(at)) > _GOOD_FOR_S or not self._taken.add(nonce):
            raise _refused()
        return self._answer(nonce)

    def _mac(self, provider_id: str, nonce: str, at: str, body: bytes) -> str:
        return self._key.mac(f"webhook-test:{provider_id}:{nonce}:{at}:".encode() + body)

    def _answer(self, nonce: str) -> str:
        return self._key.mac(f"webhook-test-answer:{nonce}".encode())


def _refused() -> Forbidden:
    return Forbidden("this is no test of this lab's webhooks, or it is not as it was sent")
