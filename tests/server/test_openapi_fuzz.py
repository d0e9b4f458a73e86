"""Whatever a caller sends, as the description of the API has it or not, gets an answer that the description tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks

from tests.lab_kit import quick_home
from tests.server.server_kit import TOKEN, Server

pytestmark = pytest.mark.slow

load_all_checks()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fuzz")
    running = Server(folder, quick_home(folder).root, "/user/ann/").start()
    yield running
    running.stop()


@pytest.fixture
def api(server: Server) -> schemathesis.BaseSchema:
    headers = {"Authorization": f"token {TOKEN}"}
    schema = schemathesis.openapi.from_url(server.url + "api/cloud/openapi.json", headers=headers)
    schema.config.update(base_url=server.url.rstrip("/"))
    return schema


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_answer_is_told(case: schemathesis.Case) -> None:
    case.call_and_validate(headers={"Authorization": f"token {TOKEN}"})
