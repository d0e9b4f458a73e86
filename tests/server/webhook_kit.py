"""A server with a second listener, and a provider elsewhere whose webhooks are signed as Standard Webhooks has it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest

from simpletuner_lab.services.home import Home
from simpletuner_lab.testing.replicate_emulator import signature
from tests.lab_kit import quick_home
from tests.quick_trainer import installed_as_python
from tests.server.server_kit import Server, free_port

BASE = "/user/ann/"
SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cyBvZiB3ZWJob29rcw=="
ALLOWED = ["127.0.0.1", "203.0.113.7", "2001:db8::/32"]
PROXY = "127.0.0.3"
"""All of 127.0.0.0/8 is this machine: a caller takes the address that a test wants."""

CODE = '''
import dataclasses
import json
import os
import threading
import time
from pathlib import Path

import httpx

from simpletuner_lab.core.errors import ProviderUnavailable
from simpletuner_lab.core.provider import CausedWebhook
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers import _standard_webhooks
from simpletuner_lab.providers.local import LocalProvider, LocalSettings
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.replicate_emulator import signature


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings(LocalSettings):
    webhook_allowed_ips: tuple[str, ...] = ()


class Signed(LocalProvider):
    """Looks at a run when it is told to, and otherwise once an hour."""

    id = "signed"
    label = "Signed"
    capabilities = dataclasses.replace(LocalProvider.capabilities, remote=True, poll_s=3600.0)
    Settings = Settings

    def webhook(self, headers, body):
        secret = Secret(os.environ["SIGNED_SECRET"])
        _standard_webhooks.verify(headers, body, [secret], now=time.time())
        told = json.loads(body)
        if told.get("trouble"):
            raise ProviderUnavailable("Invalid token: it is not accepted", hint="make another")
        if told.get("hang"):
            eventually(Path(os.environ["GO_ON"]).exists)
        with Path(os.environ["SEEN"]).open("a") as seen:
            seen.write(json.dumps(told) + chr(10))
        return told["id"]

    def test_webhook(self, url):
        sends = Path(os.environ["SENDS"]).read_text()
        if sends == "nothing":
            return CausedWebhook(said="it costs nothing", ref="run-of-nobody")
        if sends == "trouble":
            raise ProviderUnavailable("it is out of credit", hint="top it up")
        secret = "whsec_b3RoZXI=" if sends == "forged" else os.environ["SIGNED_SECRET"]
        body, at = b'{"id": "a run of nobody"}', int(time.time())
        headers = {"webhook-id": "msg_test", "webhook-timestamp": str(at), "webhook-signature": signature(secret, "msg_test", at, body)}
        transport = httpx.HTTPTransport(local_address="127.0.0.2" if sends == "from elsewhere" else "127.0.0.1")
        call = lambda: httpx.Client(transport=transport).post(url, content=body, headers=headers)
        threading.Thread(target=call, daemon=True).start()
        return CausedWebhook(said="it costs nothing", ref="run-of-nobody")
'''


@dataclass(frozen=True)
class Hooked:
    """The server, and where its webhooks are taken."""

    server: Server
    port: int
    home: Home
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def route(self) -> str:
        return f"{self.url}/api/webhooks/signed"

    @property
    def route_in_jupyter(self) -> str:
        return f"{self.server.url}api/webhooks/signed"

    def seen(self) -> list[Any]:
        """Bodies that the provider verified."""
        path = self.folder / "seen"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def test(self, **body: object) -> httpx.Response:
        """What the route for people answers."""
        with self.server.http() as http:
            return http.post("/providers/signed/test-webhook", json=body)

    def provider_sends(self, what: str) -> None:
        """`signed`, `forged`, `from elsewhere`, `nothing` or `trouble`, when it is made to send a webhook."""
        (self.folder / "sends").write_text(what)


def headers_for(
    body: bytes, message_id: str = "msg_a", *, at: int | None = None, secret: str = SECRET
) -> dict[str, str]:
    at = int(time.time()) if at is None else at
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": signature(secret, message_id, at, body),
    }


def post(
    url: str,
    told: object,
    message_id: str = "msg_a",
    *,
    headers: Mapping[str, str] = MappingProxyType({}),
    source: str = "127.0.0.1",
) -> httpx.Response:
    """A webhook as it should be, with more headers, from one of this machine's addresses."""
    body = json.dumps(told).encode()
    with httpx.Client(transport=httpx.HTTPTransport(local_address=source), timeout=20) as client:
        return client.post(url, content=body, headers=headers_for(body, message_id) | headers)


@contextmanager
def hooked_server(folder: Path, code: str = CODE) -> Iterator[Hooked]:
    """Runs one until the block ends. Jupyter believes headers there, which must change nothing.

    `code` is the module of the provider, whose class is `Signed`.
    """
    home = quick_home(folder)
    site = folder / "signed"
    info = site / "signed_provider-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: signed_provider\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[simpletuner_lab.providers]\nsigned = signed_provider:Signed\n")
    (site / "signed_provider.py").write_text(code)
    given = {"python": str(installed_as_python(folder)), "grace_s": 5.0, "webhook_allowed_ips": ALLOWED}
    (home.provider_settings / "signed.json").write_text(json.dumps(given))
    port = free_port()
    options = (
        f"--SimpleTunerLabApp.public_port={port}",
        f"--SimpleTunerLabApp.public_url=http://127.0.0.1:{port}",
        f"--SimpleTunerLabApp.trusted_proxies={PROXY}",
        "--ServerApp.trust_xheaders=True",
    )
    server = Server(folder, home.root, BASE, *options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("SIGNED_SECRET", SECRET)
        patch.setenv("SEEN", str(folder / "seen"))
        patch.setenv("GO_ON", str(folder / "go-on"))
        patch.setenv("SENDS", str(folder / "sends"))
        server.start()
    try:
        yield Hooked(server, port, home, folder)
    finally:
        server.stop()
