"""A provider whose every answer a test chooses; and what holds real answers against the description of the API, and remembers which documented answers were seen."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from simpletuner_lab.core.errors import Forbidden, TokenUnusable
from simpletuner_lab.core.provider import Options
from tests.services.remote_kit import Elsewhere


class Fickle(Elsewhere):
    """It has webhooks, and may have lost its token."""

    def options(self) -> Options:
        if self.place.fault("options"):
            raise TokenUnusable("there is no token", hint="set one")
        return super().options()

    def webhook(self, headers: Mapping[str, str], body: bytes) -> str | None:
        if headers.get("webhook-signature") != "right":
            raise Forbidden("the signature is not right")
        return body.decode()


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
