"""Which prediction a webhook speaks of, once its signature is right. The secret is Replicate's, and may be rotated."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Final

from simpletuner_lab.core.errors import Forbidden, LabError, ProviderUnavailable
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers._http import Api, Unreadable
from simpletuner_lab.providers._replicate_notes import reference
from simpletuner_lab.providers._standard_webhooks import require_form, verify

_ASK_AGAIN_S: Final = 60.0
"""The secret is asked for this often at most, whatever came of it: a forger must not make us ask."""


class Hooks:
    """Verifies webhooks.

    Args:
        api: has the secret.
        token: opens it.
        now: the time.
    """

    def __init__(self, api: Api, token: Callable[[], Secret], now: Callable[[], float]) -> None:
        self._api = api
        self._token = token
        self._now = now
        self._asking = threading.Lock()
        """Held while the secret is asked for; one that is known is used without."""
        self._secrets: tuple[Secret, ...] = ()
        self._asked_at: float | None = None
        self._problem = ""

    def prediction(self, headers: Mapping[str, str], body: bytes) -> str:
        """The id of the prediction.

        Raises:
            Forbidden: the signature is not right, or too old.
            LabError: the secret cannot be had now.
        """
        self._require_signed(headers, body)
        try:
            told = json.loads(body)
        except ValueError as error:
            raise Unreadable("a signed webhook is not JSON", hint="it is ignored") from error
        found = told.get("id") if isinstance(told, dict) else None
        if not isinstance(found, str):
            raise Unreadable("a signed webhook names no prediction", hint="it is ignored")
        return reference(found)

    def _require_signed(self, headers: Mapping[str, str], body: bytes) -> None:
        require_form(headers, now=self._now())
        known = self._secrets or self._first()
        try:
            verify(headers, body, known, now=self._now())
        except Forbidden:
            renewed = self._renewed(known)
            if renewed == known:
                raise
            verify(headers, body, renewed, now=self._now())

    def _first(self) -> tuple[Secret, ...]:
        """Asks, unless that has just failed."""
        with self._asking:
            if not self._secrets:
                if self._is_too_soon():
                    raise ProviderUnavailable(
                        f"the signing secret is not asked for again so soon: {self._problem}", hint="wait a minute"
                    )
                self._secrets = (self._ask(),)
            return self._secrets

    def _renewed(self, known: tuple[Secret, ...]) -> tuple[Secret, ...]:
        """The present secret beside the one before it; `known` where it is too soon to ask, or nothing is new."""
        with self._asking:
            if self._secrets != known:
                return self._secrets
            if self._is_too_soon():
                return known
            try:
                found = self._ask()
            except LabError:
                return known
            if found.reveal() != known[0].reveal():
                self._secrets = (found, known[0])
            return self._secrets

    def _is_too_soon(self) -> bool:
        return self._asked_at is not None and 0 <= self._now() - self._asked_at < _ASK_AGAIN_S

    def _ask(self) -> Secret:
        try:
            return self._answer()
        except LabError as error:
            self._problem = error.message
            raise
        finally:
            self._asked_at = self._now()

    def _answer(self) -> Secret:
        told = self._api.get("/v1/webhooks/default/secret", self._token())
        key = told.get("key") if isinstance(told, dict) else None
        if not isinstance(key, str) or not key:
            raise Unreadable("Replicate did not say the secret of its webhooks", hint="try again")
        return Secret(key)
