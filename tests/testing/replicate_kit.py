"""What tests of the emulated Replicate share: what answers must look like, clients that check it, and who gets webhooks."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import replicate
from jsonschema import Draft202012Validator
from tornado import web

from simpletuner_lab.testing.listening import HOST, listening
from simpletuner_lab.testing.replicate_emulator import Account, ReplicateEmulator, version_id

NOW = 1_780_000_000.0
ACCOUNTS = {
    "r8_ann": Account(username="ann", name="Ann"),
    "r8_bob": Account(username="bob", type="organization"),
}
TRAINER = "simpletuner/advanced-trainer"
TRAINER_VERSION = version_id(TRAINER)
HELLO = "replicate/hello-world"

# ------------------------------------------------------------------------------- answers, written from the facts

TEXT = {"type": "string"}
MAYBE_TEXT = {"type": ["string", "null"]}
HEX_32 = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
HEX_64 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
URL = {"type": "string", "pattern": "^http://127"}
MOMENT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(\d{3}|\d{6})Z$"}
STATUS = {"enum": ["starting", "processing", "succeeded", "failed", "canceled", "aborted"]}


def an_object(required: dict, optional: dict | None = None) -> dict:
    """An object of these members and no others."""
    return {
        "type": "object", "required": list(required), "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }  # fmt: skip


def a_page(of: dict) -> dict:
    link = {"anyOf": [URL, {"type": "null"}]}
    return an_object({"next": link, "previous": link, "results": {"type": "array", "items": of}})


PROBLEM = an_object({"detail": TEXT}, {"title": TEXT, "status": {"type": "integer"}})
ACCOUNT = an_object({"type": {"enum": ["user", "organization"]}, "username": TEXT, "name": TEXT}, {"github_url": TEXT})
HARDWARE = {"type": "array", "items": an_object({"name": TEXT, "sku": TEXT})}
VERSION = an_object({"id": HEX_64, "created_at": MOMENT, "cog_version": TEXT, "openapi_schema": {"type": "object"}})
MODEL = an_object(
    {
        "url": URL, "owner": TEXT, "name": TEXT, "description": MAYBE_TEXT, "visibility": {"enum": ["public", "private"]},
        "github_url": MAYBE_TEXT, "paper_url": MAYBE_TEXT, "license_url": MAYBE_TEXT, "run_count": {"type": "integer"},
        "cover_image_url": MAYBE_TEXT, "default_example": {}, "latest_version": VERSION,
    },
    {"is_official": {"type": "boolean"}},
)  # fmt: skip
PREDICTION = an_object(
    {
        "id": {"type": "string", "pattern": "^[0-9a-z]{26}$"}, "model": TEXT, "version": {"anyOf": [HEX_64, {"const": "hidden"}]},
        "input": {"type": "object"}, "output": {}, "data_removed": {"type": "boolean"}, "error": MAYBE_TEXT, "status": STATUS,
        "created_at": MOMENT, "urls": an_object({"web": URL, "get": URL, "cancel": URL}),
    },
    {
        "logs": TEXT, "metrics": {"type": "object", "additionalProperties": {"type": "number"}}, "started_at": MOMENT,
        "completed_at": MOMENT, "source": {"enum": ["web", "api"]}, "deployment": TEXT, "deadline": MOMENT, "destination": TEXT,
    },
)  # fmt: skip
FILE = an_object(
    {
        "id": TEXT, "name": TEXT, "content_type": TEXT, "size": {"type": "integer"}, "etag": HEX_32,
        "checksums": an_object({"sha256": HEX_64, "md5": HEX_32}), "metadata": {"type": "object"}, "created_at": MOMENT,
        "expires_at": MOMENT, "urls": an_object({"get": URL}),
    }
)  # fmt: skip

ANSWERS = (
    ("GET /v1/account", 200, ACCOUNT),
    ("GET /v1/hardware", 200, HARDWARE),
    ("GET /v1/models/[^/]+/[^/]+", 200, MODEL),
    ("GET /v1/models/[^/]+/[^/]+/versions", 200, a_page(VERSION)),
    ("GET /v1/models/[^/]+/[^/]+/versions/[^/]+", 200, VERSION),
    ("POST /v1/models/[^/]+/[^/]+/versions/[^/]+/trainings", 201, PREDICTION),
    ("POST (/v1|/v1/models/[^/]+/[^/]+|/v1/deployments/[^/]+/[^/]+)/predictions", 201, PREDICTION),
    ("POST (/v1|/v1/models/[^/]+/[^/]+|/v1/deployments/[^/]+/[^/]+)/predictions", 202, PREDICTION),
    ("GET /v1/(predictions|trainings)", 200, a_page(PREDICTION)),
    ("GET /v1/(predictions|trainings)/[^/]+", 200, PREDICTION),
    ("POST /v1/(predictions|trainings)/[^/]+/cancel", 200, PREDICTION),
    ("POST /v1/files", 201, FILE),
    ("GET /v1/files", 200, a_page(FILE)),
    ("GET /v1/files/[^/]+", 200, FILE),
    ("GET /v1/webhooks/default/secret", 200, an_object({"key": {"type": "string", "pattern": "^whsec_.{32,}$"}})),
)
BYTES = re.compile(r"GET (/v1/files/[^/]+/download|/delivery/[^/]+/[^/]+)")


def check(response: httpx.Response) -> None:
    """That an answer is one that the API gives.

    Raises:
        jsonschema.ValidationError: it is not.
        AssertionError: it is of a kind that the API does not have.
    """
    asked = f"{response.request.method} {response.url.path}"
    kind = response.headers.get("content-type", "")
    if response.status_code >= 400:
        assert kind == "application/problem+json", (asked, kind)
        Draft202012Validator(PROBLEM).validate(response.json())
        return
    if BYTES.fullmatch(asked) or asked.partition("/_emu/")[1]:
        return
    if response.status_code == 204:
        assert (response.content, re.fullmatch("DELETE /v1/files/[^/]+", asked) is not None) == (b"", True)
        return
    schemas = [
        schema for what, status, schema in ANSWERS if status == response.status_code and re.fullmatch(what, asked)
    ]
    assert (len(schemas), kind) == (1, "application/json"), asked
    Draft202012Validator(schemas[0]).validate(response.json())


class Checking(httpx.HTTPTransport):
    """Lets no answer pass that the API does not give."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        response.request = request
        response.read()
        check(response)
        return response


def _transport(checked: bool) -> httpx.HTTPTransport:
    return Checking(verify=False) if checked else httpx.HTTPTransport(verify=False)  # no TLS, so no certificates


def client(emulator: ReplicateEmulator, token: str = "r8_ann", *, checked: bool = True) -> replicate.Client:
    """The real client of the line 1.0."""
    return replicate.Client(api_token=token, base_url=emulator.url, transport=_transport(checked), trust_env=False)


def plain(emulator: ReplicateEmulator, token: str = "r8_ann", *, checked: bool = True) -> httpx.Client:
    """HTTP and nothing else."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(
        base_url=emulator.url, headers=headers, transport=_transport(checked), trust_env=False, timeout=10
    )


def fetched(url: str) -> httpx.Response:
    """What is there for everybody."""
    with httpx.Client(transport=_transport(checked=False), trust_env=False) as anybody:
        return anybody.get(url)


def statuses(emulator: ReplicateEmulator) -> list[str]:
    return [one.status.value for one in emulator.predictions]


# ----------------------------------------------------------------------------------------------- who gets webhooks


@dataclass(frozen=True, slots=True)
class Received:
    """One webhook as it came in."""

    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["Webhook-Id"]

    @property
    def status(self) -> str:
        return self.told["status"]

    @property
    def timestamp(self) -> int:
        return int(self.headers["Webhook-Timestamp"])

    def verify(self, secret: str) -> None:
        """With the check of the real client.

        Raises:
            ValueError: the signature is not of these bytes.
        """
        assert self.headers["Webhook-Signature"].startswith("v1,")
        replicate.webhook.Webhooks.validate(
            headers=self.headers, body=self.body.decode(), secret=replicate.webhook.WebhookSigningSecret(key=secret)
        )


@dataclass(slots=True)
class Receiver:
    """A server for webhooks: `answers` are given in their order, then 200."""

    url: str = ""
    got: list[Received] = field(default_factory=list)
    answers: deque[int] = field(default_factory=deque)

    @property
    def told(self) -> list[str]:
        return [one.status for one in self.got]


class _Hook(web.RequestHandler):
    def initialize(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def post(self) -> None:
        self.receiver.got.append(Received(dict(self.request.headers), self.request.body))
        status = self.receiver.answers.popleft() if self.receiver.answers else 200
        if 300 <= status < 400:
            self.set_header("Location", self.receiver.url + "/elsewhere")
        self.set_status(status)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Takes webhooks until the block ends."""
    receiver = Receiver()
    with listening(web.Application([(r"/.*", _Hook, {"receiver": receiver})])) as port:
        receiver.url = f"http://{HOST}:{port}"
        yield receiver
