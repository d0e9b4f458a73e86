"""Webhooks: signed as Standard Webhooks has it, filtered, throttled; the last one of a prediction is tried again."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from simpletuner_lab.testing.replicate_emulator.clock import Alarm, Timeline
from simpletuner_lab.testing.replicate_emulator.faults import Faults, WebhookFault
from simpletuner_lab.testing.replicate_emulator.records import Conduct, Delivery, Prediction, Status, Word

_PREFIX: Final = "whsec_"
_KEY_BYTES: Final = 32
_OLD_S: Final = 600
_HELD_S: Final = 5.0
_ANSWER_S: Final = 5.0
_THROTTLED: Final = frozenset({Word.OUTPUT, Word.LOGS})


def new_secret() -> str:
    """A signing secret, as GET /v1/webhooks/default/secret gives one."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature` for a body, exactly as it is sent.

    Args:
        secret: base64 with or without padding, with or without `whsec_`.
        message_id: `webhook-id`.
        timestamp: `webhook-timestamp`, in Unix seconds.
        body: the raw bytes.
    """
    text = secret.removeprefix(_PREFIX)
    key = base64.b64decode(text + "=" * (-len(text) % 4))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, "sha256").digest()
    return "v1," + base64.b64encode(digest).decode()


@dataclass(slots=True, kw_only=True)
class _Message:
    """One webhook: the same id and the same body in every try."""

    id: str
    url: str
    prediction_id: str
    word: Word
    body: bytes
    fault: WebhookFault


@dataclass(slots=True, kw_only=True)
class _Throttle:
    """When a word was last told of a prediction, and what still waits to be."""

    sent_at: float
    waiting: Alarm | None = None


class Courier:
    """Sends webhooks.

    Args:
        timeline: on which tries and throttles are timed.
        conduct: how long they are.
        faults: what goes wrong on the way.
        tell: a prediction as JSON.
    """

    def __init__(
        self, *, timeline: Timeline, conduct: Conduct, faults: Faults, tell: Callable[[Prediction], dict[str, Any]]
    ) -> None:
        self._timeline, self._conduct, self._faults, self._tell = timeline, conduct, faults, tell
        self._throttles: dict[tuple[str, Word], _Throttle] = {}
        self._held: dict[str, list[_Message]] = {}
        self._client: AsyncHTTPClient | None = None
        self.secret = new_secret()
        self.deliveries: list[Delivery] = []

    def announce(self, prediction: Prediction, word: Word) -> None:
        """Sends what has just happened, if anybody is to know, and when the throttle lets it."""
        if prediction.webhook is None:
            return
        if word is Word.COMPLETED:
            for one in _THROTTLED:
                self._forget(prediction, one)
        silent = prediction.status is Status.ABORTED and not self._conduct.tells_aborted
        if word not in prediction.words or silent:
            return
        if word not in _THROTTLED:
            self._send(prediction, word)
            return
        throttle = self._throttles.get((prediction.id, word))
        now = self._timeline.now()
        if throttle is None or now - throttle.sent_at >= self._conduct.throttle_s:
            self._throttled(prediction, word)
        elif throttle.waiting is None:
            rest = throttle.sent_at + self._conduct.throttle_s - now
            throttle.waiting = self._timeline.after(rest, lambda: self._throttled(prediction, word))

    def rotate(self) -> str:
        """Signs with a new secret from now on, and gives it."""
        self.secret = new_secret()
        return self.secret

    def close(self) -> None:
        """Sends no more."""
        if self._client is not None:
            self._client.close()

    def _throttled(self, prediction: Prediction, word: Word) -> None:
        self._throttles[prediction.id, word] = _Throttle(sent_at=self._timeline.now())
        self._send(prediction, word)

    def _forget(self, prediction: Prediction, word: Word) -> None:
        throttle = self._throttles.pop((prediction.id, word), None)
        if throttle is not None and throttle.waiting is not None:
            throttle.waiting.cancel()

    def _send(self, prediction: Prediction, word: Word) -> None:
        fault = self._faults.take_webhook(word)
        if fault.rotated:
            self.rotate()
        message = _Message(
            id="msg_" + secrets.token_urlsafe(18), url=prediction.webhook or "", prediction_id=prediction.id, word=word,
            body=json.dumps(self._tell(prediction)).encode(), fault=fault,
        )  # fmt: skip
        if fault.dropped:
            return
        if fault.reordered:
            self._held.setdefault(prediction.id, []).append(message)
            self._timeline.after(_HELD_S, lambda: self._let_go(prediction.id))
            return
        if fault.late_s:
            self._timeline.after(fault.late_s, lambda: self._try([message], 1))
            return
        sent = [message, message] if fault.duplicate else [message]
        self._try([*sent, *self._held.pop(prediction.id, [])], 1)

    def _let_go(self, prediction_id: str) -> None:
        held = self._held.pop(prediction_id, [])
        if held:
            self._try(held, 1)

    def _try(self, messages: list[_Message], attempt: int) -> None:
        async def one_by_one() -> None:
            for message in messages:
                await self._post(message, attempt)

        self._timeline.spawn(one_by_one())

    async def _post(self, message: _Message, attempt: int) -> None:
        if self._client is None:
            self._client = SimpleAsyncHTTPClient(force_instance=True)
        at = self._timeline.now()
        timestamp = int(at) - (_OLD_S if message.fault.old_timestamp else 0)
        signed = message.body + b" " if message.fault.bad_signature else message.body
        request = HTTPRequest(
            message.url, method="POST", body=message.body, follow_redirects=False, request_timeout=_ANSWER_S,
            headers={
                "Content-Type": "application/json",
                "User-Agent": "Replicate/1.0",
                "webhook-id": message.id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": signature(self.secret, message.id, timestamp, signed),
            },
        )  # fmt: skip
        try:
            status = (await self._client.fetch(request, raise_error=False)).code
        except (OSError, ValueError, HTTPClientError):  # the last: hung up on in the middle
            status = 0
        if status == 599:  # tornado's word for no answer
            status = 0
        self.deliveries.append(
            Delivery(
                message_id=message.id, prediction_id=message.prediction_id, word=message.word, attempt=attempt, at=at,
                status=status,
            )
        )  # fmt: skip
        again = message.word is Word.COMPLETED and not 200 <= status < 300
        if again and attempt <= len(self._conduct.retry_after_s):
            self._timeline.after(self._conduct.retry_after_s[attempt - 1], lambda: self._try([message], attempt + 1))
