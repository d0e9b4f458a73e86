"""A provider whose every answer a test chooses; and what holds real answers against the description of the API, and remembers which documented answers were seen."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from simpletuner_lab.core.errors import Forbidden, TokenUnusable
from simpletuner_lab.core.provider import CausedWebhook, Options
from simpletuner_lab.testing import eventually
from tests.lab_kit import config, dataloader
from tests.server.server_kit import TOKEN, Server
from tests.services.remote_kit import Elsewhere

ENDED = {"completed", "failed", "cancelled"}


class Fickle(Elsewhere):
    """It has webhooks, may have lost its token, and sends a webhook when it is made to."""

    def options(self) -> Options:
        if self.place.fault("options"):
            raise TokenUnusable("there is no token", hint="set one")
        return super().options()

    def webhook(self, headers: Mapping[str, str], body: bytes) -> str | None:
        if headers.get("webhook-signature") != "right":
            raise Forbidden("the signature is not right")
        return body.decode()

    def test_webhook(self, url: str) -> CausedWebhook:
        headers = {"webhook-signature": "right", "webhook-id": "a test"}
        threading.Thread(target=httpx.post, args=(url,), kwargs={"content": b"a run", "headers": headers}).start()
        return CausedWebhook(said="it costs nothing", ref="a run")


class Judge:
    """An event hook for httpx: every answer must be documented, of the type that is told, and fit its schema."""

    def __init__(self, document: dict[str, Any], base: str = "") -> None:
        self._document = document
        self._base = base.rstrip("/")
        self._paths = [
            (re.compile(re.sub(r"\\\{path\\\}", ".+", re.sub(r"\\\{(?!path)\w+\\\}", "[^/]+", re.escape(path)))), path)
            for path in sorted(document["paths"], key=lambda path: path.count("{"))
        ]
        self.seen: set[tuple[str, str, str]] = set()

    def documented(self) -> set[tuple[str, str, str]]:
        """Each verb, path and status."""
        return {
            (verb, path, status)
            for path, verbs in self._document["paths"].items()
            for verb, told in verbs.items()
            for status in told["responses"]
        }

    def __call__(self, answer: httpx.Response) -> None:
        request = answer.request
        where = request.url.path.removeprefix(self._base)
        path = next(path for pattern, path in self._paths if pattern.fullmatch(where))
        verb, status = request.method.lower(), str(answer.status_code)
        told = self._document["paths"][path][verb]["responses"]
        assert status in told, (verb, path, status, answer.read())
        media = answer.headers.get("Content-Type", "").partition(";")[0]
        content = told[status].get("content", {})
        assert verb == "head" or bool(content) == bool(answer.read()), (verb, path, status)
        if content and "*/*" not in content:
            assert media in content, (verb, path, status, media)
            if schema := content[media].get("schema"):
                self.check(schema, json.loads(answer.read()))
        self.seen.add((verb, path, status))

    def check(self, schema: dict[str, Any], value: Any) -> None:
        """Whether a value fits a schema of the document."""
        whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        whole["components"] = self._document["components"]
        errors = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(whole).iter_errors(value)]
        assert errors == [], value


def client(server: Server, judge: Judge, below: str) -> httpx.Client:
    """The owner's, whose every answer is judged."""
    headers = {"Authorization": f"token {TOKEN}"}
    return httpx.Client(base_url=server.url + below, headers=headers, timeout=60, event_hooks={"response": [judge]})


def body(images: Path, how: str = "quick", **more: Any) -> dict[str, Any]:
    return {"config": config(how), "dataloader_config": dataloader(images), **more}


def submitted(http: httpx.Client, images: Path, how: str = "quick", **more: Any) -> str:
    asked = body(images, how, **more)
    digest = http.post("/jobs/plan", json=asked).json()["digest"]
    answer = http.post("/jobs/submit", json=asked | {"approve": digest})
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


def ended(http: httpx.Client, job_id: str) -> dict[str, Any]:
    def job() -> dict[str, Any]:
        return http.get(f"/jobs/{job_id}?only=job").json()["job"]

    return eventually(job, lambda seen: seen["status"] in ENDED, patience_s=40)
