"""Widgets in a real kernel beside a real server: clicks over REST, a server that comes back elsewhere, another token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.client import LabClient
from simpletuner_lab.services.codec import decode
from simpletuner_lab.services.forms import RequestForm
from simpletuner_lab.services.home import Home
from simpletuner_lab.widgets.line import Line
from tests.server.server_kit import TOKEN, Server
from tests.widgets.widget_kit import Kernel, form, surroundings


@pytest.fixture(scope="module")
def server(folder: Path, home: Home) -> Iterator[Server]:
    running = Server(folder, home.root, "/user/ann/").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def kernel(folder: Path, home: Home, server: Server) -> Iterator[Kernel]:
    running = Kernel(folder, home.root)
    yield running
    running.stop()


def test_a_click_over_rest_is_heard_of_while_a_cell_waits(kernel: Kernel, images: Path, server: Server) -> None:
    model = form(kernel, "clicked", images)
    cell = kernel.start("print(clicked.wait().status)")
    kernel.until(lambda: [m for m in kernel.seen if m["msg_type"] == "stream" and m["parent_header"]["msg_id"] == cell])
    lab, state = server.client(), kernel.state(model)
    asked = decode(RequestForm, state["request"], what="request").request()
    job = lab.submit(asked, approve=lab.plan(asked).digest, key=state["key"], entry="widget")
    said = kernel.ended(cell)
    assert said.count("Waiting for your agreement") == 1
    assert said.endswith("completed\n")
    assert kernel.state(model)["job_id"] == job.job_id
    assert kernel.state(model)["lab"] == lab.lab_id
    assert kernel.run("print(clicked.diff(clicked).differences, clicked.draft().provider)").strip() == "() local"
    kernel.run(
        "import simpletuner_lab as stc; again = stc.submit(clicked.draft(), name='again'); job = again.submit(approve=again.plan.digest)"
    )
    assert kernel.run("print(job.config_name, clicked.diff(again).same_digest, again.wait().status)").split() == [
        "again", "True", "completed"
    ]  # fmt: skip


def test_traits_hold_no_token(kernel: Kernel, images: Path) -> None:
    model = form(kernel, "secretive", images)
    kernel.run("_ = secretive.submit(approve=secretive.plan.digest); _ = secretive.wait()")
    assert kernel.value("type(secretive._line._client).__name__") == "LabClient"
    assert TOKEN not in json.dumps(kernel.state(model), default=str)


def test_a_line_finds_its_server_again_after_a_new_token(
    folder: Path, home: Home, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in surroundings(folder, home.root).items():
        monkeypatch.setenv(name, value)
    line = Line(server.client())
    line._client = LabClient(server.url, "the token of yesterday")
    assert line.ask(lambda lab: lab.jobs(limit=1)).total >= 0
    assert line._client.url.rstrip("/") == server.url.rstrip("/")


def test_a_server_that_comes_back_on_another_port_is_found(
    kernel: Kernel, images: Path, folder: Path, home: Home, server: Server
) -> None:
    model = form(kernel, "long", images, "wait")
    kernel.run("_ = long.submit(approve=long.plan.digest)")
    kernel.until(lambda: (kernel.state(model)["job"] or {}).get("status") == "running")
    server.kill()
    kernel.until(lambda: kernel.value("long.trouble"))
    other = Server(folder, home.root, "/").start()
    try:
        kernel.until(lambda: not kernel.value("long.trouble"))
        assert kernel.value("long._line._client.url.rstrip('/')") == other.url.rstrip("/")
        assert kernel.value("long.cancel().cancel_requested") == "True"
        assert (
            kernel.run("try:\n    await long\nexcept st.JobFailed as error:\n    print(error.reason)").strip()
            == "cancelled"
        )
        assert kernel.value("len(long.metrics)") == "5"
    finally:
        other.stop()
