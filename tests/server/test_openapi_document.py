"""The description of the API by itself: every verb has words, and every code is one of ours."""

from __future__ import annotations

import pytest
from jupyter_server.auth.decorator import authorized
from tornado import web

from simpletuner_lab.core import errors
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.openapi import document, routes
from simpletuner_lab.server.operations import Operation
from simpletuner_lab.server.routes import described_rules


def test_every_verb_has_words_and_a_name_of_its_own() -> None:
    told = [one for verbs in document(described_rules())["paths"].values() for one in verbs.values()]
    assert len({one["operationId"] for one in told}) == len(told)
    assert [one["operationId"] for one in told if not one["summary"] or not one["description"]] == []


class Undescribed(LabHandler):
    """`GET` and `PUT /half`: one verb is told of, the other is not."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers nothing."""

    @web.authenticated
    @authorized
    async def put(self) -> None:
        """Nobody tells of it."""


OPERATIONS = {Undescribed.get: Operation(answer=None)}


def test_a_verb_that_is_not_told_of_is_a_fault() -> None:
    with pytest.raises(LookupError, match=r"Undescribed\.put"):
        list(routes([("/api/cloud/half", Undescribed)]))


def test_every_refusal_has_a_known_code() -> None:
    codes = {one.code for one in vars(errors).values() if isinstance(one, type) and issubclass(one, LabError)}
    told = {
        code
        for verbs in document(described_rules())["paths"].values()
        for verb in verbs.values()
        for answer in verb["responses"].values()
        for content in answer.get("content", {}).values()
        for code in content.get("schema", {}).get("properties", {}).get("code", {}).get("enum", ())
    }
    assert {code for code in told if not code.startswith("http_")} <= codes
