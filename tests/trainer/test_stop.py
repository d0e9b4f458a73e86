"""A machine that is about to be taken back: by a file, and by what each cloud's metadata service says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from simpletuner_trainer import report
from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.files import Manifest
from simpletuner_trainer.report import Exit
from simpletuner_trainer.spot import CLOUD_ENV, ENDPOINT_ENV, FILE_ENV, Cloud, watch
from simpletuner_trainer.stop import Stop
from tests.trainer.trainer_kit import Job, of_kind

CALM = {
    "aws": (404, b""),
    "gcp": (200, b"FALSE"),
    "azure": (200, b'{"DocumentIncarnation": 1, "Events": [{"EventType": "Reboot"}]}'),
}
NOTICES = {
    "aws": (200, b'{"action": "terminate", "time": "2026-11-28T18:02:00Z"}'),
    "gcp": (200, b"TRUE"),
    "azure": (200, b'{"DocumentIncarnation": 2, "Events": [{"EventType": "Preempt"}]}'),
}
HEADERS = {
    "aws": ("X-aws-ec2-metadata-token", "t-1"),
    "gcp": ("Metadata-Flavor", "Google"),
    "azure": ("Metadata", "true"),
}


class Metadata(ThreadingHTTPServer):
    """A metadata service that answers everything with `answer`, if the request is made as its cloud wants it."""

    def __init__(self, cloud: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cloud, self.answer = cloud, CALM[cloud]
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        token = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._say(200 if token else 400, b"t-1")

    def do_GET(self) -> None:
        name, value = HEADERS[self.server.cloud]
        self._say(*(self.server.answer if self.headers[name] == value else (401, b"")))

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=CALM)
def metadata(request: pytest.FixtureRequest) -> Iterator[Metadata]:
    with Metadata(request.param) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_each_cloud_says_it_in_its_own_way(metadata: Metadata) -> None:
    cloud = Cloud(name=metadata.cloud, endpoint=metadata.url)
    assert not cloud.noticed()
    for status, body in ((500, b""), (200, b"{") if metadata.cloud != "aws" else (301, b"")):
        metadata.answer = status, body
        assert not cloud.noticed()
    metadata.answer = NOTICES[metadata.cloud]
    assert cloud.noticed()
    assert not Cloud(name=metadata.cloud, endpoint="http://127.0.0.1:1").noticed()

    told = threading.Event()
    watch({CLOUD_ENV: metadata.cloud, ENDPOINT_ENV: metadata.url}, told.set)
    assert told.wait(10)


def test_nothing_is_asked_unless_the_environment_says_so() -> None:
    before = threading.active_count()
    watch({ENDPOINT_ENV: "http://127.0.0.1:1"}, lambda: None)
    assert threading.active_count() == before
    with pytest.raises(BadSpec, match="'moon'"):
        watch({CLOUD_ENV: "moon"}, lambda: None)


def test_the_first_reason_counts() -> None:
    stop = Stop(started_s=0.0, deadline_s=None)
    stop.interrupt(Exit.PREEMPTED)
    stop.interrupt()
    assert stop.reason is Exit.PREEMPTED


def test_a_spot_notice_is_a_checkpoint_and_an_exit_code(
    job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notice = tmp_path / "notice"
    monkeypatch.setenv(FILE_ENV, str(notice))
    made = job(config={"max_train_steps": 100_000, "checkpoint_step_interval": 0})
    assert made.run_until(2, notice.touch) == Exit.PREEMPTED
    said = capsys.readouterr().out
    (end,) = of_kind(said, report.End)
    assert end.exit is Exit.PREEMPTED
    assert Exit.PREEMPTED.resumable
    assert Manifest.verified(made.work / "checkpoints" / f"step-{end.step:08d}").step == end.step
    assert of_kind(said, report.Failure) == []
