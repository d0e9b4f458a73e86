"""Standard Webhooks: the published vector, every way to be wrong, and what other implementations say of the same."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replicate.webhook import Webhooks, WebhookSigningSecret
from standardwebhooks import Webhook, WebhookVerificationError

from simpletuner_lab.core.errors import CredentialUnusable, Forbidden
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers._standard_webhooks import TOLERANCE_S, verify
from simpletuner_lab.testing.replicate_emulator import signature

KEY = "MfKQ9r8GKYqrTwjUPD8I" + "LPZIo2LaLaSw"  # published with the specification
OTHER = base64.b64encode(bytes(range(32))).decode()
REFUSAL = "the webhook is not signed as it must be, or its time is more than 5 minutes off"
NOW = 1_614_265_330


@dataclass(frozen=True)
class Message:
    """Standard Webhooks' own vector."""

    id: str = "msg_p5jXN8AQM9LWM0D4loKWxJek"
    timestamp: str = str(NOW)
    signature: str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    body: bytes = b'{"test": 2432232314}'

    @property
    def headers(self) -> dict[str, str]:
        told = {"webhook-id": self.id, "webhook-timestamp": self.timestamp, "webhook-signature": self.signature}
        return {name: value for name, value in told.items() if value}


VECTOR = Message()
DIGEST = VECTOR.signature.removeprefix("v1,")


def signed(at: int, key: str = KEY, body: bytes = VECTOR.body) -> Message:
    return replace(VECTOR, timestamp=str(at), signature=signature(key, VECTOR.id, at, body), body=body)


def accepts(message: Message, *keys: str, now: float = NOW) -> bool:
    try:
        found = verify(message.headers, message.body, [Secret(key) for key in keys or (KEY,)], now=now)
    except Forbidden as error:
        return bool(error.message != REFUSAL)  # one sentence for every reason
    assert found == message.id
    return True


WRONG = [
    *(replace(VECTOR, id=""), replace(VECTOR, timestamp=""), replace(VECTOR, signature="")),
    *(replace(VECTOR, timestamp=text) for text in ("hello", "1614265330.0", "+1614265330", "1_614_265_330", "9" * 5000)),
    replace(VECTOR, timestamp="١٦١٤٢٦٥٣٣٠"),
    *(signed(NOW - 301), signed(NOW + 301), signed(0), signed(NOW, OTHER)),
    replace(signed(NOW, body=b'{"a":1.%d.2}' % NOW), id=VECTOR.id + f'.{NOW}.{{"a":1', body=b"2}"),  # cut elsewhere
    replace(VECTOR, body=b'{"test":2432232314}'),  # the same JSON in other bytes
    *(replace(VECTOR, signature=f"{version},{DIGEST}") for version in ("v2", "v1a", "V1", "v", "")),
    *(replace(VECTOR, signature=text) for text in (DIGEST, "v1", "v1,", "v1,%%%", "v1,ü", "v1,\udce9", "v1,g0hM", " ", f"v1 {DIGEST}")),
    replace(VECTOR, signature=VECTOR.signature.rstrip("=")),
    replace(VECTOR, signature=f"v1,{DIGEST},v1"),
]  # fmt: skip

RIGHT = [
    VECTOR,
    *(signed(NOW - 300), signed(NOW + 300)),
    replace(VECTOR, signature=f"v1,{OTHER} {VECTOR.signature}"),
    replace(VECTOR, signature=f"v1a,x v2,{DIGEST}  v1,%% {VECTOR.signature} v1,"),
    signed(NOW, body=b""),
    signed(NOW, body=bytes(range(256))),
]


@pytest.mark.parametrize("message", WRONG, ids=range(len(WRONG)))
def test_refused(message: Message) -> None:
    assert not accepts(message)


@pytest.mark.parametrize("message", RIGHT, ids=range(len(RIGHT)))
def test_taken(message: Message) -> None:
    assert accepts(message)


@pytest.mark.parametrize("key", [KEY, "whsec_" + KEY])
def test_the_prefix_of_a_secret_says_nothing(key: str) -> None:
    assert accepts(VECTOR, key)


@pytest.mark.parametrize("key", ["c2VjcmV0LQ==", "c2VjcmV0LQ=", "c2VjcmV0LQ", "whsec_c2VjcmV0LQ"])
def test_the_padding_of_a_secret_says_nothing(key: str) -> None:
    assert accepts(signed(NOW, "c2VjcmV0LQ=="), key)


def test_names_of_headers_come_in_any_case() -> None:
    headers = {name.title(): value for name, value in VECTOR.headers.items()}
    assert verify(headers, VECTOR.body, [Secret(KEY)], now=NOW) == VECTOR.id


def test_a_secret_takes_over_from_another() -> None:
    assert accepts(VECTOR, OTHER, KEY)
    assert accepts(VECTOR, KEY, OTHER)
    assert accepts(replace(VECTOR, signature=f"{signed(NOW, OTHER).signature} {VECTOR.signature}"), OTHER)
    assert not accepts(VECTOR, OTHER)


@pytest.mark.parametrize("keys", [(), ("",), ("whsec_",), ("whsec_==",), ("not base64!",), ("ü",), (KEY, ""), ("A",)])
def test_a_secret_that_is_none_is_a_fault_of_the_set_up(keys: tuple[str, ...]) -> None:
    """Even for what another secret would verify: HMAC with an empty key is one that anybody computes."""
    with pytest.raises(CredentialUnusable, match="webhooks cannot be verified") as caught:
        verify(VECTOR.headers, VECTOR.body, [Secret(key) for key in keys], now=NOW)
    assert caught.value.__cause__ is None
    assert all(key not in caught.value.message for key in keys if key)


@given(st.integers(0, len(VECTOR.body) + len(VECTOR.id) + len(VECTOR.timestamp) - 1), st.integers(1, 127))
def test_no_byte_may_change(position: int, flip: int) -> None:
    """Of the body, the id or the timestamp, as far as a header can carry the change."""
    whole = VECTOR.id.encode("latin-1") + VECTOR.timestamp.encode() + VECTOR.body
    changed = bytearray(whole)
    changed[position] ^= flip
    text = changed.decode("latin-1")
    cut, end = len(VECTOR.id), len(VECTOR.id) + len(VECTOR.timestamp)
    message = replace(VECTOR, id=text[:cut], timestamp=text[cut:end], body=bytes(changed[end:]))
    assert not accepts(message, now=int(text[cut:end]) if text[cut:end].isdecimal() else NOW)


@given(st.binary(min_size=1), st.binary(min_size=24, max_size=64), st.integers(-400, 400))
def test_another_implementation_signs(body: bytes, key: bytes, late: int) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    text = body.decode("latin-1")
    at = datetime.fromtimestamp(NOW, UTC)
    message = replace(VECTOR, signature=Webhook(secret).sign(VECTOR.id, at, text), body=text.encode())
    assert accepts(message, secret, now=NOW + late) is (abs(late) <= TOLERANCE_S)


# Those of the two below go by the clock of the machine: what was signed at NOW is signed at the present time there.


def present(message: Message) -> Message:
    """The same kind of message, now."""
    at = int(datetime.now(UTC).timestamp()) + int(message.timestamp) - NOW
    made = signature(KEY, message.id, at, message.body)
    return replace(message, timestamp=str(at), signature=message.signature.replace(_own(message), made))


def _own(message: Message) -> str:
    return signature(KEY, message.id, int(message.timestamp), message.body)


CHECKED = [
    VECTOR, signed(NOW - 290), signed(NOW + 290), signed(NOW - 310), signed(NOW + 310), signed(NOW, body=b'"\\u00fc"'),
    replace(VECTOR, signature=f"v1,{OTHER} {VECTOR.signature}"),
    replace(VECTOR, body=b'{"test": 2432232315}'),
]  # fmt: skip


@pytest.mark.parametrize("message", CHECKED, ids=range(len(CHECKED)))
def test_standardwebhooks_says_the_same(message: Message) -> None:
    message = present(message)
    try:
        assert Webhook(KEY).verify(message.body, message.headers) == json.loads(message.body)
        theirs = True
    except WebhookVerificationError:
        theirs = False
    assert accepts(message, now=datetime.now(UTC).timestamp()) is theirs


@pytest.mark.parametrize("message", CHECKED, ids=range(len(CHECKED)))
def test_replicate_says_the_same(message: Message) -> None:
    message = present(message)
    headers, secret = message.headers, WebhookSigningSecret(key="whsec_" + KEY)
    try:
        Webhooks.validate(headers=headers, body=message.body.decode(), secret=secret, tolerance=int(TOLERANCE_S))
        theirs = True
    except ValueError:
        theirs = False
    assert accepts(message, now=datetime.now(UTC).timestamp()) is theirs


def test_replicate_takes_versions_that_it_cannot_read() -> None:
    """Which is why its function is not used."""
    message = replace(VECTOR, signature=f"v1a,{DIGEST}")
    Webhooks.validate(
        headers=message.headers, body=message.body.decode(), secret=WebhookSigningSecret(key="whsec_" + KEY)
    )
    assert not accepts(message)
