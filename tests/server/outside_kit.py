"""A server with a second listener, and a provider elsewhere that has webhooks: runs are asked for once an hour."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.client import Config

from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.grants import Credentials, Grants, ServerKey
from simpletuner_lab.services.home import Home
from simpletuner_lab.testing.storage_server import MemoryGrants
from tests.lab_kit import config, dataloader, dataset, quick_home
from tests.quick_trainer import installed_as_python
from tests.server.server_kit import Server, free_port

CODE = '''
import dataclasses
import os
from pathlib import Path

from simpletuner_lab.core.errors import Forbidden
from simpletuner_lab.providers.local import LocalProvider
from simpletuner_lab.testing import eventually


class Elsewhere(LocalProvider):
    """Looks at a run when it is told to, and otherwise once an hour."""

    id = "elsewhere"
    label = "Elsewhere"
    capabilities = dataclasses.replace(LocalProvider.capabilities, remote=True, poll_s=3600.0)

    def webhook(self, headers, body):
        if headers.get("webhook-signature") != "right":
            raise Forbidden("the signature of the webhook is not right")
        if body == b"slow":
            Path(os.environ["STARTED"]).touch()
            eventually(Path(os.environ["GO_ON"]).exists)
        return body.decode()
'''


def installed_elsewhere(folder: Path, python: str) -> tuple[str, str]:
    """Puts the provider on a path of its own; returns that path, and the provider's settings as JSON."""
    site = folder / "elsewhere"
    info = site / "elsewhere-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[simpletuner_lab.providers]\nelsewhere = elsewhere:Elsewhere\n")
    (site / "elsewhere.py").write_text(CODE)
    return str(site), f'{{"python": "{python}", "grace_s": 5.0}}'


BASE = "/user/ann/"


@dataclass(frozen=True)
class Outside:
    server: Server
    port: int
    home: Home
    images: Path
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def owner(self) -> Credentials:
        return Grants(MemoryGrants(), ServerKey.load_or_create(self.home.server_key), lambda: 0.0).owner()

    def request(self, provider: str) -> SubmitRequest:
        return SubmitRequest(config=config(), dataloader=tuple(dataloader(self.images)), provider=provider)


@contextmanager
def server_with_outside(folder: Path) -> Iterator[Outside]:
    """Runs one until the block ends."""
    home = quick_home(folder)
    site, settings = installed_elsewhere(folder, str(installed_as_python(folder)))
    (home.provider_settings / "elsewhere.json").write_text(settings)
    port = free_port()
    options = (
        f"--SimpleTunerLabApp.public_port={port}",
        f"--SimpleTunerLabApp.public_url=http://127.0.0.1:{port}",
        "--SimpleTunerLabApp.max_job_bytes=5000000",
        "--ServerApp.allow_origin=*",
        "--debug",
    )
    server = Server(folder, home.root, BASE, *options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", site)
        patch.setenv("STARTED", str(folder / "started"))
        patch.setenv("GO_ON", str(folder / "go-on"))
        server.start()
    try:
        yield Outside(server, port, home, dataset(folder / "images"), folder)
    finally:
        server.stop()


def s3(url: str, keys: Credentials, **more: object):
    """boto3, that signs with version 4 and tries once."""
    own = {"aws_access_key_id": keys.access_key, "aws_secret_access_key": keys.secret_key.reveal()}
    config = Config(signature_version="s3v4", retries={"max_attempts": 0})
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=config, **own, **more)
